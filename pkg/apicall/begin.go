package apicall

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// ErrCountersAway is what Begin returns when nobody knows whether a call may
// run, and Config.FailClosed.
var ErrCountersAway = errors.New("limits cannot be checked, and calls run only within them: try again")

// Call is a call that is not HTTP, or that Handler does not see.
type Call struct {
	// API names what is called, as limits do. Required; at most
	// audit.MaxAPIBytes, without a leading slash or a star at its end.
	API string
	// Caller is who calls. Required.
	Caller Caller
	// Method, Client, SourceIP and RequestID are as in audit.APICall; all may be
	// empty. What is too long is cut.
	Method, Client, SourceIP, RequestID string
	// Unplaced calls take no place among the concurrent ones: streams, long polls
	// and downloads.
	Unplaced bool
	// Unlimited calls are told of, and never blocked.
	Unlimited bool
}

// Running is a call that was admitted. End it. Safe for concurrent use.
type Running struct {
	calls     *Calls // nil of an exempt call
	submitted time.Time
	started   time.Time
	limit     Limit
	unplaced  bool
	decision  Decision
	counted   bool // decision says what came of asking

	// mu holds the records of the call in order, so that no sign of life
	// follows the end.
	mu     sync.Mutex
	record audit.APICall // guarded by mu but for what describe fills in
	ended  bool          // guarded by mu

	placed atomic.Bool // it has a place to give back, or may have one

	prev, next *Running  // in Calls.open, guarded by Calls.mu
	told       time.Time // when it gave its last sign of life; guarded by Calls.mu
}

// Begin admits a call, or not. It waits for a place for Config.MaxWait at most.
//
//	call, err := calls.Begin(ctx, apicall.Call{API: "jobs/run", Caller: caller})
//	if blocked, ok := errors.AsType[*apicall.BlockedError](err); ok {
//		return fmt.Errorf("try again in %s: %w", blocked.RetryAfter(), err)
//	}
//	if err != nil {
//		return err
//	}
//	defer func() { call.End(0, "") }()
//
// The error is a *BlockedError when a limit blocks the call, ErrCountersAway,
// ctx's error when it ends while the call waits, or says what is wrong with
// call. All but the last are told of.
func (c *Calls) Begin(ctx context.Context, call Call) (*Running, error) {
	if err := checkAPI(call.API); err != nil {
		return nil, fmt.Errorf("begin api call: %w", err)
	}
	run := &Running{}
	if c.exempt(call.API) {
		return run, nil
	}
	if err := c.begin(ctx, run, &call); err != nil {
		return nil, fmt.Errorf("begin api call: %w", err)
	}
	return run, nil
}

// begin is Begin into memory of the caller's, for a call whose API is good and
// not exempt.
func (c *Calls) begin(ctx context.Context, run *Running, call *Call) error {
	run.calls = c
	run.submitted = time.Now()
	if err := run.describe(call); err != nil {
		return err
	}
	run.unplaced = call.Unplaced
	if !call.Unlimited {
		run.limit = c.limitOf(&call.Caller, call.API)
		if run.unplaced {
			run.limit.Concurrency = 0
		}
	}
	if err := c.admit(ctx, run); err != nil {
		c.turnAway(run, err) //nolint:contextcheck // a place is given back also when the request is over
		return err
	}
	run.start()
	return nil
}

// start tells that the call runs.
func (run *Running) start() {
	c := run.calls
	run.mu.Lock()
	waited := run.record.State == audit.StateQueued
	run.started = run.submitted
	if waited || !c.local {
		run.started = time.Now() // else no time has passed, and a look at the clock is dear
	}
	if waited {
		c.count.waiting.Add(-1)
	} else {
		c.enlist(run)
	}
	c.count.running.Add(1)
	run.enter(audit.StateRunning, run.started)
	c.emit(&run.record)
	run.mu.Unlock()
}

// enter changes the record to a state. mu is held.
func (run *Running) enter(state string, now time.Time) {
	run.record.State = state
	// The time since is monotonic: a wall clock that is set back cannot put the
	// change before the submission.
	run.record.UpdatedDate = run.submitted.Add(now.Sub(run.submitted)).UnixMilli()
}

// turnAway tells that a call does not run, and why.
func (c *Calls) turnAway(run *Running, err error) {
	run.release()
	run.mu.Lock()
	defer run.mu.Unlock()
	state, status := audit.StateFinished, 0
	var blocked *BlockedError
	switch {
	case errors.As(err, &blocked):
		state, status = blocked.state(), c.blockedStatus()
		if blocked.By == BlockedRate {
			c.count.blockedRate.Add(1)
		} else {
			c.count.blockedConcurrency.Add(1)
		}
		run.record.Reason = blocked.Error()
	case errors.Is(err, ErrCountersAway):
		status = http.StatusServiceUnavailable
		c.count.refused.Add(1)
		run.record.Reason = reasonRefused
	default:
		status = statusClientGone
		c.count.gaveUp.Add(1)
		run.record.Reason = reasonGaveUp
	}
	waited := run.record.State == audit.StateQueued
	run.record.Reason = clean(run.record.Reason, audit.MaxReasonBytes)
	if run.record.Method != "" {
		run.record.HTTPStatus = uint32(status)
	}
	run.enter(state, time.Now())
	run.ended = true
	c.emit(&run.record)
	if waited {
		c.count.waiting.Add(-1)
		c.delist(run)
	}
}

// CallID returns the id that the call is listed by; "" of an exempt one.
func (run *Running) CallID() string { return run.record.CallID }

// End tells that the call is over, and frees its place: the status of the
// answer, 100 to 599 or 0 when there is none, and for people a reason, "" as a
// rule. A second End does nothing.
func (run *Running) End(status int, reason string) {
	c := run.calls
	if c == nil {
		return
	}
	run.release()
	run.mu.Lock()
	if run.ended {
		run.mu.Unlock()
		return
	}
	run.ended = true
	now := time.Now()
	run.enter(audit.StateFinished, now)
	run.record.DurationMs = uint32(min(max(now.Sub(run.started).Milliseconds(), 0), 1<<32-1))
	run.record.HTTPStatus = 0
	if status >= 100 && status <= 599 {
		run.record.HTTPStatus = uint32(status)
	}
	if reason != "" {
		run.because(reason)
	}
	c.emit(&run.record)
	run.mu.Unlock()
	c.count.running.Add(-1)
	c.count.finished.Add(1)
	c.delist(run)
}

// because adds a reason to that which the record has. mu is held.
func (run *Running) because(reason string) {
	if run.record.Reason != "" {
		reason = run.record.Reason + "; " + reason
	}
	run.record.Reason = clean(reason, audit.MaxReasonBytes)
}

// release gives the call's place back, if it may have one, before its end.
func (run *Running) release() {
	if run.placed.Load() && run.placed.Swap(false) {
		run.calls.giveBack(run)
	}
}

// enlist makes the call give signs of life.
func (c *Calls) enlist(run *Running) {
	c.mu.Lock()
	c.open.push(run, run.submitted)
	c.mu.Unlock()
}

// delist ends them.
func (c *Calls) delist(run *Running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open.remove(run)
	if c.open.n == 0 && c.closed != nil {
		close(c.closed)
		c.closed = nil
	}
}
