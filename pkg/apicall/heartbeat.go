package apicall

import (
	"context"
	"slices"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

const (
	// beatTick is how often calls are looked for that are due.
	beatTick = time.Second

	// renewAtOnce is how many places are renewed with one question.
	renewAtOnce = 1000
)

// heartbeats is the one goroutine that gives signs of life, until Close.
func (c *Calls) heartbeats() {
	defer close(c.stopped)
	tick := time.NewTicker(beatTick)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
			c.beat(time.Now())
		}
	}
}

// beat gives a sign of life of every call that is due, and renews its place.
func (c *Calls) beat(now time.Time) {
	var held []Place
	for _, run := range c.due(now) {
		if run.beat() {
			held = append(held, Place{Key: run.key(), CallID: run.record.CallID})
		}
	}
	for places := range slices.Chunk(held, renewAtOnce) {
		// A call that ends meanwhile is no harm: renewing makes no place.
		if err := c.bounded(func(ctx context.Context) error { return c.cfg.Counters.Renew(ctx, places) }); err != nil {
			c.failed("renew", err)
		}
	}
}

// due takes the calls that were silent for long enough, to the end of the list.
func (c *Calls) due(now time.Time) []*Running {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*Running
	for run := c.open.first; run != nil && now.Sub(run.told) >= HeartbeatEvery; run = c.open.first {
		c.open.remove(run)
		c.open.push(run, now)
		due = append(due, run)
	}
	return due
}

// beat gives the sign of life, and says whether the call holds a place.
func (run *Running) beat() bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.ended {
		return false
	}
	sign := run.record
	sign.Heartbeat = true
	sign.UpdatedDate = run.submitted.Add(time.Since(run.submitted)).UnixMilli()
	run.calls.emit(&sign)
	return run.placed.Load() && sign.State == audit.StateRunning
}
