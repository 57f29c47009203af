package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// searchesOneByOne lets one search run at a time, and lets the list be asked as
// often as a test likes.
const searchesOneByOne = `{"apis": {"audit-log/admin/search": {"concurrency": 1}, "audit-log/admin/api-calls*": {"unlimited": true}}}`

// The limits of a subscription, and what came of its calls, as its users see
// them: by the built binary, with a second process that is killed.
func TestCallsRunIntoLimitsAndAreListed(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	manager := d.manager()

	t.Run("a subscription without calls", func(t *testing.T) {
		nobody := d.caller(d.token("--customer", "c-new"))
		r := nobody.get(t, callsPath+"?state=Expired")
		if !strings.HasPrefix(r.body, `{"apiCalls":[],"totalCount":0,`) || r.status != http.StatusOK {
			t.Errorf("the list is %d %s", r.status, r.body)
		}
		r = nobody.get(t, callsPath+"/summary?state=Expired")
		if r.status != http.StatusOK || r.member(t, "totalCount") != 0.0 || len(r.member(t, "states").(map[string]any)) != 0 {
			t.Errorf("the summary is %d %s", r.status, r.body)
		}
		if r = nobody.get(t, callsPath+"/eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"); r.status != http.StatusNotFound {
			t.Errorf("a call that is not there is %d %s", r.status, r.body)
		}
	})

	manager.limit(t, searchesOneByOne)
	t.Run("rate", func(t *testing.T) {
		t.Parallel()
		admitted := 0
		var first, r reply
		for r = manager.get(t, fieldsPath); r.status == http.StatusOK; r = manager.get(t, fieldsPath) {
			if admitted++; admitted == 1 {
				first = r
			}
		}
		if admitted != 300 || r.status != http.StatusTooManyRequests {
			t.Fatalf("%d calls were admitted, and then %d %s; Standard has 300 an hour", admitted, r.status, r.body)
		}
		checkHeaders(t, first, map[string]string{
			"X-RateLimit-Limit": "300", "X-RateLimit-Window-Sec": "3600", "X-RateLimit-Remaining": "299", "X-RateLimit-ToWait-Sec": "0",
			"X-Concurrency-Limit-Limit": "2", "X-Concurrency-Limit-Running": "1", "Retry-After": "",
		})
		wait := r.header.Get("Retry-After")
		checkHeaders(t, r, map[string]string{
			"X-RateLimit-Limit": "300", "X-RateLimit-Window-Sec": "3600", "X-RateLimit-Remaining": "0", "X-RateLimit-ToWait-Sec": wait,
			"X-Concurrency-Limit-Limit": "2", "X-Concurrency-Limit-Running": "0", "Content-Type": "application/problem+json",
		})
		if r.member(t, "limit") != 300.0 || r.member(t, "windowSec") != 3600.0 || fmt.Sprint(r.member(t, "toWaitSec")) != wait || wait == "0" || wait == "" {
			t.Errorf("Retry-After is %q, and the body %s", wait, r.body)
		}
		if a := manager.seen(t, r, audit.StateBlockedRate, audit.StateBlockedRate); a.Reason != r.member(t, "detail") {
			t.Errorf("the list says %q, the answer %q", a.Reason, r.member(t, "detail"))
		}
		manager.until(t, byRequest(first.id), audit.StateFinished, "Running, Finished")
	})

	t.Run("concurrency", func(t *testing.T) {
		t.Parallel()
		running := manager.hold(t).running()
		blocked := make([]reply, 8)
		var all sync.WaitGroup
		for i := range blocked {
			all.Go(func() { blocked[i] = manager.do(t.Context(), http.MethodPost, searchPath, strings.NewReader("{}")) })
		}
		all.Wait()
		finished := running.end()
		if finished.status != http.StatusOK {
			t.Errorf("the call that ran got %d %s", finished.status, finished.body)
		}
		manager.seen(t, finished, audit.StateFinished, "Running, Finished")
		for i, r := range blocked {
			if r.err != nil || r.status != http.StatusTooManyRequests {
				t.Fatalf("while one runs another is %v %d %s", r.err, r.status, r.body)
			}
			checkHeaders(t, r, map[string]string{
				"X-Concurrency-Limit-Limit": "1", "X-Concurrency-Limit-Running": "1", "X-RateLimit-Limit": "", "Retry-After": "1",
			})
			if r.member(t, "limit") != 1.0 || r.member(t, "windowSec") != nil || r.member(t, "toWaitSec") != 1.0 {
				t.Errorf("the body is %s", r.body)
			}
			if i == 0 {
				manager.seen(t, r, audit.StateBlockedConcurrency, audit.StateBlockedConcurrency)
			} else {
				manager.until(t, byRequest(r.id), audit.StateBlockedConcurrency, audit.StateBlockedConcurrency)
			}
		}
	})

	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		addr, _ := d.replica(t, "--api-call-wait", "20s")
		there := manager.at(addr)
		running := there.hold(t).running()
		waits := make(chan reply, 1)
		go func() { waits <- there.do(t.Context(), http.MethodPost, searchPath, strings.NewReader("{}")) }()
		began := time.Now()
		queued := manager.until(t, `state:Queued`, audit.StateQueued, "Queued")
		t.Logf("Queued: in the list %s after it was sent", time.Since(began).Round(time.Millisecond))
		if r := running.end(); r.status != http.StatusOK {
			t.Errorf("the call that ran got %d %s", r.status, r.body)
		}
		r := <-waits
		if r.err != nil || r.status != http.StatusOK {
			t.Fatalf("the call that waited got %v %d %s", r.err, r.status, r.body)
		}
		if a := manager.seen(t, r, audit.StateFinished, "Queued, Running, Finished"); a.CallID != queued.CallID {
			t.Errorf("call %s was Queued, not %s", queued.CallID, a.CallID)
		}
	})

	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		addr, process := d.replica(t)
		running := manager.at(addr).hold(t).running()
		listed := manager.until(t, byRequest(running.id), audit.StateRunning, audit.StateRunning)
		process.Kill()
		killed := time.Now()
		byID := fmt.Sprintf("callId:%q", listed.CallID)
		a := manager.until(t, byID, audit.StateExpired, "Running, Expired")
		t.Logf("Expired: in the list %s after kill -9", time.Since(killed).Round(time.Millisecond))
		if a.HTTPStatus != 0 || a.Reason == "" {
			t.Errorf("%+v", a)
		}
		if _, n := manager.list(t, byID); n != 1 {
			t.Errorf("the call is listed %d times", n)
		}
		if rows := d.stored(t, "SELECT state, count() FROM api_call_events WHERE call_id = '"+a.CallID+"' GROUP BY state ORDER BY state FORMAT TSV"); rows != "Expired\t1\nRunning\t1" {
			t.Errorf("stored of the call:\n%s", rows)
		}
	})
}

// checkHeaders compares headers of an answer; "" is none.
func checkHeaders(t *testing.T, r reply, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := r.header.Get(name); got != value {
			t.Errorf("%d has %s: %q, want %q", r.status, name, got, value)
		}
	}
}
