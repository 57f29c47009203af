package apicall_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
)

var oneAtATime = fixed(apicall.Limit{Concurrency: 1})

func TestACallWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, MaxWait: 5 * time.Second})
		b := newBlocking()
		h := calls.Handler(jobs, b)
		go get(h)
		<-b.began
		go get(h)
		pass(time.Second)
		if s, want := calls.Stats(), (apicall.Stats{Running: 1, Waiting: 1}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
		close(b.goOn)
		synctest.Wait()
		records := mustTell(t, rec, "Running, Finished 204", "Queued, Running, Finished 204")
		waited := byCall(records)[1]
		if d := waited[1].UpdatedDate - waited[0].SubmittedDate; d != 1000 {
			t.Errorf("it ran after %d ms, want 1000: as soon as the place was free", d)
		}
		if waited[0].UpdatedDate != waited[0].SubmittedDate || waited[2].DurationMs != 0 {
			t.Errorf("%+v", waited)
		}
		if s, want := calls.Stats(), (apicall.Stats{Finished: 2}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	})
}

func TestWaitingCallsRunInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, MaxWait: time.Minute})
		h := calls.Handler(jobs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { pass(time.Second) }))
		for i := range 5 {
			go get(h, func(r *http.Request) { r.Header.Set("X-Request-Id", string(rune('a'+i))) })
			pass(130 * time.Millisecond)
		}
		pass(time.Minute)
		var order strings.Builder
		for _, r := range rec.Calls() {
			if r.State == "Running" && !r.Heartbeat {
				order.WriteString(r.RequestID)
			}
		}
		if order.String() != "abcde" {
			t.Errorf("they ran in the order %s", &order)
		}
		if at := rec.Calls(); at[len(at)-1].UpdatedDate-at[0].SubmittedDate != 5000 {
			t.Errorf("the last ended after %d ms, want 5000: no time between them", at[len(at)-1].UpdatedDate-at[0].SubmittedDate)
		}
	})
}

func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, MaxWait: 5 * time.Second})
		b := newBlocking()
		h := calls.Handler(jobs, b)
		go get(h)
		<-b.began
		began := time.Now()
		w := get(h)
		if took := time.Since(began); took != 5*time.Second || w.Code != http.StatusTooManyRequests {
			t.Errorf("%d after %s, want 429 after 5s", w.Code, took)
		}
		if !strings.Contains(w.Body.String(), "This one waited 5 seconds for a place.") || w.Header().Get("X-Concurrency-Limit-Running") != "1" {
			t.Errorf("%s %v", w.Body, w.Header())
		}
		ctx, hangUp := context.WithCancel(t.Context())
		go func() {
			pass(time.Second)
			hangUp()
		}()
		_, err := calls.Begin(ctx, apicall.Call{API: jobs, Caller: maria})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		ctx, hangUp = context.WithCancel(t.Context())
		go func() {
			pass(time.Second)
			hangUp()
		}()
		get(h, func(r *http.Request) { *r = *r.WithContext(ctx) })
		close(b.goOn)
		synctest.Wait()
		records := byCall(mustTell(t, rec, "Running, Finished 204", "Queued, Blocked (Concurrency) 429", "Queued, Finished", "Queued, Finished 499"))
		for _, call := range records[2:] {
			if reason := call[1].Reason; !strings.HasPrefix(reason, "gave up while it waited") {
				t.Errorf("reason %q", reason)
			}
		}
		if s, want := calls.Stats(), (apicall.Stats{Finished: 1, BlockedConcurrency: 1, GaveUp: 2}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	})
}

func TestWaitingDoesNotHelpAgainstARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: fixed(apicall.Limit{Concurrency: 1, Calls: 1, Window: time.Hour}), MaxWait: 5 * time.Second})
		b := newBlocking()
		h := calls.Handler(jobs, b)
		go get(h)
		<-b.began
		go get(h)
		pass(time.Second)
		close(b.goOn)
		synctest.Wait()
		began := time.Now()
		if w := get(h); w.Code != http.StatusTooManyRequests || time.Since(began) != 0 {
			t.Errorf("%d after %s", w.Code, time.Since(began))
		}
		mustTell(t, rec, "Running, Finished 204", "Queued, Blocked (Rate) 429", "Blocked (Rate) 429")
	})
}

// TestALineIsBounded: one subscription must not fill the process.
func TestALineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, _ := open(t, apicall.Config{Limits: oneAtATime, MaxWait: time.Minute})
		b := newBlocking()
		h := calls.Handler(jobs, b)
		go get(h)
		<-b.began
		for range 1000 {
			go get(h)
		}
		synctest.Wait()
		began := time.Now()
		if w := get(h); w.Code != http.StatusTooManyRequests || time.Since(began) != 0 {
			t.Errorf("%d after %s, want 429 at once", w.Code, time.Since(began))
		}
		close(b.goOn)
		synctest.Wait()
		if s, want := calls.Stats(), (apicall.Stats{Finished: 1001, BlockedConcurrency: 1}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	})
}

// TestWhoComesLaterWaitsLonger: a place that became free in another replica is
// the first's in line, though nobody has told it yet.
func TestWhoComesLaterWaitsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := apicall.NewMemory()
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, MaxWait: time.Minute, Counters: counters})
		elsewhere := takeElsewhere(t, counters)
		h := calls.Handler(jobs, answer(200))
		for _, id := range []string{"first", "second"} {
			go get(h, func(r *http.Request) { r.Header.Set("X-Request-Id", id) })
			synctest.Wait()
			if id == "first" {
				elsewhere()
			}
		}
		pass(time.Second)
		var order []string
		for _, r := range rec.Calls() {
			if r.State == audit.StateRunning {
				order = append(order, r.RequestID)
			}
		}
		if strings.Join(order, " ") != "first second" {
			t.Errorf("they ran in the order %q", order)
		}
	})
}

// TestAPlaceThatIsFreeBeforeTheCallIsInLine is not missed.
func TestAPlaceThatIsFreeBeforeTheCallIsInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := &lateRelease{Memory: apicall.NewMemory()}
		counters.after = takeElsewhere(t, counters.Memory)
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, MaxWait: time.Minute, Counters: counters})
		began := time.Now()
		get(calls.Handler(jobs, answer(200)))
		if d := time.Since(began); d != 0 {
			t.Errorf("the call waited %s for a place that was free", d)
		}
		mustTell(t, rec, "Queued, Running, Finished 200")
	})
}

// takeElsewhere takes the one place as another replica does, and returns what
// gives it back.
func takeElsewhere(t *testing.T, counters apicall.Counters) (giveBack func()) {
	t.Helper()
	key := apicall.Key{CustomerUUID: maria.CustomerUUID, API: jobs}
	d, err := counters.Take(t.Context(), apicall.Ask{Key: key, CallID: "elsewhere", Limit: apicall.Limit(oneAtATime)})
	if err != nil || d.Blocked != apicall.BlockedNot {
		t.Fatalf("%+v, %v", d, err)
	}
	return func() {
		if err := counters.Release(t.Context(), key, "elsewhere"); err != nil {
			t.Error(err)
		}
	}
}

// lateRelease are counters whose place becomes free right after the first
// question.
type lateRelease struct {
	*apicall.Memory
	after func()
}

func (l *lateRelease) Take(ctx context.Context, ask apicall.Ask) (apicall.Decision, error) {
	d, err := l.Memory.Take(ctx, ask)
	if l.after != nil {
		l.after()
		l.after = nil
	}
	return d, err
}
