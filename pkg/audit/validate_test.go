package audit

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestValidateNamesEveryProblem(t *testing.T) {
	e := Event{
		ID:           "not-a-uuid",
		ModuleCode:   "pm",
		UserUUID:     strings.Repeat("u", 65),
		SourceIP:     "fe80::1%eth0",
		CreatedDate:  1,
		Action:       "login",
		EndpointType: EndpointAPI,
		Status:       strings.Repeat("s", 300),
		TargetName:   "caf\xe9",
		Changes:      []byte(`[{"field":""}]`),
		Extra:        []byte(`{"action":"x"}`),
	}
	err := e.Validate(time.UnixMilli(1700000000000), 0)
	var got Problems
	if !errors.As(err, &got) {
		t.Fatalf("got %v, want Problems", err)
	}
	var rules []string
	for _, p := range got {
		rules = append(rules, p.Field+" "+p.Rule)
		if p.Message == "" {
			t.Errorf("%s %s has no message", p.Field, p.Rule)
		}
	}
	want := []string{
		"id format", "moduleCode format", "customerUuid required", "createdDate too-old", "sourceIp format",
		"endpointType login-api", "userUuid length", "status length", "targetName utf8", "changes required",
		"extra collision",
	}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestValidateClock(t *testing.T) {
	at := time.UnixMilli(1700000000000)
	const day = 24 * time.Hour
	for _, test := range []struct {
		created time.Time
		maxAge  time.Duration
		rule    string
	}{
		{at, 0, ""},
		{at.Add(-DefaultMaxAge), 0, ""},
		{at.Add(-DefaultMaxAge - time.Millisecond), 0, RuleTooOld},
		{at.Add(-90 * day), 90 * day, ""},
		{at.Add(-90*day - time.Millisecond), 90 * day, RuleTooOld},
		{at.Add(MaxAhead), 0, ""},
		{at.Add(MaxAhead + time.Millisecond), 0, RuleTooNew},
		{time.UnixMilli(-1), 100 * 365 * day, RuleTooOld}, // before 1970, however long the retention
		{time.UnixMilli(1), 100 * 365 * day, ""},
	} {
		e := Event{ModuleCode: "PM", CustomerUUID: "c", UserName: "u", Action: "Add", CreatedDate: test.created.UnixMilli()}
		err := e.Validate(at, test.maxAge)
		var ps Problems
		if errors.As(err, &ps) != (test.rule != "") || test.rule != "" && !ps.Has(test.rule) {
			t.Errorf("created %v, at most %v old: got %v, want rule %q", test.created, test.maxAge, err, test.rule)
		}
	}
}

func TestValidateSaysWhatWasMeant(t *testing.T) {
	e := decoded(t, `{"CustomerUuid":"c","ModuleCode":"PM","CREATEDDATE":1,"Action":"Add","username":"u"}`)
	err := e.Validate(workloadClock, 0)
	for _, want := range []string{"customerUuid?", "moduleCode?", "createdDate?", "action?", "userName?"} {
		if err == nil || !strings.Contains(err.Error(), "did you mean "+want) {
			t.Errorf("%v does not ask for %s", err, want)
		}
	}
}

func TestLoginRule(t *testing.T) {
	for _, test := range []struct {
		action, endpoint string
		ok               bool
	}{
		{"Login", EndpointWebUI, true},
		{"Login", EndpointBackgroundTask, true},
		{"Login", "", true},
		{"Logout", EndpointAPI, true},
		{"Login ", EndpointAPI, true},
		{"Login", EndpointAPI, false},
		{"login", EndpointAPI, false},
		{"LOGIN", EndpointAPI, false},
	} {
		e := workloadEvent(t)
		e.Action, e.EndpointType = test.action, test.endpoint
		if err := e.Validate(workloadClock, 0); (err == nil) != test.ok {
			t.Errorf("%q by %q: got %v, want ok = %v", test.action, test.endpoint, err, test.ok)
		}
	}
}

// The short check of IPv4 agrees with the library's.
func TestIPv4(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[0-9.]{0,16}|[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-f:.]{0,20}`).Draw(t, "address")
		addr, err := netip.ParseAddr(s)
		if want := err == nil && addr.Is4(); isIPv4(s) != want {
			t.Fatalf("isIPv4(%q) = %v, want %v", s, !want, want)
		}
	})
}

func TestTopic(t *testing.T) {
	for code, topic := range map[string]string{
		"PM":                    "audit.events.pm.v1",
		"VMDR2":                 "audit.events.vmdr2.v1",
		strings.Repeat("M", 32): "audit.events." + strings.Repeat("m", 32) + ".v1",
	} {
		if got := Topic(code); got != topic {
			t.Errorf("Topic(%q) = %q, want %q", code, got, topic)
		}
		if got, ok := ModuleOf(topic); got != code || !ok {
			t.Errorf("ModuleOf(%q) = %q, %v", topic, got, ok)
		}
	}
	for _, topic := range []string{
		"", "audit.events..v1", "audit.events.PM.v1", "audit.events.pm.v2", "audit.events.p-m.v1", "audit.events.2pm.v1",
		"audit.api-calls.v1", "audit.dead-letter.v1", "xaudit.events.pm.v1", "audit.events.v1",
		"audit.events." + strings.Repeat("m", 33) + ".v1",
	} {
		if got, ok := ModuleOf(topic); ok {
			t.Errorf("ModuleOf(%q) = %q, want none", topic, got)
		}
	}
}

func TestNewID(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123_456_789, time.UTC)
	id := NewID(at)
	if !isUUID(id) || id[14] != '7' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("%s is no version 7 UUID", id)
	}
	if want := "019f1d8c-e27b-774f"; id[:18] != want { // 456789 ns of the millisecond are 0x74f/0x1000
		t.Errorf("%s does not start with %s", id, want)
	}
	seen := map[string]bool{}
	for range 10_000 {
		seen[NewID(at)] = true
	}
	if len(seen) != 10_000 {
		t.Errorf("only %d of 10000 ids of one instant differ", len(seen))
	}
	if later := NewID(at.Add(time.Microsecond)); later[:18] <= id[:18] {
		t.Errorf("%s sorts before %s", later, id)
	}
}
