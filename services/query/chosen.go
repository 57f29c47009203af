package query

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/limits"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// chosen knows what subscriptions chose. It is opened in the background; once it
// has been read, it is in memory and stays there. Safe for concurrent use.
type chosen struct {
	*opening
	table settings.Table // set before read is closed
	calls limits.Table   // limits of API calls; set before read is closed
}

func openChosen(cfg kafka.Config, log *zap.Logger) *chosen {
	c := &chosen{}
	c.opening = startOpening("settings", func(ctx context.Context) error { return c.openChecked(ctx, cfg, log) }, log)
	return c
}

// openChecked opens the tables once the topics of our own audit events and API
// calls are there, too: whoever changes a setting needs both, and who is called
// without the other would tell nobody.
func (c *chosen) openChecked(ctx context.Context, cfg kafka.Config, log *zap.Logger) error {
	cl, err := kafka.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, name := range []string{topic.Audit, audit.APICallsTopic} {
		if err := topic.CheckOne(ctx, cl, name); err != nil {
			return err
		}
	}
	table, err := settings.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	calls, err := limits.Open(ctx, cfg, log)
	if err != nil {
		table.Close()
		return err
	}
	c.table, c.calls = table, calls
	return nil
}

func (c *chosen) close() {
	if c.end() {
		c.table.Close()
		c.calls.Close()
	}
}

// Limit is that of the table of limits: false, so that tiers count, for as long
// as it was never read.
func (c *chosen) Limit(customerUUID, api string) (apicall.Limit, bool) {
	if c.ready(context.Background()) != nil {
		return apicall.Limit{}, false
	}
	return c.calls.Limit(customerUUID, api)
}

// limits returns the limits that were set for a subscription, from memory. The
// error is that of of.
func (c *chosen) limits(ctx context.Context, customerUUID string) (apicall.Override, error) {
	if _, err := c.of(ctx, customerUUID); err != nil {
		return apicall.Override{}, err
	}
	return c.calls.Peek(customerUUID), nil
}

// of returns a subscription's settings, from memory: what another replica
// changed is seen within a second. The error is a problem 503 for as long as
// the table was never read.
func (c *chosen) of(ctx context.Context, customerUUID string) (settings.Settings, error) {
	if err := c.ready(ctx); err != nil {
		return settings.Settings{}, &problem.Error{
			Kind: problem.KindUnavailable, RetryAfter: retryAfter,
			Detail: "The settings of subscriptions cannot be read yet. Try again shortly.",
			Cause:  fmt.Errorf("settings: %w", err),
		}
	}
	return c.table.Peek(customerUUID), nil
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
