// Package settings keeps what a subscription chose: one object a customerUuid,
// in the table audit.settings.v1. Whoever needs a setting reads it from memory.
package settings

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Bounds of RetentionDays.
const (
	MinRetentionDays = 1
	MaxRetentionDays = 3650
)

// Settings of one subscription. A field at its zero value is not set.
type Settings struct {
	// RetentionDays is how many days after it happened an event is kept; 0: as
	// long as ingest's --retention-days says.
	RetentionDays uint16 `json:"retentionDays,omitempty"`
}

// Validate names the first wrong value and its limits.
func (s Settings) Validate() error {
	if d := s.RetentionDays; d != 0 && (d < MinRetentionDays || d > MaxRetentionDays) {
		return fmt.Errorf("retentionDays must be between %d and %d, not %d", MinRetentionDays, MaxRetentionDays, d)
	}
	return nil
}

// chosenRetention says that the subscription chose how long events are kept. A
// record that somebody wrote by hand may be beyond the limits: far enough
// beyond, the table's dates overflow and everything expires at once.
func (s Settings) chosenRetention() bool { return s.RetentionDays != 0 && s.Validate() == nil }

// Table holds the settings of all subscriptions. Safe for concurrent use.
type Table struct {
	table *ktable.Table[Settings] // not embedded: every write is validated
}

// Open reads all settings and follows their changes. The caller closes it.
func Open(ctx context.Context, cfg kafka.Config, log *zap.Logger) (Table, error) {
	t, err := ktable.Open[Settings](ctx, cfg, topic.Settings, log)
	return Table{t}, err
}

// Close ends the following.
func (t Table) Close() { t.table.Close() }

// Watch is that of ktable.Table: a signal when settings change.
func (t Table) Watch() (changed <-chan struct{}, stop func()) { return t.table.Watch() }

// Get returns a subscription's settings, those at their zero values when it has
// chosen nothing. The error wraps ktable.ErrBehind when that could not be told.
func (t Table) Get(ctx context.Context, customerUUID string) (Settings, error) {
	s, _, err := t.table.Get(ctx, customerUUID)
	return s, err
}

// Change reads a subscription's settings, lets edit change them, and writes
// them when they are valid. Of two changes at a time the later write wins
// whole. The errors are Validate's and those of Get and Put of ktable.Table.
func (t Table) Change(ctx context.Context, customerUUID string, edit func(*Settings)) (Settings, error) {
	if n := len(customerUUID); n == 0 || n > audit.MaxIDBytes {
		return Settings{}, fmt.Errorf("a customerUuid has 1 to %d bytes, not %d", audit.MaxIDBytes, n)
	}
	s, err := t.Get(ctx, customerUUID)
	if err != nil {
		return s, err
	}
	edit(&s)
	if err := s.Validate(); err != nil {
		return s, err
	}
	return s, t.table.Put(ctx, customerUUID, s)
}

// RetentionDays is how long the events of a subscription are kept, otherwise
// when it has not chosen. It never waits.
func (t Table) RetentionDays(customerUUID string, otherwise uint16) uint16 {
	if s, ok := t.table.Peek(customerUUID); ok && s.chosenRetention() {
		return s.RetentionDays
	}
	return otherwise
}

// Retentions lists the subscriptions that have chosen how long their events are
// kept, by days.
func (t Table) Retentions() map[uint16][]string {
	byDays := map[uint16][]string{}
	for customer, e := range t.table.List() {
		s := e.Value
		if s.chosenRetention() {
			byDays[s.RetentionDays] = append(byDays[s.RetentionDays], customer)
		}
	}
	return byDays
}
