package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

const validatePath = searchPath + "/validate"

var standard = identity.Identity{UserUUID: "u1", CustomerUUID: "tenant-one", Name: "jack", Role: identity.RoleManager, Tier: identity.TierStandard, BusinessUnits: []string{"EU", "US"}}

// told returns the states of API calls that Kafka has, which must be n; below 0:
// any number.
func (b *bench) told(t testing.TB, n int) []audit.APICall {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.calls.emitter.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	var calls []audit.APICall
	for _, r := range testenv.Records(ctx, t, b.cfg.Kafka, audit.APICallsTopic) {
		var c audit.APICall
		if err := audit.DecodeAPICall(r.Value, &c); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(r.Timestamp, audit.DefaultMaxAge); err != nil {
			t.Error(err)
		}
		calls = append(calls, c)
	}
	if n >= 0 && len(calls) != n {
		t.Fatalf("%d states, want %d: %+v", len(calls), n, calls)
	}
	return calls
}

// TestACallOfTheAPIIsTold: who called what and what came of it; and what is no
// call is not.
func TestACallOfTheAPIIsTold(t *testing.T) {
	b := newLimitedBench(t, away(t), nil, nil)
	b.do(t, nil, "POST", validatePath, "{}")             // not authenticated
	b.do(t, nil, "GET", openAPIPath, "")                 // open to all
	b.do(t, &standard, "GET", "/audit-log/admin/no", "") // not there
	b.do(t, &standard, "DELETE", validatePath, "")       // nor this
	w := b.do(t, &standard, "POST", validatePath, `{"qql":"action: a"}`, "User-Agent", "curl/8", "X-Request-Id", "r-7")
	if w.Code != 200 || w.Header().Get("X-RateLimit-Limit") != "300" || w.Header().Get("X-RateLimit-Remaining") != "299" || w.Header().Get("X-Concurrency-Limit-Limit") != "2" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := b.do(t, &standard, "POST", searchPath, `{}`); w.Code != 503 { // ClickHouse is away
		t.Errorf("%d %s", w.Code, w.Body)
	}
	got, before := b.told(t, 4), ""
	for i, c := range got {
		if c.CallID == "" || c.SubmittedDate == 0 || c.UpdatedDate < c.SubmittedDate || i%2 == 1 && c.CallID != before {
			t.Errorf("%+v", c)
		}
		before = c.CallID
		got[i].CallID, got[i].SubmittedDate, got[i].UpdatedDate, got[i].DurationMs, got[i].SourceIP = "", 0, 0, 0, ""
	}
	one := audit.APICall{CustomerUUID: "tenant-one", ModuleCode: "AUDIT", API: "audit-log/admin/search/validate", Method: "POST", State: audit.StateRunning,
		UserName: "jack", UserRole: "Manager", UserUUID: "u1", BusinessUnit: "EU", Client: "curl/8", RequestID: "r-7"}
	want := []audit.APICall{one, one}
	want[1].State, want[1].HTTPStatus = audit.StateFinished, 200
	if d := cmp.Diff(got[:2], want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	if got[3].State != audit.StateFinished || got[3].HTTPStatus != 503 || got[3].API != "audit-log/admin/search" {
		t.Errorf("got %+v", got[3])
	}
}

// TestACrowdIsAdmittedExactlyAsOftenAsItsTierSays: 64 clients at once.
func TestACrowdIsAdmittedExactlyAsOftenAsItsTierSays(t *testing.T) {
	b := newLimitedBench(t, away(t), nil, nil)
	token := b.token(t, standard)
	var mu sync.Mutex
	codes := map[string]int{}
	var crowd sync.WaitGroup
	for range 64 {
		crowd.Go(func() {
			for blocked := false; !blocked; {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, validatePath, strings.NewReader(`{}`))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+token)
				w := httptest.NewRecorder()
				b.Handler().ServeHTTP(w, r)
				what := fmt.Sprint(w.Code)
				if w.Code == http.StatusTooManyRequests {
					what += " at a time"
					if blocked = strings.Contains(w.Body.String(), `"windowSec":3600`); blocked {
						what = "429 in a window"
					}
				}
				mu.Lock()
				codes[what]++
				mu.Unlock()
			}
		})
	}
	crowd.Wait()
	atATime := codes["429 at a time"]
	delete(codes, "429 at a time") // how many, only chance knows
	if d := cmp.Diff(codes, map[string]int{"200": 300, "429 in a window": 64}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	w := b.do(t, &standard, "POST", validatePath, `{}`)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || w.Header().Get("X-RateLimit-Remaining") != "0" || w.Header().Get("X-RateLimit-ToWait-Sec") == "0" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	// Another API, and another subscription, have limits of their own.
	other := standard
	other.CustomerUUID = "tenant-two"
	for _, w := range []*httptest.ResponseRecorder{b.do(t, &other, "POST", validatePath, `{}`), b.do(t, &standard, "GET", settingsPath, "")} {
		if w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	states := map[string]int{}
	for _, c := range b.told(t, 2*302+64+1+atATime) {
		states[c.State]++
	}
	want := map[string]int{audit.StateRunning: 302, audit.StateFinished: 302, audit.StateBlockedRate: 65}
	if atATime > 0 {
		want[audit.StateBlockedConcurrency] = atATime
	}
	if d := cmp.Diff(states, want); d != "" {
		t.Errorf("states (-got +want)\n%s", d)
	}
}

// TestALimitKeepsNoManagerOut: what blocks everything is taken back.
func TestALimitKeepsNoManagerOut(t *testing.T) {
	b := newLimitedBench(t, away(t), nil, func(c *Config) { c.LimitsConflict = true })
	w := b.do(t, &standard, "PUT", limitsPath, `{"default":{"calls":1,"windowSec":604800,"concurrency":1}}`)
	if w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	b.do(t, &standard, "GET", settingsPath, "")
	w = b.do(t, &standard, "GET", settingsPath, "")
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), `"code":1965`) || !strings.Contains(w.Body.String(), "At most 1 call of audit-log/admin/settings may begin in any 168 hours") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for range 3 {
		if w := b.do(t, &standard, "GET", limitsPath, ""); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if w := b.do(t, &standard, "DELETE", limitsPath, ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"override":null`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := b.do(t, &standard, "GET", settingsPath, ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, line := range b.logs.FilterMessage("request").All() {
		if line.ContextMap()["tenant"] != "tenant-one" {
			t.Errorf("whose call it was is not logged: %v", line.ContextMap())
		}
	}
	var statuses []string
	for _, e := range b.audited(t, 4) {
		statuses = append(statuses, e.TargetType+" "+e.Status+" "+e.AuditComment)
	}
	limit := `{"concurrency":1,"calls":1,"windowSec":604800}`
	if d := cmp.Diff(statuses, []string{"API Limits Requested default: default -> " + limit, "API Limits Success default: default -> " + limit,
		"API Limits Requested default: " + limit + " -> default", "API Limits Success default: " + limit + " -> default"}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

func TestLimitsAreShownToEveryRoleAndChangedByManagers(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now().UnixMilli()
	db.insertCalls(t, t, audit.APICall{CallID: "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9", CustomerUUID: "tenant-one", API: "api/v1/jobs", State: audit.StateFinished, SubmittedDate: now, UpdatedDate: now})
	w := b.do(t, &standard, "PUT", limitsPath,
		`{"default":{"unlimited":true},"apis":{"audit-log/admin/search":{"concurrency":3},"audit-log/admin/search/*":{"calls":5,"windowSec":60},"api/v1/*":{"concurrency":1},"api/v2/*":{"concurrency":1},"audit-log/admin/serach":{"concurrency":1}}}`)
	var a limitsAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &struct{ Warnings *[]string }{&a.Warnings}); err != nil || w.Code != 200 {
		t.Fatal(err, w.Code, w.Body)
	}
	if d := cmp.Diff(a.Warnings, []string{
		"api/v2/* matches no API of this service and none of the 100 that were called most in the past week. Is it spelled right?",
		"audit-log/admin/serach matches no API of this service and none of the 100 that were called most in the past week. Is it spelled right?",
	}); d != "" {
		t.Errorf("warnings (-got +want)\n%s", d)
	}
	for _, role := range identity.Roles {
		id := standard
		id.Role = role
		w := b.do(t, &id, "GET", limitsPath, "")
		for _, part := range []string{
			`"tier":"Standard","tierLimit":{"concurrency":2,"calls":300,"windowSec":3600}`,
			`{"api":"audit-log/admin/search","limit":{"concurrency":3},"source":"override"}`,
			`{"api":"audit-log/admin/search/export","limit":{"calls":5,"windowSec":60},"source":"override"}`,
			`{"api":"audit-log/admin/settings","limit":{"unlimited":true},"source":"override"}`,
			`{"api":"audit-log/admin/limits","limit":{"unlimited":true},"source":"exempt"}`,
		} {
			if w.Code != 200 || !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: %d %s, want %s", role, w.Code, w.Body, part)
			}
		}
		if role == identity.RoleManager {
			continue
		}
		for _, method := range []string{"PUT", "DELETE"} {
			if w := b.do(t, &id, method, limitsPath, `{}`); w.Code != 403 || !strings.Contains(w.Body.String(), "Only Managers change limits; your role is "+string(role)) {
				t.Errorf("%s: %d %s", role, w.Code, w.Body)
			}
		}
	}
	for body, want := range map[string][]string{
		``:   {"must be a JSON object"},
		`[]`: {"must be a JSON object"},
		`{"default":{"calls":0,"windowSec":604801},"apis":{"a*b":{"concurrency":-1}}}`: {"default.calls", "1 to 100000", "default.windowSec", "604800", `apis[\"a*b\"] may have a * only`, "concurrency must be"},
		`{"defaults":{}}`: {"defaults is unknown"},
	} {
		w := b.do(t, &standard, "PUT", limitsPath, body)
		for _, part := range want {
			if w.Code != 400 || !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: %d %s, want %s", body, w.Code, w.Body, part)
			}
		}
	}
}
