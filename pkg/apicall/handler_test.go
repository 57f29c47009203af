package apicall_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

func TestACallIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{})
		began := time.Now()
		w := get(calls.Handler(jobs, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			pass(1500 * time.Millisecond)
			w.WriteHeader(http.StatusCreated)
		})))
		if w.Code != http.StatusCreated {
			t.Errorf("status %d", w.Code)
		}
		running := audit.APICall{
			CustomerUUID: maria.CustomerUUID, ModuleCode: "PM", API: jobs, Method: "GET", State: audit.StateRunning,
			SubmittedDate: began.UnixMilli(), UpdatedDate: began.UnixMilli(),
			UserName: maria.UserName, UserRole: maria.UserRole, UserUUID: maria.UserUUID, BusinessUnit: maria.BusinessUnit,
			Client: "python-requests/2.32.3", SourceIP: "167.35.71.104", RequestID: "request-1",
		}
		finished := running
		finished.State, finished.UpdatedDate, finished.DurationMs, finished.HTTPStatus = audit.StateFinished, began.UnixMilli()+1500, 1500, 201
		records := rec.Calls()
		if diff := cmp.Diff([]audit.APICall{running, finished}, records, cmpopts.IgnoreFields(audit.APICall{}, "CallID")); diff != "" {
			t.Errorf("records -want +got\n%s", diff)
		}
		if records[0].CallID == "" || records[0].CallID != records[1].CallID {
			t.Errorf("call ids %q and %q", records[0].CallID, records[1].CallID)
		}
		if s := calls.Stats(); s != (apicall.Stats{Finished: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

func TestHeadersOfACountedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, _ := open(t, apicall.Config{})
		h := calls.Handler(jobs, answer(200))
		want := map[string]string{
			"X-RateLimit-Limit": "300", "X-RateLimit-Window-Sec": "3600", "X-RateLimit-Remaining": "299", "X-RateLimit-ToWait-Sec": "0",
			"X-Concurrency-Limit-Limit": "2", "X-Concurrency-Limit-Running": "1", "Retry-After": "",
		}
		check := func(w *httptest.ResponseRecorder, status int) {
			t.Helper()
			if w.Code != status {
				t.Fatalf("status %d, want %d", w.Code, status)
			}
			for name, value := range want {
				if got := w.Header().Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
		}
		check(get(h), 200)
		for range 298 {
			get(h)
		}
		pass(1500 * time.Millisecond)
		want["X-RateLimit-Remaining"], want["X-RateLimit-ToWait-Sec"] = "0", "3599" // of 3,598.5
		check(get(h), 200)
		want["X-Concurrency-Limit-Running"], want["Retry-After"] = "0", "3599"
		check(get(h), http.StatusTooManyRequests)
		pass(3598 * time.Second)
		want["X-RateLimit-ToWait-Sec"], want["Retry-After"] = "1", "1" // of half a second
		check(get(h), http.StatusTooManyRequests)
		pass(500 * time.Millisecond)
		want["X-RateLimit-Remaining"], want["X-RateLimit-ToWait-Sec"], want["Retry-After"] = "298", "0", ""
		want["X-Concurrency-Limit-Running"] = "1"
		check(get(h), 200)
	})
}

func TestHeadersOfWhatIsNotBounded(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit apicall.Limit
		opts  []apicall.Option
		want  []string
	}{
		{"no limit", apicall.Limit{}, nil, nil},
		{"unlimited API", apicall.Limit{Concurrency: 1, Calls: 1, Window: time.Hour}, []apicall.Option{apicall.Unlimited()}, nil},
		{"concurrency alone", apicall.Limit{Concurrency: 3}, nil, []string{"X-Concurrency-Limit-Limit", "X-Concurrency-Limit-Running"}},
		{"unplaced", apicall.Limit{Concurrency: 3, Calls: 5, Window: time.Hour}, []apicall.Option{apicall.Unplaced()},
			[]string{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Towait-Sec", "X-Ratelimit-Window-Sec"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls, rec := open(t, apicall.Config{Limits: fixed(test.limit)})
			var got []string
			for name := range get(calls.Handler(jobs, answer(200), test.opts...)).Header() {
				got = append(got, name)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.SortSlices(strings.Compare), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("headers -want +got\n%s", diff)
			}
			mustTell(t, rec, "Running, Finished 200")
		})
	}
}

func TestAnswersToBlockedCalls(t *testing.T) {
	limit := apicall.Limit{Concurrency: 1, Calls: 2, Window: time.Hour}
	for _, test := range []struct {
		name     string
		conflict bool
		rate     string
		busy     string
	}{
		{
			name: "429",
			rate: `{"type":"urn:auditrail:problem:tooMany","title":"Too many requests","status":429,"detail":"At most 2 calls of api/v1/jobs/{id} may begin in any hour, and so many have. Another may begin in 59 minutes.","limit":2,"windowSec":3600,"toWaitSec":3540,"requestId":"request-1"}`,
			busy: `{"type":"urn:auditrail:problem:tooMany","title":"Too many requests","status":429,"detail":"At most 1 call of api/v1/jobs/{id} may run at a time, and 1 runs now. Call again when one has ended.","limit":1,"toWaitSec":1,"requestId":"request-1"}`,
		},
		{
			name: "409", conflict: true,
			rate: `{"type":"urn:auditrail:problem:tooMany","title":"Conflict","status":409,"detail":"At most 2 calls of api/v1/jobs/{id} may begin in any hour, and so many have. Another may begin in 59 minutes.","limit":2,"windowSec":3600,"toWaitSec":3540,"code":1965,"requestId":"request-1"}`,
			busy: `{"type":"urn:auditrail:problem:tooMany","title":"Conflict","status":409,"detail":"At most 1 call of api/v1/jobs/{id} may run at a time, and 1 runs now. Call again when one has ended.","limit":1,"toWaitSec":1,"code":1960,"requestId":"request-1"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, rec := open(t, apicall.Config{Limits: fixed(limit), Conflict: test.conflict})
				b := newBlocking()
				h := calls.Handler(jobs, b)
				go get(h)
				<-b.began
				check := func(want, retryAfter string) {
					t.Helper()
					w := get(h)
					var doc struct {
						Status int
						Detail string
					}
					if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
						t.Fatal(err)
					}
					if w.Code != doc.Status || w.Body.String() != want {
						t.Errorf("%d\n got %s\nwant %s", w.Code, w.Body, want)
					}
					if got := w.Header().Get("Retry-After"); got != retryAfter {
						t.Errorf("Retry-After %q, want %q", got, retryAfter)
					}
					if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
						t.Errorf("Content-Type %q", got)
					}
					records := rec.Calls()
					if last := records[len(records)-1]; last.Reason != doc.Detail || int(last.HTTPStatus) != doc.Status {
						t.Errorf("record %+v, want the detail and status of the answer", last)
					}
				}
				check(test.busy, "1")
				close(b.goOn)
				synctest.Wait()
				get(h)
				pass(time.Minute)
				check(test.rate, "3540")
			})
		})
	}
}

func TestWhoIsNoCallerPassesThrough(t *testing.T) {
	calls, rec := open(t, apicall.Config{Caller: func(*http.Request) (apicall.Caller, bool) { return apicall.Caller{}, false }})
	var got http.ResponseWriter
	w := httptest.NewRecorder()
	calls.Handler(jobs, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got = w
		w.WriteHeader(http.StatusUnauthorized)
	})).ServeHTTP(w, request())
	if got != http.ResponseWriter(w) || w.Code != http.StatusUnauthorized || len(w.Header()) != 0 {
		t.Errorf("not passed through untouched: %d %v", w.Code, w.Header())
	}
	mustTell(t, rec)
}

func TestExemptCallsAreNeitherListedNorLimited(t *testing.T) {
	one := fixed(apicall.Limit{Concurrency: 1, Calls: 1, Window: time.Hour})
	calls, rec := open(t, apicall.Config{Limits: one})
	login := calls.Handler(apicall.SessionAPI, answer(200))
	for range 3 {
		if w := get(login); w.Code != 200 || len(w.Header()) != 0 {
			t.Fatalf("%d %v, want 200 and no headers", w.Code, w.Header())
		}
	}
	run, err := calls.Begin(t.Context(), apicall.Call{API: apicall.SessionAPI, Caller: maria})
	if err != nil {
		t.Fatal(err)
	}
	if id := run.CallID(); id != "" {
		t.Errorf("exempt call has id %q", id)
	}
	run.End(200, "")
	mustTell(t, rec)

	calls, rec = open(t, apicall.Config{Limits: one, Exempt: []string{}})
	get(calls.Handler(apicall.SessionAPI, answer(200)))
	mustTell(t, rec, "Running, Finished 200")
}

func TestHowHandlersEnd(t *testing.T) {
	for _, test := range []struct {
		name   string
		serve  http.HandlerFunc
		want   string
		reason string
		panics any
	}{
		{"writes nothing", func(http.ResponseWriter, *http.Request) {}, "Running, Finished 200", "", nil},
		{"writes a body alone", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, "Running, Finished 200", "", nil},
		{"flushes alone", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, "Running, Finished 200", "", nil},
		{"says two statuses", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(200) }, "Running, Finished 404", "", nil},
		{"hints first", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(100)
			w.WriteHeader(418)
		}, "Running, Finished 418", "", nil},
		{"hints alone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103) }, "Running, Finished 200", "", nil},
		{"copies a reader", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader("x")) }, "Running, Finished 200", "", nil},
		{"copies nothing, then says", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, strings.NewReader(""))
			w.WriteHeader(404)
		}, "Running, Finished 404", "", nil},
		{"panics", func(http.ResponseWriter, *http.Request) { panic("oh") }, "Running, Finished 500", "the handler panicked", "oh"},
		{"panics in the middle", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); panic("oh") },
			"Running, Finished 500", "the handler panicked, after it had begun to answer 206", "oh"},
		{"aborts", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"Running, Finished 500", "the handler cut the answer off", http.ErrAbortHandler},
		{"says what is no status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(700) }, "Running, Finished", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls, rec := open(t, apicall.Config{Limits: fixed(apicall.Limit{Concurrency: 1})})
			h := calls.Handler(jobs, test.serve)
			for range 2 { // the second finds the place free
				func() {
					defer func() {
						if v := recover(); v != test.panics {
							t.Errorf("panic %v, want %v", v, test.panics)
						}
					}()
					get(h)
				}()
			}
			records := mustTell(t, rec, test.want, test.want)
			if got := records[1].Reason; got != test.reason {
				t.Errorf("reason %q, want %q", got, test.reason)
			}
		})
	}
}

func TestAHandlerThatEndsItsGoroutine(t *testing.T) {
	calls, rec := open(t, apicall.Config{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		get(calls.Handler(jobs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { (&testing.T{}).SkipNow() })))
	}()
	<-done
	if records := mustTell(t, rec, "Running, Finished 500"); records[1].Reason != "the handler ended its goroutine" {
		t.Errorf("reason %q", records[1].Reason)
	}
}

func TestAClientThatHangsUp(t *testing.T) {
	for _, test := range []struct {
		name   string
		serve  http.HandlerFunc
		want   string
		reason string
	}{
		{"before the answer", func(http.ResponseWriter, *http.Request) {}, "Running, Finished 499", "the client hung up before it was answered"},
		{"and the handler aborts", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "Running, Finished 499", "the client hung up before it was answered"},
		{"in the middle", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, "Running, Finished 200", "the client hung up before the answer was complete"},
		{"once it had all of it", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1")
			_, _ = io.WriteString(w, "x")
		}, "Running, Finished 200", ""},
		{"and the handler panics", func(http.ResponseWriter, *http.Request) { panic("oh") }, "Running, Finished 500", "the handler panicked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls, rec := open(t, apicall.Config{Limits: fixed(apicall.Limit{Concurrency: 1})})
			ctx, hangUp := context.WithCancel(t.Context())
			h := calls.Handler(jobs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hangUp()
				test.serve(w, r)
			}))
			func() {
				defer func() { _ = recover() }()
				h.ServeHTTP(httptest.NewRecorder(), request().WithContext(ctx))
			}()
			if records := mustTell(t, rec, test.want); records[1].Reason != test.reason {
				t.Errorf("reason %q, want %q", records[1].Reason, test.reason)
			}
			if run, err := calls.Begin(t.Context(), apicall.Call{API: jobs, Caller: maria}); err != nil {
				t.Errorf("the place is not free: %v", err)
			} else {
				run.End(0, "")
			}
		})
	}
}

func TestBadNamesOfAPIsAreRefusedAtOnce(t *testing.T) {
	calls, _ := open(t, apicall.Config{})
	for _, api := range []string{"", "/api/v1/jobs", strings.Repeat("a", audit.MaxAPIBytes+1), "a\xff", "a\nb", "api/v1/*"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Handler took %q", api)
				}
			}()
			calls.Handler(api, answer(200))
		}()
		if _, err := calls.Begin(t.Context(), apicall.Call{API: api, Caller: maria}); err == nil {
			t.Errorf("Begin took %q", api)
		}
	}
	if s := calls.Stats(); s != (apicall.Stats{}) {
		t.Errorf("%+v", s)
	}
}

// TestHostileClientsAreListed holds every record to the contract: the recorder
// refuses others.
func TestHostileClientsAreListed(t *testing.T) {
	long := strings.Repeat("a", 100_000)
	for name, hostile := range map[string]string{
		"long": long, "long and wide": strings.Repeat("日", 50_000), "not UTF-8": "\xff\xfe", "long and not UTF-8": strings.Repeat("\xff", 100_000),
		"cut within a character": strings.Repeat("a", 255) + "日本", "control": strings.Repeat("\x00\x1b\"\\", 50_000), "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			who := maria
			who.UserName, who.UserRole, who.BusinessUnit, who.Tier = hostile, hostile, hostile, apicall.Tier(hostile)
			if hostile != "" {
				who.UserUUID = hostile
			}
			calls, rec := open(t, apicall.Config{
				Caller:        func(*http.Request) (apicall.Caller, bool) { return who, true },
				ClientAddress: func(*http.Request) string { return hostile },
			})
			w := get(calls.Handler(jobs, answer(200)), func(r *http.Request) {
				r.Method = hostile
				r.Header["User-Agent"], r.Header["X-Request-Id"] = []string{hostile}, []string{hostile}
			})
			if w.Code != 200 {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
			mustTell(t, rec, "Running, Finished 200")
			if s := calls.Stats(); s.EmitFailures != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for remote, want := range map[string]string{
		"167.35.71.104:5": "167.35.71.104", "[2001:db8::1]:443": "2001:db8::1", "[fe80::1%eth0]:80": "fe80::1",
		"[::ffff:10.0.0.1]:80": "10.0.0.1", "@": "", "": "", "localhost:80": "",
	} {
		calls, rec := open(t, apicall.Config{})
		get(calls.Handler(jobs, answer(200)), func(r *http.Request) { r.RemoteAddr = remote })
		if got := mustTell(t, rec, "Running, Finished 200")[0].SourceIP; got != want {
			t.Errorf("%q is recorded as %q, want %q", remote, got, want)
		}
	}
}

func TestACallerWithoutNameIsTheModulesFault(t *testing.T) {
	for name, who := range map[string]apicall.Caller{
		"nobody": {}, "no user": {CustomerUUID: "c"}, "no subscription": {UserName: "u"},
		"too long a subscription": {CustomerUUID: strings.Repeat("c", audit.MaxIDBytes+1), UserName: "u"},
		"a broken subscription":   {CustomerUUID: "\xff", UserName: "u"},
	} {
		t.Run(name, func(t *testing.T) {
			calls, rec := open(t, apicall.Config{Caller: func(*http.Request) (apicall.Caller, bool) { return who, true }})
			w := get(calls.Handler(jobs, answer(200)))
			if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "urn:auditrail:problem:internal") || !strings.Contains(w.Body.String(), `"requestId":"request-1"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			mustTell(t, rec)
			if _, err := calls.Begin(t.Context(), apicall.Call{API: jobs, Caller: who}); err == nil {
				t.Error("Begin took it")
			}
		})
	}
}

func TestASinkThatRefusesFailsNoCall(t *testing.T) {
	calls, rec := open(t, apicall.Config{Limits: fixed(apicall.Limit{Calls: 2, Window: time.Hour})})
	h := calls.Handler(jobs, answer(200))
	rec.Fail(emit.ErrBufferFull)
	get(h)
	rec.Close()
	if w := get(h); w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
	if w := get(h); w.Code != http.StatusTooManyRequests {
		t.Errorf("status %d", w.Code)
	}
	if s, want := calls.Stats(), (apicall.Stats{Finished: 2, BlockedRate: 1, EmitFailures: 5}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestLimitsOfTiersAndOverrides(t *testing.T) {
	for tier, want := range map[apicall.Tier]apicall.Limit{
		apicall.TierExpressLite: {Concurrency: 1, Calls: 50, Window: 24 * time.Hour},
		apicall.TierExpress:     {Concurrency: 1, Calls: 50, Window: 24 * time.Hour},
		apicall.TierStandard:    {Concurrency: 2, Calls: 300, Window: time.Hour},
		apicall.TierEnterprise:  {Concurrency: 5, Calls: 750, Window: time.Hour},
		apicall.TierPremium:     {Concurrency: 10, Calls: 2000, Window: time.Hour},
		"":                      {Concurrency: 2, Calls: 300, Window: time.Hour},
		"Platinum":              {Concurrency: 2, Calls: 300, Window: time.Hour},
	} {
		if got := apicall.LimitOf(tier); got != want {
			t.Errorf("LimitOf(%q) = %+v, want %+v", tier, got, want)
		}
	}
	who := maria
	who.Tier = "Platinum"
	set := limits{}
	calls, _ := open(t, apicall.Config{Limits: set, Caller: func(*http.Request) (apicall.Caller, bool) { return who, true }})
	h := calls.Handler(jobs, answer(200))
	limit := func() string { return get(h).Header().Get("X-RateLimit-Limit") }
	if got := limit(); got != "300" {
		t.Errorf("a tier that is not known has limit %q, want that of Standard, 300", got)
	}
	set[jobs] = apicall.Limit{Calls: 7, Window: time.Minute}
	if got := limit(); got != "7" {
		t.Errorf("limit %q, want the override's, 7", got)
	}
	for _, broken := range []apicall.Limit{{Calls: -1, Window: time.Hour}, {Concurrency: -1}, {Calls: 1}, {Calls: 1, Window: -1}} {
		set[jobs] = broken
		if got := limit(); got != "300" {
			t.Errorf("limit %q under %+v, want the tier's", got, broken)
		}
	}
	set[jobs] = apicall.Limit{}
	if got := limit(); got != "" {
		t.Errorf("limit %q, want none", got)
	}
	if s := calls.Stats(); s.UnknownTiers != 5 {
		t.Errorf("%+v, want 5 calls of an unknown tier that counted", s)
	}
}

// limits are by API, for all subscriptions.
type limits map[string]apicall.Limit

func (l limits) Limit(_, api string) (apicall.Limit, bool) {
	limit, ok := l[api]
	return limit, ok
}

func TestBadConfigs(t *testing.T) {
	good := apicall.Config{ModuleCode: "PM", Sink: &discard{}}
	for want, edit := range map[string]func(*apicall.Config){
		"ModuleCode": func(c *apicall.Config) { c.ModuleCode = "pm" },
		"Sink":       func(c *apicall.Config) { c.Sink = nil },
		"MaxWait":    func(c *apicall.Config) { c.MaxWait = -1 },
		"Exempt":     func(c *apicall.Config) { c.Exempt = []string{"/login"} },
	} {
		cfg := good
		edit(&cfg)
		if _, err := apicall.New(cfg); err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
	calls, err := apicall.New(good)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := calls.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := calls.Close(t.Context()); err != nil {
			t.Error("second close:", err)
		}
	}()
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "Config.Caller") {
			t.Errorf("Handler without Config.Caller: %v", err)
		}
	}()
	calls.Handler(jobs, answer(200))
}

func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: fixed(apicall.Limit{Concurrency: 1, Calls: 2, Window: time.Hour})})
		call := apicall.Call{API: "jobs/run", Caller: maria, SourceIP: "10.0.0.1"}
		run, err := calls.Begin(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		_, err = calls.Begin(t.Context(), call)
		blocked, ok := errors.AsType[*apicall.BlockedError](err)
		if !ok || blocked.By != apicall.BlockedConcurrency || blocked.Usage.Running != 1 || blocked.RetryAfter() != time.Second || blocked.CallID == "" {
			t.Fatalf("error %v: %+v", err, blocked)
		}
		pass(time.Second)
		run.End(0, "the queue was empty")
		run.End(200, "again")
		run2, err := calls.Begin(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		run2.End(0, strings.Repeat("é", audit.MaxReasonBytes))
		_, err = calls.Begin(t.Context(), call)
		if blocked, ok = errors.AsType[*apicall.BlockedError](err); !ok || blocked.By != apicall.BlockedRate || blocked.RetryAfter() != 3599*time.Second {
			t.Fatalf("error %v: %+v", err, blocked)
		}
		records := mustTell(t, rec, "Running, Finished", "Blocked (Concurrency)", "Running, Finished", "Blocked (Rate)")
		if r := records[2]; r.Reason != "the queue was empty" || r.DurationMs != 1000 || r.CallID != run.CallID() {
			t.Errorf("%+v", r)
		}
		if n := calls.Stats(); n.Finished != 2 || n.Running != 0 {
			t.Errorf("%+v", n)
		}
	})
}
