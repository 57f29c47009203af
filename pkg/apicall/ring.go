package apicall

import (
	"sort"
	"time"
)

// ring is a queue of times, oldest first, that grows as needed. The zero value
// is empty.
type ring struct {
	buf   []time.Duration // a power of two long
	first int
	n     int
}

func (r *ring) len() int { return r.n }

// at returns the i-th oldest.
func (r *ring) at(i int) time.Duration { return r.buf[(r.first+i)&(len(r.buf)-1)] }

// push adds a time that is not before those there.
func (r *ring) push(at time.Duration) {
	if r.n == len(r.buf) {
		grown := make([]time.Duration, max(4, 2*len(r.buf)))
		for i := range r.n {
			grown[i] = r.at(i)
		}
		r.buf, r.first = grown, 0
	}
	r.buf[(r.first+r.n)&(len(r.buf)-1)] = at
	r.n++
}

// until counts the times up to and including at.
func (r *ring) until(at time.Duration) int {
	if r.n == 0 || r.at(0) > at {
		return 0
	}
	return sort.Search(r.n, func(i int) bool { return r.at(i) > at })
}

// dropUntil removes the times up to and including at.
func (r *ring) dropUntil(at time.Duration) {
	for r.n > 0 && r.at(0) <= at {
		r.first = (r.first + 1) & (len(r.buf) - 1)
		r.n--
	}
	if r.n == 0 && len(r.buf) > 64 {
		r.buf, r.first = nil, 0 // a busy time is over
	}
}
