package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/settings"
)

// everywhere are the endpoints that ask for events, each with what it demands
// beyond that.
var everywhere = map[string]string{
	searchPath: ``, searchPath + "/facets": `"fields":["action"],`, searchPath + "/histogram": ``,
}

// TestBadInputIsNamed holds that each broken rule is a 400 that names the
// member, the limit and what to do, at every endpoint: before anybody is asked,
// since the store is away.
func TestBadInputIsNamed(t *testing.T) {
	b := newBench(t, away(t), nil)
	filter := `{"field":"action","operator":"is","value":"Add"}`
	for path, demanded := range everywhere {
		for body, want := range map[string][]string{
			`"qql":"` + strings.Repeat("é", 501) + `"`: {"qql", "501 characters", "limit is 500"},
			`"qql":"action: \"open"`:                   {"qql", "never closed"},
			`"qql":"(action: x"`:                       {"qql", ")"},
			`"qql":"acton: x"`:                         {"qql", "action"},
			`"qql":"аction: x"`:                        {"qql", "action"}, // a Cyrillic а
			`"qql":"auditEnabledAppId: many"`:          {"qql", "number"},
			`"qql":"sourceIp: 10.0.0.0/99"`:            {"qql", "10.0.0.0/"},
			`"qql":"createdDate: [now .. now-1d"`:      {"qql", "]"},
			`"qql":"createdDate > 1650444199"`:         {"qql", "1650444199000"},
			`"qql":"auditEnabledAppId: [5 .. 1]"`:      {"qql", "swap its ends"},
			`"qql":"` + strings.Repeat("(", 240) + `a` + strings.Repeat(")", 240) + `"`: {"qql", "deep"},
			`"startDate":1650444199`:                                                  {"startDate", "1650444199000"},
			`"startDate":1750000000001,"endDate":1750000000000`:                       {"startDate", "after endDate"},
			`"where":[` + strings.Repeat(filter+",", 20) + filter + `]`:               {"where", "21", "limit is 20"},
			`"where":[` + filter + `,{"field":"actoin","operator":"is","value":"x"}]`: {"where[1].field", "action"},
			`"where":[{"field":"action","operator":"before","value":"x"}]`:            {"where[0].operator", "starts with"},
			`"where":[{"field":"auditEnabledAppId","operator":"is","value":"x"}]`:     {"where[0].value", "number"},
			`"where":[{"field":"createdDate","operator":"between","value":[1]}]`:      {"where[0].value", "two"},
			`"QQL":"x"`: {"QQL", "did you mean qql"},
			`"limit":5`: {"limit", "known are"},
			`"customerUuid":"` + strings.Repeat("x", 65) + `"`: {"customerUuid", "64 bytes"},
		} {
			w := b.do(t, &manager, "POST", path, "{"+demanded+body+"}")
			b.checkViolation(t, path, body, w.Code, w.Body.Bytes(), want)
		}
	}
	for path, bodies := range map[string]map[string][]string{
		searchPath: {
			`"pageNumber":101`:           {"pageNumber", "0 to 100", "searchAfter"},
			`"pageNumber":-1`:            {"pageNumber", "0 to 100"},
			`"pageSize":201`:             {"pageSize", "1 to 200"},
			`"sort":"userName"`:          {"sort", "object"},
			`"sort":{}`:                  {"sort.field", "missing"},
			`"sort":{"field":"changes"}`: {"sort.field", "userName"},
			`"sort":{"field":"user_name; DROP TABLE x"}`: {"sort.field", "one of"},
			`"sort":{"field":"action","order":"up"}`:     {"sort.order", "asc or desc"},
			`"sort":{"field":"action","by":"up"}`:        {"sort.by", "known are"},
			`"view":"everything"`:                        {"view", "activity-log"},
			`"fields":["action"]`:                        {"fields", "known are"},
		},
		searchPath + "/facets": {
			``:                               {"fields", "1 to 10"},
			`"fields":[]`:                    {"fields", "1 to 10"},
			`"fields":"action"`:              {"fields", "list"},
			`"fields":["auditComment"]`:      {"fields[0]", "targetName"},
			`"fields":[7]`:                   {"fields[0]", "string"},
			`"fields":["action","ACTION"]`:   {"fields[1]", "more than once"},
			`"fields":["action"],"size":101`: {"size", "1 to 100"},
			`"fields":[` + strings.Repeat(`"action",`, 10) + `"action"]`: {"fields", "11", "limit is 10"},
		},
		searchPath + "/histogram": {
			`"interval":"2h"`:                           {"interval", "1m, 5m"},
			`"timezone":"Mars/Olympus"`:                 {"timezone", "Europe/Berlin"},
			`"timezone":"../../etc/passwd"`:             {"timezone", "Europe/Berlin"},
			`"timezone":"Local"`:                        {"timezone", "Europe/Berlin"},
			`"timezone":"localtime"`:                    {"timezone", "Europe/Berlin"},
			`"interval":"1m","startDate":1750000000000`: {"interval", "1000 buckets", "longer interval"},
		},
	} {
		for body, want := range bodies {
			w := b.do(t, &manager, "POST", path, "{"+body+"}")
			b.checkViolation(t, path, body, w.Code, w.Body.Bytes(), want)
		}
	}
}

// checkViolation holds that the first violation names a field, and that its
// words and limits say the rest.
func (b *bench) checkViolation(t *testing.T, path, body string, status int, answer []byte, want []string) {
	t.Helper()
	var doc problem.Document
	if err := json.Unmarshal(answer, &doc); err != nil {
		t.Fatal(err, string(answer))
	}
	if status != 400 || len(doc.Errors) != 1 || doc.Errors[0].Field != want[0] {
		t.Errorf("%s %.60s: %d %s, want %q", path, body, status, answer, want)
		return
	}
	for _, says := range want[1:] {
		if v := doc.Errors[0]; !strings.Contains(v.Message+" "+v.Limit+" "+v.Example, says) {
			t.Errorf("%s %.60s: %q, %q does not say %q", path, body, v.Message, v.Limit, says)
		}
	}
	if strings.HasPrefix(body, `"qql"`) && want[0] == "qql" && !strings.Contains(body, "éé") && (doc.Errors[0].Line != 1 || doc.Errors[0].Column < 1) {
		t.Errorf("%s %.60s: at %d:%d", path, body, doc.Errors[0].Line, doc.Errors[0].Column)
	}
}

// TestSQLInEveryField asks for SQL wherever a value may stand: nothing breaks,
// and nothing is found that a plain comparison would not find.
func TestSQLInEveryField(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	attacks := []string{`' OR 1=1 --`, `'; DROP TABLE audit_events; --`, `{see_customer:String}`, `\' OR ''='`, "`) OR 1=1 --", `" OR "1"="1`, `%' OR '%'='`, "\x00'\n"}
	for i, attack := range attacks {
		db.insert(t, t, audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000000 + int64(i), UserName: attack, Action: attack, UserUUID: attack},
			audit.Event{ID: uuid.NewString(), CustomerUUID: "tenant-two", CreatedDate: 1750000000000, UserName: attack})
	}
	for _, attack := range attacks {
		for _, name := range []string{"userName", "action", "userUuid", "businessUnit"} {
			body := map[string]any{"startDate": 0, "where": []any{map[string]any{"field": name, "operator": "is", "value": attack}}}
			want := int64(1)
			if name == "businessUnit" {
				want = 0
			}
			if a := b.searchAs(t, t, manager, with(body)); a.TotalCount != want {
				t.Errorf("%s is %q: %d events, want %d", name, attack, a.TotalCount, want)
			}
		}
		for path, demanded := range everywhere {
			body := map[string]any{"startDate": 1750000000000, "endDate": 1750000000009, "qql": "userName = `" + strings.NewReplacer("`", "\\`", `\`, `\\`).Replace(attack) + "`"}
			text := "{" + demanded + with(body)[1:]
			if w := b.do(t, &manager, "POST", path, text); w.Code != 200 || !strings.Contains(w.Body.String(), `"totalCount":1,`) {
				t.Errorf("%s %s: %d %s", path, text, w.Code, w.Body)
			}
		}
		for _, name := range []string{"userUuid", "customerUuid", "searchAfter", "view", "qql"} {
			if w := b.do(t, &manager, "POST", searchPath, with(map[string]any{name: attack})); w.Code >= 500 {
				t.Errorf("%s %q: %d %s", name, attack, w.Code, w.Body)
			}
		}
	}
	if a := b.searchAs(t, t, manager, `{"startDate":0}`); a.TotalCount != int64(len(attacks)) {
		t.Errorf("%d events are left of %d", a.TotalCount, len(attacks))
	}
}

func TestEventsByID(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	mine, foreign := uuid.NewString(), uuid.NewString()
	db.insert(t, t,
		audit.Event{ID: mine, CustomerUUID: manager.CustomerUUID, UserUUID: "u2", CreatedDate: 1750000000000, Changes: []byte(`[{"field":"role","before":null,"after":{"a":[1]}}]`)},
		audit.Event{ID: foreign, CustomerUUID: "tenant-two", CreatedDate: 1750000000000})
	get := func(id identity.Identity, event string) (int, string) {
		w := b.do(t, &id, "GET", "/audit-log/admin/events/"+event, "", "X-Request-Id", "r")
		return w.Code, w.Body.String()
	}
	var record struct {
		ID      string
		Changes []struct {
			Field         string
			Before, After any
		}
	}
	status, body := get(manager, strings.ToUpper(mine))
	if err := json.Unmarshal([]byte(body), &record); err != nil || status != 200 || record.ID != mine || len(record.Changes) != 1 || fmt.Sprint(record.Changes[0].After) != "map[a:[1]]" {
		t.Errorf("%d %s %v", status, body, err)
	}
	reader := manager
	reader.Role = identity.RoleReader
	_, nowhere := get(manager, uuid.NewString())
	for _, c := range []struct {
		id    identity.Identity
		event string
	}{{manager, foreign}, {reader, mine}} {
		if status, body := get(c.id, c.event); status != 404 || body != nowhere {
			t.Errorf("%s: %d %s, want %s", c.event, status, body, nowhere)
		}
	}
	for _, bad := range []string{"x", "{" + mine + "}", "urn:uuid:" + mine, strings.ReplaceAll(mine, "-", ""), mine + "0", "%27%20OR%201=1"} {
		if status, body := get(manager, bad); status != 400 || !strings.Contains(body, `"field":"id"`) {
			t.Errorf("%s: %d %s", bad, status, body)
		}
	}
}

func TestFieldsOfferWhatTheCallerMaySee(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now()
	for i, e := range []audit.Event{
		{UserUUID: "u1", Action: "Add"}, {UserUUID: "u2", Action: "Add"}, {UserUUID: "u2", Action: "Delete"}, {CustomerUUID: "tenant-two", UserUUID: "u1", Action: "Theirs"},
		{UserUUID: "u1", Action: "Old", CreatedDate: now.AddDate(0, 0, -31).UnixMilli()},
	} {
		e.ID = uuid.NewString()
		if e.CustomerUUID == "" {
			e.CustomerUUID = manager.CustomerUUID
		}
		if e.CreatedDate == 0 {
			e.CreatedDate = now.Add(-time.Duration(i) * time.Second).UnixMilli()
		}
		db.insert(t, t, e)
	}
	reader := manager
	reader.Role = identity.RoleReader
	values := func(id identity.Identity, parameters string) string {
		var got facetsAnswer
		b.ask(t, t, id, "GET", searchPath+"/fields"+parameters, "", &got)
		if len(got.Fields) != len(field.Events.Fields) {
			t.Fatalf("%d fields", len(got.Fields))
		}
		for _, f := range got.Fields {
			if f.Name == "action" {
				return fmt.Sprint(f.Values)
			}
		}
		return ""
	}
	for _, c := range []struct {
		id               identity.Identity
		parameters, want string
	}{
		{manager, "", "[map[count:2 value:Add] map[count:1 value:Delete]]"},
		{manager, "?values=1", "[map[count:2 value:Add]]"},
		{manager, "?values=0", "[]"},
		{reader, "?values=100", "[map[count:1 value:Add]]"},
	} {
		if got := values(c.id, c.parameters); got != c.want {
			t.Errorf("%s%s: %s, want %s", c.id.Role, c.parameters, got, c.want)
		}
	}
	for _, bad := range []string{"?values=101", "?values=-1", "?values=x", "?value=1", "?values=1&values=2"} {
		if w := b.do(t, &manager, "GET", searchPath+"/fields"+bad, ""); w.Code != 400 {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
}

// TestValidateAsksNobody validates while the store is away.
func TestValidateAsksNobody(t *testing.T) {
	b := newBench(t, away(t), nil)
	validate := func(body string) (v verdict, status int) {
		w := b.do(t, &manager, "POST", searchPath+"/validate", body)
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatal(err, w.Body)
		}
		return v, w.Code
	}
	for body, want := range map[string]string{
		``:                                      "",
		`{"qql":" "}`:                           "",
		`{"qql":"ACTION:Add and userName = x"}`: "action: add AND userName: `x` [userName action]",
		`{"qql":"action: a OR action: b","where":[{"field":"status","operator":"is","value":"x"}]}`: "(action: a OR action: b) AND status: [x] [action status]",
		`{"where":[{"field":"status","operator":"is not","value":"x"}]}`:                            "NOT status: [x] [status]",
	} {
		v, status := validate(body)
		got := ""
		if v.Canonical != nil {
			got = *v.Canonical
		}
		if len(v.Fields) > 0 {
			got += " " + fmt.Sprint(v.Fields)
		}
		if status != 200 || !v.Valid || v.Errors != nil || got != want {
			t.Errorf("%s: %d %+v %q, want %q", body, status, v, got, want)
		}
	}
	v, status := validate(`{"qql":"status: x AND\n acton: b","where":[{"field":"status","operator":"like","value":"x"}]}`)
	if status != 200 || v.Valid || v.Canonical != nil || len(v.Errors) != 2 || v.Errors[0].Line != 2 || v.Errors[0].Column != 2 || v.Errors[1].Field != "where[0].operator" {
		t.Errorf("%d %+v", status, v)
	}
	if _, status := validate(`{"qql":5}`); status != 200 {
		t.Errorf("a qql of another type: %d", status)
	}
	for _, bad := range []string{`{`, `[]`, `{"pageSize":1}`} {
		if w := b.do(t, &manager, "POST", searchPath+"/validate", bad); w.Code != 400 {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
}

func TestTheActivityLogViewHasItsColumnsAlone(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	db.insert(t, t, audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000000, UserName: "jack", AuditComment: "x"})
	w := b.do(t, &manager, "POST", searchPath, `{"startDate":0,"view":"activity-log"}`)
	if want := `{"auditRecords":[{"userName":"jack","createdDate":1750000000000,"action":"","endpointType":""}],`; !strings.HasPrefix(w.Body.String(), want) {
		t.Errorf("got %s", w.Body)
	}
}

func TestSearchesAreAuditedWhereChosen(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	e := audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000000, Action: "Add", AuditComment: "secret"}
	db.insert(t, t, e)
	all := func() {
		for path, demanded := range everywhere {
			b.ask(t, t, manager, "POST", path, `{`+demanded+`"startDate":1750000000000,"endDate":1750000000000,"qql":"action: add"}`, &struct{}{})
		}
		b.ask(t, t, manager, "GET", "/audit-log/admin/events/"+e.ID, "", &struct{}{})
	}
	all()
	if _, err := b.settings.table.Change(t.Context(), manager.CustomerUUID, func(s *settings.Settings) error {
		s.AuditSearches = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	all()
	// Whoever tries ids is recorded, too.
	missing := uuid.NewString()
	if w := b.do(t, &manager, "GET", "/audit-log/admin/events/"+missing, ""); w.Code != 404 {
		t.Errorf("status %d", w.Code)
	}
	got := map[string]bool{}
	for _, e := range b.audited(t, 5) {
		got[e.AuditComment] = true
		if e.UserUUID != manager.UserUUID || e.CustomerUUID != manager.CustomerUUID || e.Action != "Search" {
			t.Errorf("got %+v", e)
		}
	}
	of := " for action: add, from 2025-06-15T15:06:40Z to 2025-06-15T15:06:40Z: 1 events"
	if d := cmp.Diff(got, map[string]bool{"search" + of: true, "facets" + of: true, "histogram" + of: true, "event " + e.ID + ": 1 events": true, "event " + missing + ": 0 events": true}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

// TestTooManyRowsAreRefused holds that the limit is on what must be read: not on
// the newest page, nor where an index leaves little.
func TestTooManyRowsAreRefused(t *testing.T) {
	db := newDatabase(t)
	db.fillMany(t, manager.CustomerUUID, "100000")
	b := newBench(t, db.cfg, func(c *Config) { c.Rows = 50_000 })
	after := b.searchAs(t, t, manager, `{"startDate":0,"pageSize":1}`).SearchAfter
	for body, want := range map[string]int{
		`{"startDate":0}`:                                         200,
		`{"startDate":0,"qql":"userUuid: nobody"}`:                200,
		`{"startDate":0,"searchAfter":"` + after + `"}`:           200,
		`{"startDate":0,"sort":{"field":"userName"}}`:             422,
		`{"startDate":0,"qql":"action: add AND userName: jack"}`:  422,
		`{"startDate":1782770000000,"sort":{"field":"userName"}}`: 200,
	} {
		w := b.do(t, &manager, "POST", searchPath, body)
		if w.Code != want || want == 422 && !strings.Contains(w.Body.String(), "limit of 50000 (--query-rows). Narrow it") {
			t.Errorf("%s: %d %s, want %d", body, w.Code, w.Body, want)
		}
	}
}

// TestCompleteUpToFollowsKafka holds that answers say up to when everything is
// stored, and null while nobody knows: without waiting for it.
func TestCompleteUpToFollowsKafka(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	began := time.Now()
	until(t, "the watermark passes the test's begin", func() bool {
		var a struct{ CompleteUpTo *int64 }
		b.ask(t, t, manager, "POST", searchPath, `{}`, &a)
		return a.CompleteUpTo != nil && *a.CompleteUpTo > began.UnixMilli()
	})
	for path, demanded := range everywhere {
		var a struct{ CompleteUpTo *int64 }
		b.ask(t, t, manager, "POST", path, `{`+demanded+`"startDate":1750000000000}`, &a)
		if a.CompleteUpTo == nil {
			t.Errorf("%s does not say", path)
		}
	}
	var unknown horizon
	if got := unknown.completeUpTo(field.Events); got != "null" {
		t.Errorf("at first: %s", got)
	}
}
