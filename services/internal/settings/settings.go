// Package settings keeps what a subscription chose: one object a customerUuid,
// in the table audit.settings.v1. Whoever needs a setting reads it from memory.
package settings

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

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

	// others are the fields of newer versions: a change keeps them.
	others map[string]json.RawMessage
}

// fields of Settings by their names in JSON.
type fields Settings

// UnmarshalJSON reads the fields, and keeps those it does not know.
func (s *Settings) UnmarshalJSON(b []byte) error {
	var known fields
	if err := json.Unmarshal(b, &known); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &known.others); err != nil {
		return err
	}
	// Names are read in any case.
	maps.DeleteFunc(known.others, func(name string, _ json.RawMessage) bool { return strings.EqualFold(name, "retentionDays") })
	*s = Settings(known)
	return nil
}

// MarshalJSON writes the fields that are set, and those it does not know.
func (s Settings) MarshalJSON() ([]byte, error) {
	known, err := json.Marshal(fields(s))
	if err != nil || len(s.others) == 0 {
		return known, err
	}
	all := maps.Clone(s.others)
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// Validate names the first wrong value and its limits.
func (s Settings) Validate() error {
	if d := s.RetentionDays; d > MaxRetentionDays { // 0 is not set
		return fmt.Errorf("retentionDays must be between %d and %d, not %d", MinRetentionDays, MaxRetentionDays, d)
	}
	return nil
}

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

// List returns the settings of all subscriptions that ever had some.
func (t Table) List() map[string]Settings {
	all := map[string]Settings{}
	for customer, e := range t.table.List() {
		all[customer] = e.Value
	}
	return all
}

// Change reads a subscription's settings, lets edit change them, and writes
// them when they are valid and others than before. Of two changes at a time the
// later write wins whole. The errors are edit's, Validate's and those of Get
// and Put of ktable.Table.
func (t Table) Change(ctx context.Context, customerUUID string, edit func(*Settings) error) (Settings, error) {
	if n := len(customerUUID); n == 0 || n > audit.MaxIDBytes {
		return Settings{}, fmt.Errorf("a customerUuid has 1 to %d bytes, not %d", audit.MaxIDBytes, n)
	}
	s, err := t.Get(ctx, customerUUID)
	if err != nil {
		return s, err
	}
	before := s.RetentionDays
	if err := edit(&s); err != nil {
		return s, err
	}
	if err := s.Validate(); err != nil || s.RetentionDays == before {
		return s, err
	}
	// What is unset stays a record: it says that stored rows follow, too.
	return s, t.table.Put(ctx, customerUUID, s)
}

// Retention is how long a subscription chose that its events are kept, and
// when. Who acts on it lets it stand for a while first: events that are deleted
// do not come back when a wrong choice is taken back.
type Retention struct {
	// Days is 0 when the choice was unset again.
	Days uint16
	At   time.Time
}

// Retention of one subscription, false when it has never chosen. It never waits.
func (t Table) Retention(customerUUID string) (Retention, bool) {
	e, ok := t.table.PeekEntry(customerUUID)
	if !ok {
		return Retention{}, false
	}
	return retention(e)
}

// Retentions lists those of all subscriptions that ever chose.
func (t Table) Retentions() map[string]Retention {
	all := map[string]Retention{}
	for customer, e := range t.table.List() {
		if r, ok := retention(e); ok {
			all[customer] = r
		}
	}
	return all
}

// retention is false for a record that somebody wrote by hand and that is
// beyond the limits: far enough beyond, the table's dates overflow and
// everything expires at once.
func retention(e ktable.Entry[Settings]) (Retention, bool) {
	return Retention{e.Value.RetentionDays, e.At}, e.Value.Validate() == nil
}
