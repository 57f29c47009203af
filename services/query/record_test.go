package query

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
)

// fill makes a record with some fields set, by JSON name.
func fill(t *testing.T, values map[string]any) *record {
	t.Helper()
	r := newRecord(field.Events)
	for i, f := range field.Events.Fields {
		v, ok := values[f.Name]
		if !ok {
			continue
		}
		switch d := r.dest[i].(type) {
		case *string:
			*d = v.(string)
		case *uint32:
			*d = v.(uint32)
		case *int64:
			*d = v.(int64)
		case *netip.Addr:
			*d = netip.AddrFrom16(netip.MustParseAddr(v.(string)).As16())
		case *uuid.UUID:
			*d = uuid.MustParse(v.(string))
		}
	}
	return r
}

func TestEmptyRecordShowsTheSamplesFields(t *testing.T) {
	want := `{"id":"00000000-0000-0000-0000-000000000000","auditEnabledAppId":0,"applicationName":"","moduleCode":"","moduleName":"",` +
		`"userName":"","userRole":"","userUuid":"","customerUuid":"","client":"","sourceIp":"","createdDate":0,"targetType":"",` +
		`"targetName":"","action":"","status":"","auditComment":"","externalChangeLink":""}`
	if d := cmp.Diff(string(newRecord(field.Events).appendJSON(nil, nil)), want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

func TestRecordAdditionsComeOnlyWhenNotEmpty(t *testing.T) {
	base := string(newRecord(field.Events).appendJSON(nil, nil))
	for _, c := range []struct{ name, value, want string }{
		{"endpointType", "Web UI", `,"endpointType":"Web UI"`},
		{"businessUnit", "EU", `,"businessUnit":"EU"`},
		{"origin", "auto-update", `,"origin":"auto-update"`},
		{"requestId", "r", `,"requestId":"r"`},
		{"changes", `[{"field":"a","before":1}]`, `,"changes":[{"field":"a","before":1}]`},
		{"changes", "[]", ""},
		{"extra", `{"a":{"b":"<&>"}}`, `,"extra":{"a":{"b":"<&>"}}`},
		{"extra", "{}", ""},
		{"extra", `{"a":`, `,"extra":"{\"a\":"`},
		{"extra", `{"a":1}]`, `,"extra":"{\"a\":1}]"`},
	} {
		got := string(fill(t, map[string]any{c.name: c.value}).appendJSON(nil, nil))
		if d := cmp.Diff(got, strings.TrimSuffix(base, "}")+c.want+"}"); d != "" {
			t.Errorf("%s (-got +want)\n%s", c.name, d)
		}
	}
}

func TestAddresses(t *testing.T) {
	for ip, want := range map[string]string{
		"191.160.45.90":        "191.160.45.90",
		"::ffff:1.2.3.4":       "1.2.3.4",
		"2001:DB8:0:0:1::1":    "2001:db8::1:0:0:1",
		"::":                   "",
		"::1":                  "::1",
		"0.0.0.0":              "0.0.0.0",
		"2001:db8:0:1:1:1:1:1": "2001:db8:0:1:1:1:1:1",
	} {
		var got struct {
			SourceIP string `json:"sourceIp"`
		}
		if err := json.Unmarshal(fill(t, map[string]any{"sourceIp": ip}).appendJSON(nil, nil), &got); err != nil {
			t.Fatal(err)
		}
		if got.SourceIP != want {
			t.Errorf("%s: got %q, want %q", ip, got.SourceIP, want)
		}
	}
}

func FuzzRecordText(f *testing.F) {
	f.Add("http://h/?a=1&b=<2>", `{"a":"\u2028"}`)
	f.Add("\xff\x00\u2028", "[\xff]")
	f.Fuzz(func(t *testing.T, text, raw string) {
		b := fill(t, map[string]any{"auditComment": text, "extra": raw, "changes": raw}).appendJSON(nil, nil)
		var got struct {
			AuditComment string `json:"auditComment"`
		}
		if err := json.Unmarshal(b, &got); err != nil || !utf8.Valid(b) {
			t.Fatalf("%q: %v", b, err)
		}
		if utf8.ValidString(text) && got.AuditComment != text {
			t.Errorf("%q came back as %q", text, got.AuditComment)
		}
		if strings.ContainsAny(text, "<>&") && !strings.ContainsAny(string(b), "<>&") {
			t.Errorf("HTML is escaped: %s", b)
		}
	})
}
