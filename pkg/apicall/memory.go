package apicall

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Memory counts calls in the memory of one process, exactly, in constant time.
// It goes by the process's monotonic clock, so that a wall clock that is set
// changes nothing.
//
// Its memory: eight bytes for each call that is in a window, so at most twice
// Limit.Calls*8 for a key, and about 200 bytes for each place. A key that is
// idle, without a place or a call in its window, is dropped as other calls
// come in; idle keys never outnumber the others for long.
//
// Make it with NewMemory. Safe for concurrent use. Its methods never fail.
type Memory struct {
	now    func() time.Duration // monotonic
	seed   maphash.Seed
	shards [64]shard
}

var _ Counters = (*Memory)(nil)

// shard is a part of the keys, so that calls of different keys seldom wait for
// each other.
type shard struct {
	mu   sync.Mutex
	keys map[Key]*tally
	// all are the tallies again, in no order; swept is the next to be looked at.
	all   []*tally
	swept int
}

// NewMemory makes counters without calls.
func NewMemory() *Memory {
	began := time.Now()
	return newMemory(func() time.Duration { return time.Since(began) })
}

// newMemory is NewMemory by another clock.
func newMemory(now func() time.Duration) *Memory {
	m := &Memory{now: now, seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].keys = map[Key]*tally{}
	}
	return m
}

func (m *Memory) shard(key Key) *shard {
	return &m.shards[maphash.Comparable(m.seed, key)%uint64(len(m.shards))]
}

// Take implements Counters.
func (m *Memory) Take(_ context.Context, ask Ask) (Decision, error) {
	s := m.shard(ask.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := m.now() // under the lock, so that times of a key are in order
	s.sweep(now)
	t := s.keys[ask.Key]
	if t == nil {
		t = s.add(ask.Key)
	}
	return t.take(&ask, now), nil
}

// Release implements Counters.
func (m *Memory) Release(_ context.Context, key Key, callID string) error {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.keys[key]; t != nil {
		t.places.remove(callID)
	}
	return nil
}

// Renew implements Counters.
func (m *Memory) Renew(_ context.Context, places []Place) error {
	for _, p := range places {
		m.renew(p)
	}
	return nil
}

func (m *Memory) renew(p Place) {
	s := m.shard(p.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.keys[p.Key]; t != nil {
		now := m.now()
		t.places.expire(now)
		t.places.renew(p.CallID, now+LeaseTimeout)
	}
}

// Usage implements Counters.
func (m *Memory) Usage(_ context.Context, key Key, limit Limit) (Usage, error) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.keys[key]
	if t == nil {
		return Usage{}, nil
	}
	now := m.now()
	t.places.expire(now)
	return t.usage(limit, now), nil
}

// Close implements Counters: there is nothing to give up.
func (m *Memory) Close() error { return nil }

// add makes the tally of a key.
func (s *shard) add(key Key) *tally {
	t := &tally{key: key}
	s.keys[key] = t
	s.all = append(s.all, t)
	return t
}

// sweep looks at two keys and drops those that are idle. A call adds one key
// at most, so the idle ones cannot outgrow the others.
func (s *shard) sweep(now time.Duration) {
	for range min(2, len(s.all)) {
		if s.swept >= len(s.all) {
			s.swept = 0
		}
		t := s.all[s.swept]
		if !t.idle(now) {
			s.swept++
			continue
		}
		last := len(s.all) - 1
		s.all[s.swept] = s.all[last]
		s.all[last] = nil
		s.all = s.all[:last]
		delete(s.keys, t.key)
	}
}

// tally counts the calls of one key. Guarded by its shard's lock.
type tally struct {
	key    Key
	begun  ring          // when the calls of the window began
	window time.Duration // of the last limit
	places places
}

// take decides, and counts the call if it may run.
func (t *tally) take(ask *Ask, now time.Duration) Decision {
	t.places.expire(now)
	if ask.Limit.Calls > 0 {
		t.window = ask.Limit.Window
	}
	t.begun.dropUntil(now - t.window)
	var d Decision
	switch {
	case !ask.Unplaced && t.places.has(ask.CallID):
		// It was admitted before, and the answer was lost.
	case !ask.Unplaced && ask.Limit.Concurrency > 0 && t.places.len() >= ask.Limit.Concurrency:
		d.Blocked = BlockedConcurrency
	case ask.Limit.Calls > 0 && t.begun.len() >= ask.Limit.Calls:
		d.Blocked = BlockedRate
	default:
		if !ask.Unplaced {
			t.places.add(ask.CallID, now+LeaseTimeout)
		}
		if ask.Limit.Calls > 0 {
			t.begun.push(now)
		}
	}
	d.Usage = t.usage(ask.Limit, now)
	return d
}

// usage counts what is used of a limit.
func (t *tally) usage(limit Limit, now time.Duration) Usage {
	u := Usage{Running: t.places.len()}
	if limit.Calls <= 0 {
		return u
	}
	past := t.begun.until(now - limit.Window)
	u.Calls = t.begun.len() - past
	if over := u.Calls - limit.Calls; over >= 0 {
		// Another may begin when so many have left that one is free.
		u.Wait = t.begun.at(past+over) + limit.Window - now
	}
	return u
}

// idle says whether nothing would be lost with the tally.
func (t *tally) idle(now time.Duration) bool {
	t.places.expire(now)
	if t.places.len() > 0 {
		return false
	}
	n := t.begun.len()
	return n == 0 || t.begun.at(n-1) <= now-t.window
}
