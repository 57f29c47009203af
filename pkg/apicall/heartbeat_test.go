package apicall_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
)

func TestLongCallsGiveSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: oneAtATime, MaxWait: time.Minute})
		h := calls.Handler(jobs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { pass(25 * time.Second) }))
		go get(h)
		pass(time.Millisecond)
		go get(h)
		pass(time.Minute)
		records := byCall(mustTell(t, rec,
			"Running, [Running], [Running], Finished 200",
			"Queued, [Queued], [Queued], Running, [Running], [Running], Finished 200"))
		for _, call := range records {
			for i, r := range call {
				if i == 0 {
					continue
				}
				if gap := r.UpdatedDate - call[i-1].UpdatedDate; gap < 0 || gap > 11_000 {
					t.Errorf("silent for %d ms before %s, want at most 11 s", gap, r.State)
				}
				if r.SubmittedDate != call[0].SubmittedDate || r.Client == "" || r.UserName == "" {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}

// TestAPlaceIsHeldForAsLongAsItsCallRuns, though leases are short.
func TestAPlaceIsHeldForAsLongAsItsCallRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, _ := open(t, apicall.Config{Limits: oneAtATime})
		b := newBlocking()
		h := calls.Handler(jobs, b)
		go get(h)
		<-b.began
		for range 50 {
			pass(7 * time.Second)
			if w := get(h); w.Code != http.StatusTooManyRequests {
				t.Fatalf("status %d: the place was given away", w.Code)
			}
		}
		close(b.goOn)
		synctest.Wait()
		if w := get(h); w.Code != http.StatusNoContent {
			t.Errorf("status %d: the place is not free", w.Code)
		}
	})
}

func TestCloseWaitsForCallsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{})
		b := newBlocking()
		h := calls.Handler(jobs, b)
		go get(h)
		<-b.began
		soon, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		go func() {
			pass(12 * time.Second)
			close(b.goOn)
		}()
		began := time.Now()
		if err := calls.Close(soon); err != nil || time.Since(began) != 12*time.Second {
			t.Errorf("closed after %s: %v", time.Since(began), err)
		}
		synctest.Wait()
		mustTell(t, rec, "Running, [Running], Finished 204")
		get(h)
		mustTell(t, rec, "Running, [Running], Finished 204", "Running, Finished 204")
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{})
		b := newBlocking()
		go get(calls.Handler(jobs, b))
		<-b.began
		soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := calls.Close(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		pass(time.Minute)
		mustTell(t, rec, "Running")
		close(b.goOn)
		synctest.Wait()
		mustTell(t, rec, "Running, Finished 204")
	})
}

// TestNoSignOfLifeFollowsTheEnd: a reader would take the call for one that runs.
func TestNoSignOfLifeFollowsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, rec := open(t, apicall.Config{Limits: fixed(apicall.Limit{})})
		for range 300 {
			run, err := calls.Begin(t.Context(), apicall.Call{API: jobs, Caller: maria})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				pass(apicall.HeartbeatEvery) // at the very tick
				run.End(200, "")
			}()
		}
		pass(time.Minute)
		for _, call := range byCall(rec.Calls()) {
			if s := story(call); s != "Running, Finished 200" && s != "Running, [Running], Finished 200" {
				t.Fatalf("story %s", s)
			}
		}
		if s := calls.Stats(); s.Finished != 300 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
	})
}
