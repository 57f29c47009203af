package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/topic"
)

type settingsCmd struct {
	Show  settingsShowCmd  `cmd:"" help:"Print a subscription's settings as JSON; what it has not chosen is absent."`
	List  settingsListCmd  `cmd:"" help:"Print the settings of every subscription that ever had some, one JSON object a line."`
	Set   settingsSetCmd   `cmd:"" help:"Change a subscription's settings, and print them as they are then."`
	Unset settingsUnsetCmd `cmd:"" help:"Go back to what counts for subscriptions that chose nothing, and print the settings as they are then."`
}

// settingsOf says whose settings, or limits, and where they are.
type settingsOf struct {
	Kafka    kafka.Config `embed:""`
	Customer string       `help:"Subscription (customerUuid)." env:"-" required:""`
}

// Validate names a subscription that cannot be.
func (c settingsOf) Validate() error {
	if n := len(c.Customer); n == 0 || n > audit.MaxIDBytes {
		return fmt.Errorf("--customer must have 1 to %d bytes, not %d", audit.MaxIDBytes, n)
	}
	return nil
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

// No environment variables: ingest's flag --retention-days has one.
type settingsSetCmd struct {
	settingsOf
	deleteOlder
	DefaultTimeframeDays    uint16 `help:"Days back that a search without dates looks: 30, 90 or 180." env:"-"`
	AutoUpdateActivityLog   string `help:"Whether events of origin auto-update are stored: on or off. It counts 20 s after it was chosen." enum:",on,off" default:"" env:"-"`
	RestrictUserInformation string `help:"Restrict the view of user information for users outside of the business unit: on or off." enum:",on,off" default:"" env:"-"`
	AuditSearches           string `help:"Whether searches are audit events themselves: on or off." enum:",on,off" default:"" env:"-"`
	RetentionDays           *int   `help:"Days an event is kept after it happened, 1 to 3650. It counts once it has stood for ingest's --retention-delay." env:"-"`
}

type settingsUnsetCmd struct {
	settingsOf
	deleteOlder
	DefaultTimeframeDays    bool `help:"Searches without dates look back 30 days." env:"-"`
	AutoUpdateActivityLog   bool `help:"Events of origin auto-update are stored." env:"-"`
	RestrictUserInformation bool `help:"The view of user information is not restricted." env:"-"`
	AuditSearches           bool `help:"Searches are no audit events." env:"-"`
	RetentionDays           bool `help:"Keep events for the days of ingest's --retention-days." env:"-"`
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
	return show(s)
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
		shown, err := view(all[customer])
		if err != nil {
			return err
		}
		if err := out.Encode(struct {
			Customer string                     `json:"customerUuid"`
			Settings map[string]json.RawMessage `json:"settings"`
		}{customer, shown}); err != nil {
			return err
		}
	}
	return nil
}

// view is what is shown of settings: what is stored, and what the switches of
// the auto update activity log come to.
func view(s settings.Settings) (map[string]json.RawMessage, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	shown := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &shown); err != nil {
		return nil, err
	}
	if len(s.AutoUpdateSwitches) > 0 {
		shown["autoUpdateActivityLog"] = strconv.AppendBool(nil, s.AutoUpdates())
	}
	return shown, nil
}

func show(s settings.Settings) error {
	shown, err := view(s)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(shown)
}

// Run changes the settings that are named.
func (c *settingsSetCmd) Run(ctx context.Context, log *zap.Logger) error {
	var edits []func(*settings.Settings)
	if days := c.DefaultTimeframeDays; days != 0 {
		edits = append(edits, func(s *settings.Settings) { s.DefaultTimeframeDays = days })
	}
	if c.AutoUpdateActivityLog != "" {
		edits = append(edits, func(s *settings.Settings) { s.SetAutoUpdates(c.AutoUpdateActivityLog == "on") })
	}
	if c.RestrictUserInformation != "" {
		edits = append(edits, func(s *settings.Settings) { s.RestrictUserInformation = c.RestrictUserInformation == "on" })
	}
	if c.AuditSearches != "" {
		edits = append(edits, func(s *settings.Settings) { s.AuditSearches = c.AuditSearches == "on" })
	}
	if days := c.RetentionDays; days != nil {
		if *days < settings.MinRetentionDays || *days > settings.MaxRetentionDays { // 0 would mean: not chosen
			return fmt.Errorf("--retention-days must be between %d and %d, not %d", settings.MinRetentionDays, settings.MaxRetentionDays, *days)
		}
		edits = append(edits, func(s *settings.Settings) { s.RetentionDays = uint16(*days) })
	}
	return c.change(ctx, edits, c.DeleteOlder, log)
}

// Run forgets what was chosen of the settings that are named.
func (c *settingsUnsetCmd) Run(ctx context.Context, log *zap.Logger) error {
	var edits []func(*settings.Settings)
	for _, e := range []struct {
		named bool
		edit  func(*settings.Settings)
	}{
		{c.DefaultTimeframeDays, func(s *settings.Settings) { s.DefaultTimeframeDays = 0 }},
		{c.AutoUpdateActivityLog, func(s *settings.Settings) { s.SetAutoUpdates(true) }},
		{c.RestrictUserInformation, func(s *settings.Settings) { s.RestrictUserInformation = false }},
		{c.AuditSearches, func(s *settings.Settings) { s.AuditSearches = false }},
		{c.RetentionDays, func(s *settings.Settings) { s.RetentionDays = 0 }},
	} {
		if e.named {
			edits = append(edits, e.edit)
		}
	}
	return c.change(ctx, edits, c.DeleteOlder, log)
}

// change makes the edits, as an audit event of the operator, and prints what
// the settings are then.
func (c *settingsOf) change(ctx context.Context, edits []func(*settings.Settings), deleteOlder bool, log *zap.Logger) error {
	if len(edits) == 0 {
		return errors.New("name at least one setting; --help lists them")
	}
	record, closeRecord, err := c.recorder(ctx, "auditrail settings", log)
	if err != nil {
		return err
	}
	defer closeRecord()
	table, err := settings.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	before, after, err := table.Update(ctx, c.Customer, func(s *settings.Settings) error {
		kept := s.RetentionDays
		for _, edit := range edits {
			edit(s)
		}
		if settings.MayDelete(kept, s.RetentionDays) && !deleteOlder {
			return fmt.Errorf("retention of %s: %s -> %s may delete events for good: repeat with --delete-older to agree", c.Customer, inDays(kept), inDays(s.RetentionDays))
		}
		return nil
	}, record)
	if err != nil {
		return err
	}
	if len(settings.Changes(before, after)) == 0 {
		fmt.Fprintf(os.Stderr, "settings of %s: as before\n", c.Customer)
	}
	if before.RetentionDays != after.RetentionDays {
		fmt.Fprintf(os.Stderr, "retention of %s: %s -> %s. It counts, for stored events too, once it has stood for ingest's --retention-delay (10m unless set otherwise); until then it can be taken back.\n", c.Customer, inDays(before.RetentionDays), inDays(after.RetentionDays))
	}
	if before.AutoUpdates() != after.AutoUpdates() {
		fmt.Fprintf(os.Stderr, "auto update activity log of %s: it counts for events that reach Kafka %s from now on.\n", c.Customer, settings.SwitchDelay)
	}
	return show(after)
}

// auditTimeout bounds the wait until Kafka has an audit event.
const auditTimeout = 15 * time.Second

// recorder records changes as done by the operator who runs the command.
func (c *settingsOf) recorder(ctx context.Context, command string, log *zap.Logger) (record func(context.Context, audit.Event) error, closeRecord func(), err error) {
	cl, err := kafka.Open(ctx, c.Kafka, log)
	if err != nil {
		return nil, nil, err
	}
	defer cl.Close()
	if err := topic.CheckOne(ctx, cl, topic.Audit); err != nil {
		return nil, nil, err
	}
	e, err := emit.New(emit.Config{Brokers: c.Kafka.Addr, ClientID: "auditrail-settings", DeliveryTimeout: auditTimeout, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	record = func(ctx context.Context, ev audit.Event) error {
		ctx, cancel := context.WithTimeout(ctx, auditTimeout)
		defer cancel()
		ev.UserName, ev.Client, ev.CreatedDate = operator(), command, time.Now().UnixMilli()
		return e.Deliver(ctx, ev)
	}
	return record, func() { _ = e.Close(ctx) }, nil // every event was waited for
}

// operator names who runs the command, as the operating system knows them.
func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "operator: " + u.Username
	}
	return "operator: uid " + strconv.Itoa(os.Getuid())
}

func inDays(days uint16) string {
	if days == 0 {
		return "ingest's --retention-days"
	}
	return fmt.Sprintf("%d %s", days, english.PluralWord(int(days), "day", ""))
}
