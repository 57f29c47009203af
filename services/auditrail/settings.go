package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/settings"
)

type settingsCmd struct {
	Show  settingsShowCmd  `cmd:"" help:"Print a subscription's settings as JSON; what it has not chosen is absent."`
	List  settingsListCmd  `cmd:"" help:"Print the settings of every subscription that ever had some, one JSON object a line."`
	Set   settingsSetCmd   `cmd:"" help:"Change a subscription's settings, and print them as they are then."`
	Unset settingsUnsetCmd `cmd:"" help:"Go back to what counts for subscriptions that chose nothing, and print the settings as they are then."`
}

// settingsOf says whose settings, and where they are.
type settingsOf struct {
	Kafka    kafka.Config `embed:""`
	Customer string       `help:"Subscription (customerUuid)." env:"-" required:""`
}

type settingsShowCmd struct {
	settingsOf
}

type settingsListCmd struct {
	Kafka kafka.Config `embed:""`
}

// deleteOlder is demanded of a change that may delete events.
type deleteOlder struct {
	DeleteOlder bool `help:"Agree that events which are older than the new days are deleted, for good." env:"-"`
}

type settingsSetCmd struct {
	settingsOf
	deleteOlder
	// No environment variable: ingest's flag of that name has it.
	RetentionDays uint16 `help:"Days an event is kept after it happened, 1 to 3650. It counts once it has stood for ingest's --retention-delay." env:"-" required:""`
}

type settingsUnsetCmd struct {
	settingsOf
	deleteOlder
	RetentionDays bool `help:"Keep events for the days of ingest's --retention-days." env:"-" required:""`
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

// Run prints the settings of all.
func (c *settingsListCmd) Run(ctx context.Context, log *zap.Logger) error {
	table, err := settings.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	all := table.List()
	out := json.NewEncoder(os.Stdout)
	for _, customer := range slices.Sorted(maps.Keys(all)) {
		if err := out.Encode(struct {
			Customer string            `json:"customerUuid"`
			Settings settings.Settings `json:"settings"`
		}{customer, all[customer]}); err != nil {
			return err
		}
	}
	return nil
}

// Run changes the settings.
func (c *settingsSetCmd) Run(ctx context.Context, log *zap.Logger) error {
	if c.RetentionDays == 0 { // would mean: not chosen
		return fmt.Errorf("--retention-days must be between %d and %d, not 0", settings.MinRetentionDays, settings.MaxRetentionDays)
	}
	return c.retain(ctx, c.RetentionDays, c.DeleteOlder, log)
}

// Run forgets what was chosen.
func (c *settingsUnsetCmd) Run(ctx context.Context, log *zap.Logger) error {
	return c.retain(ctx, 0, c.DeleteOlder, log)
}

// retain changes for how many days events are kept, 0 for not chosen.
func (c *settingsOf) retain(ctx context.Context, days uint16, deleteOlder bool, log *zap.Logger) error {
	table, err := settings.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	var before uint16
	s, err := table.Change(ctx, c.Customer, func(s *settings.Settings) error {
		before = s.RetentionDays
		if valid := (settings.Settings{RetentionDays: days}).Validate(); valid != nil {
			return valid
		}
		if fewer(before, days) && !deleteOlder {
			return fmt.Errorf("retention of %s: %s -> %s may delete events for good: repeat with --delete-older to agree", c.Customer, inDays(before), inDays(days))
		}
		s.RetentionDays = days
		return nil
	})
	if err != nil {
		return err
	}
	if before == days {
		fmt.Fprintf(os.Stderr, "retention of %s: %s, as before\n", c.Customer, inDays(days))
	} else {
		fmt.Fprintf(os.Stderr, "retention of %s: %s -> %s. It counts, for stored events too, once it has stood for ingest's --retention-delay (10m unless set otherwise); until then it can be taken back.\n", c.Customer, inDays(before), inDays(days))
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// fewer says that a change may delete events. How many days ingest's default
// is, only ingest knows: from it and to it, any change may.
func fewer(before, after uint16) bool {
	switch {
	case before == after, after == settings.MaxRetentionDays:
		return false
	default:
		return before == 0 || after < before
	}
}

func inDays(days uint16) string {
	if days == 0 {
		return "ingest's --retention-days"
	}
	return fmt.Sprintf("%d %s", days, english.PluralWord(int(days), "day", ""))
}
