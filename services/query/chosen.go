package query

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// chosenAgain is the pause before Kafka is tried anew.
const chosenAgain = time.Second

// chosen knows what subscriptions chose. It opens the table in the background,
// so that the service starts while Kafka is away; once it has been read, it is
// in memory and stays there. Safe for concurrent use.
type chosen struct {
	stop  context.CancelFunc
	ended chan struct{}  // closed when the background is over
	read  chan struct{}  // closed once the table was read
	table settings.Table // set before read is closed

	mu  sync.Mutex
	err error // why it was not read yet; guarded by mu
}

func openChosen(cfg kafka.Config, log *zap.Logger) *chosen {
	ctx, stop := context.WithCancel(context.Background())
	c := &chosen{stop: stop, ended: make(chan struct{}), read: make(chan struct{}), err: errors.New("not read yet")}
	go c.open(ctx, cfg, log)
	return c
}

// open opens the table, again and again until that works or ctx ends.
func (c *chosen) open(ctx context.Context, cfg kafka.Config, log *zap.Logger) {
	defer close(c.ended)
	for {
		table, err := openChecked(ctx, cfg, log)
		if err == nil {
			c.table = table
			close(c.read)
			return
		}
		if ctx.Err() != nil {
			return
		}
		log.Warn("settings cannot be read yet", zap.Error(err))
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		select {
		case <-time.After(chosenAgain):
		case <-ctx.Done():
			return
		}
	}
}

// openChecked opens the table once the topic of our own audit events is there,
// too: whoever changes a setting needs both.
func openChecked(ctx context.Context, cfg kafka.Config, log *zap.Logger) (settings.Table, error) {
	cl, err := kafka.Open(ctx, cfg, log)
	if err != nil {
		return settings.Table{}, err
	}
	defer cl.Close()
	if err := topic.CheckOne(ctx, cl, topic.Audit); err != nil {
		return settings.Table{}, err
	}
	return settings.Open(ctx, cfg, log)
}

func (c *chosen) close() {
	c.stop()
	<-c.ended
	if table, err := c.all(); err == nil {
		table.Close()
	}
}

// ready is the readiness check: the table was read.
func (c *chosen) ready(context.Context) error {
	_, err := c.all()
	return err
}

// all returns the table once it was read.
func (c *chosen) all() (settings.Table, error) {
	select {
	case <-c.read:
		return c.table, nil
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		return settings.Table{}, c.err
	}
}

// of returns a subscription's settings, from memory: what another replica
// changed is seen within a second. The error is a problem 503 for as long as
// the table was never read.
func (c *chosen) of(_ context.Context, customerUUID string) (settings.Settings, error) {
	table, err := c.all()
	if err != nil {
		return settings.Settings{}, &problem.Error{
			Kind: problem.KindUnavailable, RetryAfter: retryAfter,
			Detail: "The settings of subscriptions cannot be read yet. Try again shortly.",
			Cause:  fmt.Errorf("settings: %w", err),
		}
	}
	return table.Peek(customerUUID), nil
}

// timeframe is how many days back a search without dates looks, for the caller.
// The error is that of of.
func (c *chosen) timeframe(ctx context.Context, id identity.Identity) (days int, err error) {
	chose, err := c.of(ctx, id.CustomerUUID)
	return timeframe(id, chose), err
}

// liteTimeframe is what Express Lite has, whatever was chosen before.
const liteTimeframe = 30

func timeframe(id identity.Identity, chose settings.Settings) (days int) {
	if id.Tier == identity.TierExpressLite {
		return liteTimeframe
	}
	return chose.Timeframe()
}
