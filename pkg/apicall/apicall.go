// Package apicall puts a module's API under its subscriptions' limits and tells
// Auditrail of every call: who called what, when, and what came of it.
//
//	calls, err := apicall.New(apicall.Config{ModuleCode: "PM", Sink: emitter, Caller: callerOf})
//	...
//	mux.Handle("GET /api/v1/jobs/{id}", authenticate(calls.Handler("api/v1/jobs/{id}", jobs)))
//
// A call is Queued (only if it really waits), Running, then Finished; or Blocked
// (Rate) or Blocked (Concurrency); or Expired, when its process died. Each
// change of state is an audit.APICall on audit.APICallsTopic. How limits are
// found: docs/api-limits.md.
package apicall

import (
	"context"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Sink takes the states of calls. *emit.Emitter and *emittest.Recorder are
// sinks.
type Sink interface {
	// EmitCall takes one record and keeps nothing of it after it returns. It
	// never blocks and is safe for concurrent use. Errors as of emit.Sink.
	EmitCall(c audit.APICall) error
}

// Caller is who calls.
type Caller struct {
	CustomerUUID string // the subscription; required
	UserUUID     string // one of UserUUID and UserName is required
	UserName     string
	UserRole     string
	BusinessUnit string // of several, the first
	Tier         Tier   // of the subscription; anything unknown counts as Standard
}

// Tier is a subscription's service tier.
type Tier string

// Tiers, smallest first. Express Lite has the limits of Express.
const (
	TierExpressLite Tier = "Express Lite"
	TierExpress     Tier = "Express"
	TierStandard    Tier = "Standard"
	TierEnterprise  Tier = "Enterprise"
	TierPremium     Tier = "Premium"
)

// Limit bounds the calls of one subscription to one API. A zero member does not
// bound; the zero Limit is no limit at all.
type Limit struct {
	// Concurrency is how many calls may run at a time.
	Concurrency int
	// Calls is how many calls may begin in any Window, which is rolling: it
	// ends at each call. Blocked calls do not count.
	Calls  int
	Window time.Duration
}

// Limits knows the limits that were set for subscriptions. Implementations:
// package limittopic.
type Limits interface {
	// Limit returns what was set for a subscription's calls to an API; false
	// when nothing was, and the tier's limit counts. It never blocks and is safe
	// for concurrent use.
	Limit(customerUUID, api string) (Limit, bool)
}

// Counters counts calls against limits. Memory serves one replica; package
// rediscounters serves several. One suite, counterstest, holds both to what is
// said here. Safe for concurrent use. Those that others share bound each answer
// to a second, and fail at once while nobody answers.
type Counters interface {
	// Take decides whether a call may run, and counts it if so: concurrency
	// first, then the window, both at one moment. A blocked call changes
	// nothing. A call that holds a place already is admitted again and counted
	// no second time. An error means that nobody knows; the call may then be
	// counted or not.
	//
	// A call counts until Window has passed since it began. When a limit's
	// window becomes longer, calls that had left the shorter one may be
	// forgotten; calls that began while Calls was zero are not known.
	Take(ctx context.Context, ask Ask) (Decision, error)
	// Release gives the place of a call back. Of a call that has none it does
	// nothing.
	Release(ctx context.Context, key Key, callID string) error
	// Renew keeps the places of calls that still run for another LeaseTimeout.
	// A place that is not renewed is free after it. Renewing makes no place: one
	// that was given back stays free, and one that was free for its silence is
	// not taken from whoever has it since.
	Renew(ctx context.Context, places []Place) error
	// Usage tells what Take would count from, and counts nothing.
	Usage(ctx context.Context, key Key, limit Limit) (Usage, error)
	// Close gives up connections.
	Close() error
}

// Key is what calls are counted by.
type Key struct{ CustomerUUID, API string }

// Place is a call that runs.
type Place struct {
	Key    Key
	CallID string
}

// Ask is a call that wants to run.
type Ask struct {
	Key    Key
	CallID string
	Limit  Limit
	// Unplaced calls take no place among the concurrent ones and are not
	// bounded by them: streams, long polls and downloads. All others take one,
	// also where Limit.Concurrency does not bound.
	Unplaced bool
}

// Blocked says which limit blocks a call.
type Blocked int

// What may block a call.
const (
	BlockedNot Blocked = iota
	BlockedConcurrency
	BlockedRate
)

// Usage is how much of a limit is used.
type Usage struct {
	Running int // calls that hold a place
	Calls   int // calls that began in the window; 0 where Limit.Calls does not bound
	// Wait is how long until another call may begin in the window; 0 when one
	// may now.
	Wait time.Duration
}

// Decision is what came of an Ask, and the usage after it.
type Decision struct {
	Blocked Blocked
	Usage
}

const (
	// HeartbeatEvery is how often a call that runs or waits gives a sign of
	// life.
	HeartbeatEvery = 10 * time.Second
	// LeaseTimeout is the silence after which a call counts as dead: its place
	// is free, and it becomes Expired.
	LeaseTimeout = 30 * time.Second
)
