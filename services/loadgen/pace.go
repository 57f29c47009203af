package loadgen

import (
	"math"
	"time"
)

// pacer says how many events are due. Event n, from 0, is due n/rate seconds
// after the start, whenever the ones before it were sent: a late one delays
// none, and rounding adds nothing up.
type pacer struct {
	rate  float64 // events a second, 0 for no limit
	start time.Time
}

// tick is the shortest wait: at high rates events go in small batches, since a
// wait for each would cost more than the event.
const tick = 2 * time.Millisecond

func newPacer(rate float64, start time.Time) pacer { return pacer{rate: rate, start: start} }

// due is how many events are to be sent now, when so many are.
func (p pacer) due(now time.Time, sent int64) int64 {
	if p.rate == 0 {
		return math.MaxInt64
	}
	return int64(now.Sub(p.start).Seconds()*p.rate) + 1 - sent
}

// wait is the time until another event is due, a tick at least, and 0 when one
// is already.
func (p pacer) wait(now time.Time, sent int64) time.Duration {
	if p.due(now, sent) > 0 {
		return 0
	}
	at := float64(sent) / p.rate * float64(time.Second)
	if at >= math.MaxInt64 {
		return math.MaxInt64
	}
	return max(tick, time.Duration(math.Ceil(at))-now.Sub(p.start))
}
