package counterstest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
)

// clients is how many ask at a time.
const clients = 64

// span is when a call was admitted: between asking and hearing of it.
type span struct{ asked, heard time.Time }

// soManyInAnyWindow lets many clients ask as fast as they may, and slides a
// window over the admissions.
func (s *suite) soManyInAnyWindow() {
	const windows = 3
	limit := apicall.Limit{Calls: 40, Window: s.Window}
	end := time.Now().Add(windows*s.Window + s.Window/2)
	var mu sync.Mutex
	var admitted []span
	s.parallel(func() bool {
		ask := apicall.Ask{Key: aKey, CallID: s.newID(), Limit: limit}
		asked := time.Now()
		d, err := s.any().Take(s.Context(), ask)
		heard := time.Now()
		switch {
		case err != nil:
			s.Errorf("take: %v", err)
			return false
		case d.Blocked == apicall.BlockedNot:
			mu.Lock()
			admitted = append(admitted, span{asked, heard})
			mu.Unlock()
			if err := s.any().Release(s.Context(), aKey, ask.CallID); err != nil {
				s.Errorf("release: %v", err)
				return false
			}
		case d.Blocked != apicall.BlockedRate || d.Wait <= 0 || d.Wait > s.Window:
			s.Errorf("blocked with %+v, want by rate and a wait within the window", d)
			return false
		default:
			s.pause(min(d.Wait, time.Until(end)))
		}
		return time.Now().Before(end)
	})
	// The n-th admission was not after the n-th answer, and not before the n-th
	// question.
	asked, heard := make([]time.Time, len(admitted)), make([]time.Time, len(admitted))
	for i, a := range admitted {
		asked[i], heard[i] = a.asked, a.heard
	}
	slices.SortFunc(asked, time.Time.Compare)
	slices.SortFunc(heard, time.Time.Compare)
	for i := limit.Calls; i < len(admitted); i++ {
		if d := heard[i].Sub(asked[i-limit.Calls]); d < limit.Window {
			s.Fatalf("admissions %d to %d lie within %s, want at most %d in any %s", i-limit.Calls, i, d, limit.Calls, limit.Window)
		}
	}
	// Not one fewer, either: each window is filled as soon as it may be.
	want := limit.Calls * (windows + 1)
	if s.Fake && len(admitted) != want || len(admitted) < limit.Calls*windows {
		s.Fatalf("%d calls were admitted in %d windows and a half, want %d", len(admitted), windows, want)
	}
}

// soManyAtATime counts the calls between admission and release.
func (s *suite) soManyAtATime() {
	limit := apicall.Limit{Concurrency: 7}
	var running, most, done atomic.Int64
	var mu sync.Mutex
	s.parallel(func() bool {
		id := s.newID()
		d, err := s.any().Take(s.Context(), apicall.Ask{Key: aKey, CallID: id, Limit: limit})
		if err != nil {
			s.Errorf("take: %v", err)
			return false
		}
		if d.Running > limit.Concurrency {
			s.Errorf("%d run, at most %d may", d.Running, limit.Concurrency)
			return false
		}
		if d.Blocked == apicall.BlockedNot {
			n := running.Add(1)
			mu.Lock()
			most.Store(max(most.Load(), n))
			mu.Unlock()
			s.pause(time.Millisecond)
			running.Add(-1)
			if err := s.any().Release(s.Context(), aKey, id); err != nil {
				s.Errorf("release: %v", err)
				return false
			}
			done.Add(1)
		} else {
			s.pause(time.Millisecond)
		}
		return done.Load() < 10*clients
	})
	if most.Load() != int64(limit.Concurrency) {
		s.Errorf("at most %d ran at a time, want %d", most.Load(), limit.Concurrency)
	}
	s.used(aKey, limit, 0, 0)
}

// parallel calls step in many goroutines, each until it returns false.
func (s *suite) parallel(step func() bool) {
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for step() {
				if s.Context().Err() != nil {
					return
				}
			}
		})
	}
	all.Wait()
}
