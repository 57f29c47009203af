package apicall

import (
	"sync/atomic"
	"time"
)

const (
	// awayAfter is after how many questions without an answer, one after the
	// other, the counters count as away. Then one call asks in awayPause, and the
	// others do not wait for an answer that does not come.
	awayAfter = 5
	awayPause = time.Second
)

// health is whether the counters answer.
type health struct {
	began    time.Time
	failures atomic.Int32
	askAt    atomic.Int64 // when one may ask again, in nanoseconds since began
}

// away says whether the counters are known not to answer.
func (h *health) away() bool { return h.failures.Load() >= awayAfter }

// mayAsk says whether a call should ask.
func (h *health) mayAsk() bool {
	if !h.away() {
		return true
	}
	now, at := int64(time.Since(h.began)), h.askAt.Load()
	return now >= at && h.askAt.CompareAndSwap(at, now+int64(awayPause))
}

func (h *health) answered() {
	if h.failures.Load() != 0 {
		h.failures.Store(0)
	}
}

func (h *health) failed() {
	if n := h.failures.Load(); n < awayAfter {
		h.askAt.Store(int64(time.Since(h.began) + awayPause))
		h.failures.Add(1)
	}
}
