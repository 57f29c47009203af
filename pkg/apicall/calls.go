package apicall

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Calls puts calls under limits and tells of them. Safe for concurrent use.
// Close it.
type Calls struct {
	cfg   Config
	local bool // Counters are Memory, which answers at once

	count tallies

	mu     sync.Mutex
	open   calls             // the calls that run or wait, those that were silent for longest first
	lines  map[Key]line      // the calls that wait for a place
	tiers  map[Tier]struct{} // unknown ones that were logged
	closed chan struct{}     // set by Close: closed when no call is open

	stop    chan struct{} // ends the heartbeats
	stopped chan struct{}
	once    sync.Once
}

// New makes the limits of a module. It fails on a bad config only.
func New(cfg Config) (*Calls, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Calls{
		cfg:     cfg,
		lines:   map[Key]line{},
		tiers:   map[Tier]struct{}{},
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	_, c.local = cfg.Counters.(*Memory)
	go c.heartbeats()
	return c, nil
}

// Close waits for the calls in hand, until ctx ends, and stops the heartbeats.
// Close the server first and the Sink afterwards. Calls that begin after it are
// limited and told of, but give no signs of life: long ones become Expired. The
// error is ctx's, with how many calls were left. A second Close does the same.
func (c *Calls) Close(ctx context.Context) error {
	err := c.drain(ctx)
	c.once.Do(func() { close(c.stop) })
	<-c.stopped
	return err
}

func (c *Calls) drain(ctx context.Context) error {
	c.mu.Lock()
	if c.open.n == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.closed == nil {
		c.closed = make(chan struct{})
	}
	closed := c.closed
	c.mu.Unlock()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("close api calls with %d in hand: %w", c.open.n, ctx.Err())
	}
}

// exempt says whether an API is neither limited nor listed.
func (c *Calls) exempt(api string) bool { return slices.Contains(c.cfg.Exempt, api) }

// limitOf finds the limit of a caller's calls to an API.
func (c *Calls) limitOf(who *Caller, api string) Limit {
	if c.cfg.Limits != nil {
		if limit, ok := c.cfg.Limits.Limit(who.CustomerUUID, api); ok {
			if limit.Concurrency >= 0 && limit.Calls >= 0 && (limit.Calls == 0 || limit.Window > 0) {
				return limit
			}
			c.cfg.Logger.Warn("limit that cannot be, the tier's counts: concurrency and calls are not negative, and calls have a window",
				zap.String("tenant", clean(who.CustomerUUID, audit.MaxIDBytes)), zap.String("api", api))
		}
	}
	limit, known := tierLimit(who.Tier)
	if !known && who.Tier != "" {
		c.unknownTier(who.Tier)
	}
	return limit
}

// maxTiersLogged bounds the memory of tiers that are not known.
const maxTiersLogged = 100

// unknownTier counts a call of a tier that is not known, and logs the tier once.
func (c *Calls) unknownTier(t Tier) {
	c.count.unknownTiers.Add(1)
	c.mu.Lock()
	_, logged := c.tiers[t]
	logged = logged || len(c.tiers) >= maxTiersLogged
	if !logged {
		c.tiers[t] = struct{}{}
	}
	c.mu.Unlock()
	if !logged { // the tier is in the message, so that no other one's hides it
		c.cfg.Logger.Warn("tier is not known, its calls have the limits of " + string(TierStandard) + ": " + clean(string(t), 64))
	}
}

// emit tells of one state. What the sink refuses fails no call.
func (c *Calls) emit(record *audit.APICall) {
	if err := c.cfg.Sink.EmitCall(*record); err != nil {
		c.count.emitFailures.Add(1)
		c.cfg.Logger.Error("state of an api call not told", zap.String("state", record.State), zap.Error(err))
	}
}

// calls is a list of calls, guarded by Calls.mu. The zero value is empty.
type calls struct {
	first, last *Running
	n           int
}

func (l *calls) push(run *Running, at time.Time) {
	run.told = at
	run.prev, run.next = l.last, nil
	if l.last != nil {
		l.last.next = run
	} else {
		l.first = run
	}
	l.last = run
	l.n++
}

func (l *calls) remove(run *Running) {
	if run.prev != nil {
		run.prev.next = run.next
	} else {
		l.first = run.next
	}
	if run.next != nil {
		run.next.prev = run.prev
	} else {
		l.last = run.prev
	}
	run.prev, run.next = nil, nil
	l.n--
}
