package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/settings"
)

type settingsCmd struct {
	Show settingsShowCmd `cmd:"" help:"Print a subscription's settings as JSON; what it has not chosen is absent."`
	Set  settingsSetCmd  `cmd:"" help:"Change a subscription's settings, and print them as they are then."`
}

// settingsOf says whose settings, and where they are.
type settingsOf struct {
	Kafka    kafka.Config `embed:""`
	Customer string       `help:"Subscription (customerUuid)." env:"-" required:""`
}

type settingsShowCmd struct {
	settingsOf
}

type settingsSetCmd struct {
	settingsOf
	// No environment variable: ingest's flag of that name has it.
	RetentionDays uint16 `help:"Days an event is kept after it happened, 1 to 3650. Fewer days drop older events for good." env:"-" required:""`
}

// Run prints the settings.
func (c *settingsShowCmd) Run(ctx context.Context, log *zap.Logger) error {
	table, err := settings.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	s, err := table.Get(ctx, c.Customer)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// Run changes the settings.
func (c *settingsSetCmd) Run(ctx context.Context, log *zap.Logger) error {
	if c.RetentionDays == 0 { // would mean: not chosen
		return fmt.Errorf("--retention-days must be between %d and %d, not 0", settings.MinRetentionDays, settings.MaxRetentionDays)
	}
	table, err := settings.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	s, err := table.Change(ctx, c.Customer, func(s *settings.Settings) { s.RetentionDays = c.RetentionDays })
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}
