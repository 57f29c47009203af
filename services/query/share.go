package query

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var (
	// errTaken says that a share stayed used up for as long as one may wait.
	errTaken = errors.New("all taken")
	// errOwnTaken says that the asker itself holds as much as one may.
	errOwnTaken = errors.New("the asker's part is taken")
)

// share is a supply, of places or of bytes, that requests take from and give
// back to. No asker holds more than a part of it, so that one subscription
// cannot keep the others out. Safe for concurrent use.
type share struct {
	total, each int64 // all there is, and the most of one asker

	mu    sync.Mutex
	used  int64            // guarded by mu
	held  map[string]int64 // by asker; guarded by mu
	queue []*waiter        // first come, first; guarded by mu
}

type waiter struct {
	who     string
	n       int64
	granted chan struct{}
}

// newShare makes a share of which one asker may hold half, but at least 1.
func newShare(total int64) *share {
	return &share{total: total, each: max(1, total/2), held: map[string]int64{}}
}

// take takes n for who; the caller gives it back, once. More than one asker may hold
// counts as all that one may. The error is errTaken or errOwnTaken after wait,
// or errClientGone when ctx ended.
func (s *share) take(ctx context.Context, who string, n int64, wait time.Duration) (give func(), err error) {
	w := &waiter{who: who, n: min(n, s.each), granted: make(chan struct{})}
	s.mu.Lock()
	s.queue = append(s.queue, w)
	s.serve()
	s.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.granted:
		return func() { s.give(w) }, nil
	case <-ctx.Done():
		err = errClientGone
	case <-timer.C:
		err = errTaken
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, w)
	if i < 0 { // granted at the last moment
		return func() { s.give(w) }, nil
	}
	if err == errTaken && s.held[who]+w.n > s.each { //nolint:errorlint // set above
		err = errOwnTaken
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	s.serve() // those behind it may fit
	return nil, err
}

func (s *share) give(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= w.n
	if s.held[w.who] -= w.n; s.held[w.who] == 0 {
		delete(s.held, w.who)
	}
	s.serve()
}

// serve grants in the order of the queue. Who holds all that one may is passed
// over; who waits for the others holds up those behind, or large takes would
// starve. mu is held.
func (s *share) serve() {
	full := false
	s.queue = slices.DeleteFunc(s.queue, func(w *waiter) bool {
		if full || s.held[w.who]+w.n > s.each {
			return false
		}
		if full = s.used+w.n > s.total; full {
			return false
		}
		s.used += w.n
		s.held[w.who] += w.n
		close(w.granted)
		return true
	})
}
