package apicall

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// pollEvery is how often the first in a line asks, whose place may become free
// elsewhere: in another replica, or by its lease.
const pollEvery = 100 * time.Millisecond

// maxLine is how many calls of one key may wait: one subscription must not fill
// the process with them.
const maxLine = 1000

// line is the calls of one key that wait for a place, in order. Only the first
// asks. A value in its channel tells it that it is the first, or that asking may
// be worth it.
type line []chan struct{}

// admitInTurn asks, and waits in line while as many calls run as may.
func (c *Calls) admitInTurn(ctx context.Context, run *Running) error {
	key, since := run.key(), time.Now()
	if !c.hasLine(key) {
		if err := c.take(ctx, run); !wantsPlace(err) {
			return err
		}
	}
	turn := c.lineUp(key)
	if turn == nil {
		return c.take(ctx, run)
	}
	defer c.leaveLine(key, turn)
	c.queue(run)
	over := time.NewTimer(c.cfg.MaxWait)
	defer over.Stop()
	var poll <-chan time.Time // of the first in line
	for last := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			last = true
		case <-turn:
			if poll == nil {
				every := time.NewTicker(pollEvery)
				defer every.Stop()
				poll = every.C
			}
		case <-poll:
		}
		err := c.take(ctx, run)
		var blocked *BlockedError
		if last && errors.As(err, &blocked) {
			blocked.Waited = time.Since(since)
		}
		if last || !wantsPlace(err) {
			return err
		}
	}
}

// wantsPlace says whether waiting may help.
func wantsPlace(err error) bool {
	var blocked *BlockedError
	return errors.As(err, &blocked) && blocked.By == BlockedConcurrency
}

// queue tells that the call waits.
func (c *Calls) queue(run *Running) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.enter(audit.StateQueued, time.Now())
	c.count.waiting.Add(1)
	c.emit(&run.record)
	c.enlist(run)
}

// hasLine says whether calls of the key wait: whoever comes now is behind them.
func (c *Calls) hasLine(key Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines[key] != nil
}

// lineUp puts a call at the end; nil when the line is full. The first asks once
// more at once: a place may have become free before it was in line.
func (c *Calls) lineUp(key Key) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines[key]) >= maxLine {
		return nil
	}
	turn := make(chan struct{}, 1)
	if len(c.lines[key]) == 0 {
		turn <- struct{}{}
	}
	c.lines[key] = append(c.lines[key], turn)
	return turn
}

// leaveLine takes a call out, and lets the next one ask.
func (c *Calls) leaveLine(key Key, turn chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.lines[key]
	i := slices.Index(rest, turn)
	rest = slices.Delete(rest, i, i+1)
	if len(rest) == 0 {
		delete(c.lines, key)
		return
	}
	c.lines[key] = rest
	if i == 0 {
		wake(rest[0])
	}
}

// nextInLine lets the first call that waits for the key ask.
func (c *Calls) nextInLine(key Key) {
	if c.cfg.MaxWait == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[key]; len(l) > 0 {
		wake(l[0])
	}
}

func wake(turn chan struct{}) {
	select {
	case turn <- struct{}{}:
	default:
	}
}
