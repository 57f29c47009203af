package apicall

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// countersTimeout is how long a question to the counters may take. They bound
// themselves to less; it holds what does not.
const countersTimeout = 3 * time.Second

// Reasons, as records tell them.
const (
	reasonUnenforced = "limits were not enforced: the counters of calls did not answer"
	reasonRefused    = "refused: the counters of calls did not answer, and calls run only within limits"
	reasonGaveUp     = "gave up while it waited for a place: the client hung up, or its time was over"
)

// admit asks whether the call may run, and waits for a place where calls wait.
func (c *Calls) admit(ctx context.Context, run *Running) error {
	if run.limit == (Limit{}) {
		return nil
	}
	if c.cfg.MaxWait > 0 && run.limit.Concurrency > 0 {
		return c.admitInTurn(ctx, run)
	}
	return c.take(ctx, run)
}

// take asks once. Nil means that the call may run.
func (c *Calls) take(ctx context.Context, run *Running) error {
	if !c.local {
		// A client that hangs up must not leave open whether its call counts.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), countersTimeout)
		defer cancel()
	}
	d, err := c.cfg.Counters.Take(ctx, Ask{Key: run.key(), CallID: run.record.CallID, Limit: run.limit, Unplaced: run.unplaced})
	if err != nil {
		c.failed("take", err)
		run.placed.Store(!run.unplaced) // perhaps: an answer that is lost may have given it one
		return c.unanswered(run)
	}
	run.decision, run.counted = d, true
	if d.Blocked == BlockedNot {
		run.placed.Store(!run.unplaced)
		return nil
	}
	return &BlockedError{CallID: run.record.CallID, API: run.record.API, By: d.Blocked, Limit: run.limit, Usage: d.Usage}
}

// unanswered decides about a call of which nobody knows.
func (c *Calls) unanswered(run *Running) error {
	run.counted = false
	if c.cfg.FailClosed {
		return ErrCountersAway
	}
	c.count.unenforced.Add(1)
	run.mu.Lock()
	run.because(reasonUnenforced)
	run.mu.Unlock()
	return nil
}

// giveBack frees the place of a call, and lets the next in line ask.
func (c *Calls) giveBack(run *Running) {
	key := run.key()
	if err := c.bounded(func(ctx context.Context) error {
		return c.cfg.Counters.Release(ctx, key, run.record.CallID)
	}); err != nil {
		c.failed("release", err) // the place is free when its lease ends
	}
	c.nextInLine(key)
}

// bounded runs one question of its own time, whatever becomes of the request.
func (c *Calls) bounded(ask func(context.Context) error) error {
	if c.local {
		return ask(context.Background())
	}
	ctx, cancel := context.WithTimeout(context.Background(), countersTimeout)
	defer cancel()
	return ask(ctx)
}

func (run *Running) key() Key {
	return Key{CustomerUUID: run.record.CustomerUUID, API: run.record.API}
}

// failed counts a question without an answer.
func (c *Calls) failed(question string, err error) {
	c.count.countersErrors.Add(1)
	c.cfg.Logger.Error("counters of api calls do not answer", zap.String("question", question), zap.Error(err))
}
