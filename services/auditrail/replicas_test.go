package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// Three replicas count in one Redis, and one of them dies.
func TestReplicasShareLimits(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	d := newDev(t)
	// Where a busy machine keeps Redis from answering, nobody is admitted.
	shared := []string{"--redis-url", server.URL(), "--limits-fail-closed"}
	d.start(append(shared, "--demo-rate", "0")...)
	manager := d.manager()
	dies, process := d.replica(t, shared...)
	lives, _ := d.replica(t, shared...)
	all := []string{d.http, dies, lives}
	manager.limit(t, searchesOneByOne, all...)

	t.Run("64 clients", func(t *testing.T) {
		var admitted, unknown atomic.Int64
		var clients sync.WaitGroup
		transport := &http.Transport{MaxIdleConnsPerHost: 64}
		defer transport.CloseIdleConnections()
		for i := range 64 {
			clients.Go(func() {
				c := manager.at(all[i%len(all)])
				c.client = &http.Client{Transport: transport}
				for {
					r := c.do(t.Context(), http.MethodGet, fieldsPath, nil)
					switch {
					case r.err != nil:
						t.Error(r.err)
						return
					case r.status == http.StatusOK:
						admitted.Add(1)
						if n, err := strconv.Atoi(r.header.Get("X-Concurrency-Limit-Running")); err != nil || n < 1 || n > 2 {
							t.Errorf("%q calls run, Standard has 2", r.header.Get("X-Concurrency-Limit-Running"))
							return
						}
					case r.status == http.StatusServiceUnavailable: // Redis may have counted it
						unknown.Add(1)
					case r.status != http.StatusTooManyRequests:
						t.Errorf("%d %s", r.status, r.body)
						return
					case strings.Contains(r.body, "windowSec"): // the rate's
						return
					}
					select { // what runs may have ended
					case <-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond):
					case <-t.Context().Done():
						return
					}
				}
			})
		}
		clients.Wait()
		t.Logf("%d calls were admitted, of %d nobody knows", admitted.Load(), unknown.Load())
		if n := admitted.Load(); n > 300 || n+unknown.Load() < 300 {
			t.Errorf("%d calls were admitted and %d not decided, Standard has 300 an hour", n, unknown.Load())
		}
	})

	t.Run("kill", func(t *testing.T) {
		manager.at(dies).hold(t).running()
		there := manager.at(lives)
		if r := there.call(t, http.MethodPost, searchPath, "{}"); r.status == http.StatusOK {
			t.Fatalf("the only place is taken elsewhere, and a call is %d %s", r.status, r.body)
		}
		process.Kill()
		killed := time.Now()
		testenv.Until(t, deadline, nil, "the place of the dead replica", func() (bool, string) {
			r := there.call(t, http.MethodPost, searchPath, "{}")
			return r.status == http.StatusOK, fmt.Sprint(r.status, r.body)
		})
		t.Logf("the place was free %s after kill -9", time.Since(killed).Round(time.Millisecond))
	})
}

// While Redis is away calls run or are refused, as the replica was told; and
// when it is back it counts again.
func TestRedisGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	d := newDev(t)
	d.start("--demo-rate", "0", "--redis-url", server.URL())
	open := d.manager()
	addr, process := d.replica(t, "--redis-url", server.URL(), "--limits-fail-closed")
	closed := open.at(addr)
	open.limit(t, `{"apis": {"audit-log/admin/search/fields": {"calls": 2, "windowSec": 604800}, "audit-log/admin/api-calls*": {"unlimited": true}}}`, addr)
	enforced := func() {
		t.Helper()
		for _, c := range []struct {
			caller
			status int
		}{{open, http.StatusOK}, {closed, http.StatusOK}, {open, http.StatusTooManyRequests}, {closed, http.StatusTooManyRequests}} {
			if r := c.get(t, fieldsPath); r.status != c.status {
				t.Errorf("got %d %s, want %d", r.status, r.body, c.status)
			}
		}
	}
	enforced()

	server.Kill()
	var runs reply
	for range 5 { // more than may, and more than it takes until Redis is not asked
		runs = open.get(t, fieldsPath)
		if runs.status != http.StatusOK || runs.header.Get("X-RateLimit-Limit") != "" {
			t.Errorf("while Redis is away a call is %d with headers %v: %s", runs.status, runs.header, runs.body)
		}
	}
	if a := open.seen(t, runs, audit.StateFinished, "Running, Finished"); !strings.Contains(a.Reason, "limits were not enforced") {
		t.Errorf("the call that ran without a limit is listed with reason %q", a.Reason)
	}
	if _, n := open.list(t, `reason:"limits were not enforced"`); n != 5 {
		t.Errorf("%d calls ran without a limit by the list, want 5", n)
	}
	if n := metric(t, d.http, "auditrail_query_api_calls_unenforced_total"); n != "5" {
		t.Errorf("%s calls ran without a limit by the metric, want 5", n)
	}
	refused := closed.get(t, fieldsPath)
	if refused.status != http.StatusServiceUnavailable || refused.header.Get("Retry-After") == "" {
		t.Errorf("while Redis is away a call is %d with headers %v: %s", refused.status, refused.header, refused.body)
	}
	if a := open.seen(t, refused, audit.StateFinished, audit.StateFinished); !strings.Contains(a.Reason, "refused") {
		t.Errorf("the call that was refused is listed with reason %q", a.Reason)
	}
	if n := metric(t, addr, `auditrail_query_api_calls_total{end="refused"}`); n != "1" {
		t.Errorf("%s calls were refused by the metric, want 1", n)
	}

	server.Restart(t)
	began := time.Now()
	for _, c := range []caller{open, closed} { // of another API, which has Standard's limit
		testenv.Until(t, deadline, nil, "limits to be enforced", func() (bool, string) {
			r := c.get(t, "/audit-log/admin/settings")
			return r.status == http.StatusOK && r.header.Get("X-RateLimit-Limit") == "300", fmt.Sprint(r.status, r.header)
		})
	}
	t.Logf("enforced %s after Redis was back", time.Since(began).Round(time.Millisecond))
	enforced()
	for name, said := range map[string]string{"dev": d.log(), "query": words(process)} {
		if !strings.Contains(said, "counters of api calls do not answer") || strings.Contains(said, "failed to dial") {
			t.Errorf("%s is to say once, in its own log, that Redis is away:\n%s", name, said)
		}
	}
}

// metric is the value of a metric.
func metric(t *testing.T, addr, name string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "none"
}
