package apicall_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
)

var errAway = errors.New("nobody answers")

// flaky are counters that fail, hang or answer.
type flaky struct {
	*apicall.Memory
	mu       sync.Mutex
	fail     error
	hang     bool
	released int
	renewed  [][]apicall.Place
	ctxErr   error // of a request to release
}

func (f *flaky) set(fail error, hang bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.hang = fail, hang
}

func (f *flaky) answer(ctx context.Context) error {
	f.mu.Lock()
	fail, hang := f.fail, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (f *flaky) Take(ctx context.Context, ask apicall.Ask) (apicall.Decision, error) {
	if err := f.answer(ctx); err != nil {
		return apicall.Decision{}, err
	}
	return f.Memory.Take(ctx, ask)
}

func (f *flaky) Release(ctx context.Context, key apicall.Key, callID string) error {
	f.mu.Lock()
	f.released++
	f.ctxErr = errors.Join(f.ctxErr, ctx.Err())
	f.mu.Unlock()
	if err := f.answer(ctx); err != nil {
		return err
	}
	return f.Memory.Release(ctx, key, callID)
}

func (f *flaky) Renew(ctx context.Context, places []apicall.Place) error {
	f.mu.Lock()
	f.renewed = append(f.renewed, places)
	f.mu.Unlock()
	if err := f.answer(ctx); err != nil {
		return err
	}
	return f.Memory.Renew(ctx, places)
}

func TestCountersAwayFailOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := &flaky{Memory: apicall.NewMemory(), fail: errAway}
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, Counters: counters})
		h := calls.Handler(jobs, answer(200))
		w := get(h)
		if w.Code != 200 || len(w.Header()) != 0 {
			t.Errorf("%d %v, want 200 without headers: nobody knows", w.Code, w.Header())
		}
		for _, r := range mustTell(t, rec, "Running, Finished 200") {
			if r.Reason != "limits were not enforced: the counters of calls did not answer" {
				t.Errorf("%s for the reason %q", r.State, r.Reason)
			}
		}
		counters.set(nil, true)
		began := time.Now()
		// One bound for the question, one for giving back what it may have taken.
		if w := get(h); w.Code != 200 || time.Since(began) > 6*time.Second {
			t.Errorf("%d after %s", w.Code, time.Since(began))
		}
		counters.set(nil, false)
		if w := get(h); w.Header().Get("X-Concurrency-Limit-Running") != "1" {
			t.Errorf("%v: the counters answer again", w.Header())
		}
		if s, want := calls.Stats(), (apicall.Stats{Finished: 3, Unenforced: 2, CountersErrors: 4}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	})
}

func TestCountersAwayFailClosed(t *testing.T) {
	calls, rec := open(t, apicall.Config{Limits: oneAtATime, FailClosed: true, Counters: &flaky{Memory: apicall.NewMemory(), fail: errAway}})
	w := get(calls.Handler(jobs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the call ran") })))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "urn:auditrail:problem:unavailable") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if r := mustTell(t, rec, "Finished 503"); !strings.HasPrefix(r[0].Reason, "refused:") {
		t.Errorf("reason %q", r[0].Reason)
	}
	if _, err := calls.Begin(t.Context(), apicall.Call{API: jobs, Caller: maria}); !errors.Is(err, apicall.ErrCountersAway) {
		t.Errorf("error %v", err)
	}
	if s, want := calls.Stats(), (apicall.Stats{Refused: 2, CountersErrors: 4}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// mute are counters that count a call, and whose answer is lost.
type mute struct {
	*apicall.Memory
	lost int // answers to lose
}

func (m *mute) Take(ctx context.Context, ask apicall.Ask) (apicall.Decision, error) {
	d, err := m.Memory.Take(ctx, ask)
	if m.lost > 0 {
		m.lost--
		return apicall.Decision{}, errAway
	}
	return d, err
}

// TestAPlaceThatNobodyKnowsOf is held while its call runs, and given back, as
// others are: whether it was taken is not known when the answer is lost.
func TestAPlaceThatNobodyKnowsOf(t *testing.T) {
	t.Run("fail open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls, _ := open(t, apicall.Config{Limits: oneAtATime, Counters: &mute{Memory: apicall.NewMemory(), lost: 1}})
			run, err := calls.Begin(t.Context(), apicall.Call{API: jobs, Caller: maria})
			if err != nil {
				t.Fatal(err)
			}
			h := calls.Handler(jobs, answer(200))
			pass(2 * apicall.LeaseTimeout)
			if w := get(h); w.Code != http.StatusTooManyRequests {
				t.Errorf("status %d while a call runs that has the place", w.Code)
			}
			run.End(200, "")
			if w := get(h); w.Code != 200 {
				t.Errorf("status %d: the place was not given back", w.Code)
			}
		})
	})
	t.Run("fail closed", func(t *testing.T) {
		calls, _ := open(t, apicall.Config{Limits: oneAtATime, FailClosed: true, Counters: &mute{Memory: apicall.NewMemory(), lost: 3}})
		h := calls.Handler(jobs, answer(200))
		for range 3 {
			if w := get(h); w.Code != http.StatusServiceUnavailable {
				t.Errorf("status %d", w.Code)
			}
		}
		if w := get(h); w.Code != 200 {
			t.Errorf("status %d: calls that did not run hold the place", w.Code)
		}
	})
}

// TestAPlaceIsGivenBackWhateverBecameOfTheRequest: the client is gone, and its
// context with it.
func TestAPlaceIsGivenBackWhateverBecameOfTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := &flaky{Memory: apicall.NewMemory()}
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, Counters: counters})
		ctx, hangUp := context.WithCancel(t.Context())
		get(calls.Handler(jobs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hangUp() })),
			func(r *http.Request) { *r = *r.WithContext(ctx) })
		if counters.released != 1 || counters.ctxErr != nil {
			t.Errorf("released %d times, with a context that says %v", counters.released, counters.ctxErr)
		}
		get(calls.Handler(jobs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { counters.set(nil, true) })))
		mustTell(t, rec, "Running, Finished 499", "Running, Finished 200")
		if s, want := calls.Stats(), (apicall.Stats{Finished: 2, CountersErrors: 1}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
		counters.set(nil, false)
		h := calls.Handler(jobs, answer(200))
		if w := get(h); w.Code != http.StatusTooManyRequests {
			t.Errorf("status %d: the release was lost", w.Code)
		}
		pass(apicall.LeaseTimeout)
		if w := get(h); w.Code != 200 {
			t.Errorf("status %d: the lease is over", w.Code)
		}
	})
}

// TestPlacesAreRenewedTogether, and only those.
func TestPlacesAreRenewedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := &flaky{Memory: apicall.NewMemory()}
		calls, _ := open(t, apicall.Config{Limits: fixed(apicall.Limit{Calls: 5000, Window: time.Hour}), Counters: counters})
		var runs []*apicall.Running
		for i := range 1500 {
			run, err := calls.Begin(t.Context(), apicall.Call{API: jobs, Caller: maria, Unplaced: i%3 == 0})
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		pass(12 * time.Second)
		counters.mu.Lock()
		renewed := counters.renewed
		counters.mu.Unlock()
		if len(renewed) != 1 || len(renewed[0]) != 1000 {
			t.Errorf("%d questions, want one about 1000 places", len(renewed))
		}
		for _, run := range runs {
			run.End(0, "")
		}
		pass(20 * time.Second)
		if len(counters.renewed) != 1 {
			t.Error("places of calls that ended were renewed")
		}
	})
}
