package query

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/report"
)

// changedReport is smallReport with members replaced, or added; "" takes one away. The
// names of those of filters begin with a dot.
func changedReport(t testing.TB, members ...string) string {
	t.Helper()
	var top, filters map[string]json.RawMessage
	if err := json.Unmarshal([]byte(smallReport), &top); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(top["filters"], &filters); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(members); i += 2 {
		of, name := top, members[i]
		if inner, ok := strings.CutPrefix(name, "."); ok {
			of, name = filters, inner
		}
		if of[name] = json.RawMessage(members[i+1]); members[i+1] == "" {
			delete(of, name)
		}
	}
	if _, whole := top["filters"]; whole && !slices.Contains(members, "filters") {
		raw, err := json.Marshal(filters)
		if err != nil {
			t.Fatal(err)
		}
		top["filters"] = raw
	}
	body, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// fieldsOfReport is filters.fields with All modules and one more key.
func fieldsOfReport(more string) string {
	return `[{"key":"moduleCode","value":"All"},` + more + `]`
}

// TestBadReportRequests is every rule of a request, with what is told of it.
func TestBadReportRequests(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, audit.Event{ID: "0190a0a5-b21e-7f43-9dfe-578a88ae01c9", CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000001, ModuleCode: "OLD"},
		audit.Event{ID: "0190a0a5-b21e-7f43-9dfe-578a88ae01c8", CustomerUUID: "another", CreatedDate: 1750000000001, ModuleCode: "SECRET"})
	b := newReportBench(t, db.cfg, nil)
	const known = "Id, App Id, Application Name, Module Code, Module Name, User Name, User Role, User Uuid, Customer Uuid, Client, Source Ip, Created Date, " +
		"Target Type, Target Name, Action, Status, Details, External Change Link, Endpoint Type, Business Unit, Origin, Request Id"
	const modules = "ADMIN, AUDIT, OLD, PC, PM, VM, VMDR"
	for _, c := range []struct {
		name, body string
		want       string // field: message (limit); of each violation a line
	}{
		{"nothing", `{}`, "reportName: is missing\nreportSummary: is missing\nreportColumns: is missing\nfilters: is missing"},
		{"empty texts", changedReport(t, "reportName", `""`, "reportSummary", `null`), "reportName: must not be empty\nreportSummary: must not be empty"},
		{"everything at once", `{"userName":5,"reportName":"a/b","reportSummary":"` + strings.Repeat("x", 2001) + `","reportColumns":["Id","id","Colour",7],"filters":{"fields":[{"key":"colour","operator":"OR"}]},"format":"xls","compression":"zip","timezone":"Mars","qql":"a b:","extra":1}`,
			"extra: is not known; known are customerUuid, userUuid, userName, reportName, reportSummary, reportColumns, filters, format, compression, timezone, qql, where\n" +
				"userName: must be a string or a list of strings\n" +
				`reportName: has the character '/': a file is called so, which has no /, no \ and no control characters (no /, \ or control characters)` + "\n" +
				"reportSummary: is 2001 characters long; the limit is 2000 (2000 characters)\n" +
				"reportColumns[3]: must be a string\n" +
				"format: must be one of csv, jsonl, parquet (csv, jsonl, parquet)\n" +
				"compression: must be one of none, gzip, zstd (none, gzip, zstd)\n" +
				"timezone: must be a time zone such as Europe/Berlin or UTC (a name of the IANA time zone database)\n" +
				"filters.fields[0].key: must be one of moduleCode, userName, userRole, targetType, action (moduleCode, userName, userRole, targetType, action)\n" +
				"filters.fields[0].value: is missing\n" +
				"filters.fields[0].operator: must be AND, or absent: keys combine with it, and the values of one key are alternatives (AND)\n" +
				`filters.fields: has no key moduleCode: name 1 to 5 modules, or "All"` + "\n" +
				`filters.startDate: is missing, and so is endDate: give one or both; "startDate": 0 asks for all that is kept` + "\n" +
				"qql: ..."},
		{"range reversed", changedReport(t, ".startDate", "1750000000001", ".endDate", `"1750000000000"`), "filters.startDate: must not be after endDate (at most endDate, 1750000000000)"},
		{"dates in seconds", changedReport(t, ".startDate", "1736942490", ".endDate", `"1744718490"`),
			"filters.startDate: looks like seconds; in milliseconds it is 1736942490000 (milliseconds since 1970-01-01 UTC)\n" +
				"filters.endDate: looks like seconds; in milliseconds it is 1744718490000 (milliseconds since 1970-01-01 UTC)"},
		{"dates in microseconds", changedReport(t, ".startDate", "1736942490000000", ".endDate", `"1744718490000000"`),
			"filters.startDate: looks like microseconds; in milliseconds it is 1736942490000 (milliseconds since 1970-01-01 UTC)\n" +
				"filters.endDate: looks like microseconds; in milliseconds it is 1744718490000 (milliseconds since 1970-01-01 UTC)"},
		{"dates that are none", changedReport(t, ".startDate", `"2025-01-15"`, ".endDate", "true"), "filters.startDate: must be a whole number\nfilters.endDate: must be a whole number"},
		{"no dates", changedReport(t, ".startDate", `""`, ".endDate", "null"), `filters.startDate: is missing, and so is endDate: give one or both; "startDate": 0 asks for all that is kept`},
		{"unknown and repeated columns", changedReport(t, "reportColumns", `["Colour","Details","Changes","details","User Name","userName"]`),
			"reportColumns[0]: is no column; there are " + known + " (" + known + ")\n" +
				"reportColumns[2]: is no column; there are " + known + " (" + known + ")\n" +
				"reportColumns[3]: is given more than once\n" +
				"reportColumns[5]: is given more than once"},
		{"no columns", changedReport(t, "reportColumns", `[]`), "reportColumns: must not be an empty list"},
		{"columns in a string", changedReport(t, "reportColumns", `"Id"`), "reportColumns: must be a list"},
		{"many columns", changedReport(t, "reportColumns", `["Id"`+strings.Repeat(`,"Id"`, 44)+`]`), "reportColumns: has 45 entries; the limit is 44 (44)"},
		{"unknown modules", changedReport(t, ".fields", `[{"key":"moduleCode","value":["VM","vmx","PC","<b>","old"]}]`),
			"filters.fields[0].value: is no module; there are " + modules + ", and All (" + modules + ")\n" +
				"filters.fields[0].value: is no module; there are " + modules + ", and All (" + modules + ")"},
		{"unknown modules beside other errors", changedReport(t, "reportName", "", ".fields", `[{"key":"moduleCode","value":"X"}]`),
			"reportName: is missing\nfilters.fields[0].value: is no module; there are " + modules + ", and All (" + modules + ")"},
		{"All and others", changedReport(t, ".fields", `[{"key":"moduleCode","value":["all","VM"]}]`), "filters.fields[0].value: has All, which is every module, and others beside it: leave one or the others out"},
		{"no module", changedReport(t, ".fields", `[{"key":"action","value":"Login"}]`), `filters.fields: has no key moduleCode: name 1 to 5 modules, or "All"`},
		{"no fields", changedReport(t, ".fields", ""), `filters.fields: has no key moduleCode: name 1 to 5 modules, or "All"`},
		{"six values", changedReport(t, ".fields", fieldsOfReport(`{"key":"action","value":["a","b","A","c","d","e","f"]}`)), "filters.fields[1].value: has 6 different values; the limit is 5 (5)"},
		{"a hundred and one", changedReport(t, ".fields", fieldsOfReport(`{"key":"action","value":["a"`+strings.Repeat(`,"a"`, 100)+`]}`)), "filters.fields[1].value: has 101 entries; the limit is 100 (100)"},
		{"no values", changedReport(t, ".fields", fieldsOfReport(`{"key":"action","value":[]},{"key":"userRole","value":""},{"key":"userName","value":[" "]},{"key":"targetType","value":{"a":1}}`)),
			"filters.fields[1].value: must not be an empty list\n" +
				"filters.fields[2].value: must not be empty\n" +
				"filters.fields[3].value: userName in: a value is empty\n" +
				"filters.fields[4].value: must be a string, a number or a list of them"},
		{"a key twice", changedReport(t, ".fields", fieldsOfReport(`{"key":"Action","value":"a"},{"key":"ACTION","value":"b"}`)), "filters.fields[2].key: is given more than once: put all of its values into one list"},
		{"operators", changedReport(t, ".fields", fieldsOfReport(`{"key":"action","value":"a","operator":"or"},{"key":"userName","value":"b","operator":["AND"]}`)),
			"filters.fields[1].operator: must be AND, or absent: keys combine with it, and the values of one key are alternatives (AND)\n" +
				"filters.fields[2].operator: must be a string"},
		{"fields of other kinds", changedReport(t, ".fields", fieldsOfReport(`7,{"key":"action","value":"a","values":"b"}`)),
			"filters.fields[1]: must be an object with the members key, value, operator\n" +
				"filters.fields[2].values: is not known; did you mean value"},
		{"filters that are none", changedReport(t, "filters", `["moduleCode"]`), "filters: must be an object with the members fields, startDate, endDate"},
		{"a name with path characters", changedReport(t, "reportName", `"..\\..\\etc"`), `reportName: has the character '\\': a file is called so, which has no /, no \ and no control characters (no /, \ or control characters)`},
		{"a name with a control character", changedReport(t, "reportName", `"a\u0000b"`), `reportName: has the character '\x00': a file is called so, which has no /, no \ and no control characters (no /, \ or control characters)`},
		{"a name that turns around", changedReport(t, "reportName", `"a\u202Evsc"`), `reportName: has the character '\u202e': a file is called so, which has no /, no \ and no control characters (no /, \ or control characters)`},
		{"dots", changedReport(t, "reportName", `".."`), "reportName: must be a name: a file is called so"},
		{"spaces", changedReport(t, "reportName", `"  "`), "reportName: must be a name: a file is called so"},
		{"10,000 characters", changedReport(t, "reportName", `"`+strings.Repeat("ä", 10_000)+`"`), "reportName: is 10000 characters long; the limit is 255 (255 characters)"},
		{"a name too long for a file", changedReport(t, "reportName", `"`+strings.Repeat("ä", 124)+`x"`, "compression", `"gzip"`),
			"reportName: is 256 bytes long in UTF-8, with .csv.gz behind it; a name of a file has at most 255: shorten it by 1 bytes (255 bytes with .csv.gz)"},
		{"a list of users that is none", changedReport(t, "userName", `["a",5]`), "userName[1]: must be a string"},
		{"Parquet in gzip", changedReport(t, "format", `"parquet"`, "compression", `"gzip"`), "compression: does not go with format parquet, which compresses its columns itself (none)"},
		{"a time zone of instants", changedReport(t, "format", `"jsonl"`, "timezone", `"UTC"`), "timezone: goes with format csv only: the others have instants"},
		{"a query and a filter that do not hold", changedReport(t, "qql", `"acton: login"`, "where", `[{"field":"action","operator":"above","value":1}]`),
			"qql: ...\nwhere[0].operator: ..."},
	} {
		w := b.do(t, &manager, http.MethodPost, reportPath, c.body)
		var doc problem.Document
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			continue
		}
		var got []string
		for i, v := range doc.Errors {
			line := v.Field + ": " + v.Message
			if v.Limit != "" {
				line += " (" + v.Limit + ")"
			}
			if lines := strings.Split(c.want, "\n"); i < len(lines) && strings.HasSuffix(lines[i], ": ...") && v.Message != "" { // qql's own tests have the words
				line = v.Field + ": ..."
			}
			got = append(got, line)
		}
		if d := cmp.Diff(strings.Join(got, "\n"), c.want); d != "" {
			t.Errorf("%s (-got +want)\n%s", c.name, d)
		}
	}
	for body, status := range map[string]int{
		`[]`: 400, `{`: 400, `{"filters":`: 400, ``: 400, `"` + strings.Repeat("x", maxBody) + `"`: 413,
		changedReport(t, "customerUuid", `"other"`): 403, changedReport(t, "userUuid", `"other"`): 403,
	} {
		if w := b.do(t, &manager, http.MethodPost, reportPath, body); w.Code != status {
			t.Errorf("%.40s: %d, want %d: %s", body, w.Code, status, w.Body)
		}
	}
	if w := b.do(t, &manager, http.MethodPost, reportPath+"?format=csv", smallReport); w.Code != 400 || !strings.Contains(w.Body.String(), "format: is not known") {
		t.Errorf("a parameter: %d %s", w.Code, w.Body)
	}
	if n := len(b.reports.table.Jobs()); n != 0 {
		t.Errorf("%d reports were made", n)
	}
	b.audited(t, 0)
	b.submit(t, manager, changedReport(t, ".fields", `[{"key":"moduleCode","value":["vm","OLD"]}]`)) // without a topic, but with events
}

// TestGoodReportRequests: forms that mean the same, or something.
func TestGoodReportRequests(t *testing.T) {
	b := newReportBench(t, away(t), func(c *Config) { c.ReportQueued = 100 })
	for _, c := range []struct {
		body, query string
		check       func(j *submittedJob) bool
	}{
		{smallReport, "", nil},
		{changedReport(t, ".fields", `[{"key":"MODULECODE","value":["All","all","ALL"],"operator":"and"}]`), "", nil},
		{changedReport(t, ".fields", `[{"key":"modulecode","value":"vm","operator":""}]`), "moduleCode: [vm]", nil},
		{changedReport(t, ".fields", `[{"key":"moduleCode","value":["VM","vm","VM","PC","pc"]}]`), "moduleCode: [VM, PC]", nil},
		{changedReport(t, ".fields", fieldsOfReport(`{"key":"userName","value":["It's, me","[x]","a*"]}`)), "userName: [\"It's, me\", \"[x]\", \"a*\"]", nil},
		{changedReport(t, ".fields", fieldsOfReport(`{"key":"action","value":["Login","Update"]}`), "qql", `"status: success OR status: failure"`, "where", `[{"field":"userRole","operator":"is","value":"Reader"}]`),
			"action: [Login, Update] AND (status: success OR status: failure) AND userRole: [Reader]", nil},
		{changedReport(t, ".startDate", `"1736942490000"`), "", func(j *submittedJob) bool { return *j.Start == 1736942490000 && j.End == nil && j.Clipped() }},
		{changedReport(t, ".startDate", "", ".endDate", "1e12"), "", func(j *submittedJob) bool { return j.Start == nil && *j.End == 1e12 && !j.Clipped() }},
		{changedReport(t, ".startDate", "1750000000000", ".endDate", "1750000000000"), "", func(j *submittedJob) bool { return *j.Start == *j.End }},
		{changedReport(t, "userName", `"someone else"`, "customerUuid", `"tenant-one"`, "userUuid", `"u1"`), "", nil},
		{changedReport(t, "reportColumns", `["DETAILS","id","createdDate"]`), "", func(j *submittedJob) bool {
			return strings.Join(j.Columns, " ") == "auditComment id createdDate"
		}},
		{changedReport(t, "format", `"parquet"`), "", func(j *submittedJob) bool { return j.Suffix() == ".parquet" }},
		{changedReport(t, "format", `"jsonl"`, "compression", `"zstd"`), "", func(j *submittedJob) bool { return j.Suffix() == ".jsonl.zst" }},
		{changedReport(t, "compression", `"gzip"`, "timezone", `"Europe/Berlin"`), "", func(j *submittedJob) bool {
			return j.Suffix() == ".csv.gz" && j.Timezone == "Europe/Berlin"
		}},
		{changedReport(t, "reportName", `"`+strings.Repeat("ä", 124)+`x`+`"`, "format", `"jsonl"`), "", nil},
		{changedReport(t, "userName", `["someone else","another"]`), "", nil},
	} {
		a := b.submit(t, manager, c.body)
		j := submittedJob{b.reports.table.Job(a.ReportID).Spec}
		if j.Query != c.query || c.check != nil && !c.check(&j) {
			t.Errorf("%s\nbecame %+v\nwant query %s", c.body, *j.Spec, c.query)
		}
		if x, err := qql.Reparse(field.Events, j.Query); err != nil || x != nil && x.String() != j.Query {
			t.Errorf("%s is not read again: %v", j.Query, err)
		}
		if string(j.Request) == "" || !json.Valid(j.Request) {
			t.Errorf("the request is kept as %s", j.Request)
		}
	}
}

// TestModulesOfAClickHouseThatIsSilent: a caller who waits is answered.
func TestModulesOfAClickHouseThatIsSilent(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	silent := away(t)
	silent.Addr = []string{ln.Addr().String()} // it takes connections, and says nothing
	b := newReportBench(t, silent, nil)
	body := changedReport(t, ".fields", `[{"key":"moduleCode","value":["VM","NEWONE"]}]`)
	w := b.do(t, &manager, http.MethodPost, reportPath, body)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" { // in words that depend on which deadline comes first
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if n := len(b.reports.table.Jobs()); n != 0 {
		t.Errorf("%d reports were made", n)
	}
}

func FuzzReportRequest(f *testing.F) {
	f.Add([]byte(seedReport))
	f.Add([]byte(smallReport))
	f.Add([]byte(`{"filters":{"fields":[{"key":"moduleCode","value":["\ud800"]}],"startDate":"1e999"}}`))
	f.Add([]byte(`{"filters":{"fields":[{"key":{},"value":[[]]}],"startDate":[]},"reportColumns":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, form, err := parseReport(body)
		if err != nil || form.err() != nil {
			return
		}
		if n := len(req.columns); n == 0 || n > len(reportColumns) || req.name == "" || req.summary == "" || len(req.modules) > maxReportValues {
			t.Errorf("%+v", req)
		}
		if strings.ContainsAny(req.name, "/\\\x00\n\r") {
			t.Errorf("name %q", req.name)
		}
		if req.filter.Start == nil && req.filter.End == nil {
			t.Error("no dates")
		}
		if req.filter.Where != nil {
			if _, err := qql.Reparse(field.Events, req.filter.Where.String()); err != nil {
				t.Errorf("%s is not read again: %v", req.filter.Where, err)
			}
		}
		// Kept, it asks for the same again.
		raw, err := kept(body)
		if err != nil {
			t.Fatal(err)
		}
		again, form, err := parseReport(raw)
		if err != nil || form.err() != nil || fmt.Sprintf("%+v", describeRequest(again)) != fmt.Sprintf("%+v", describeRequest(req)) {
			t.Errorf("%s\nbecame %s: %v", body, raw, err)
		}
	})
}

// submittedJob is what was asked for.
type submittedJob struct{ *report.Spec }

// describeRequest is a request in words.
func describeRequest(req reportRequest) []string {
	return []string{req.name, req.summary, fmt.Sprint(req.columns, req.modules, req.format, req.compression, req.zone), req.describe("")}
}
