package settings

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Table holds the settings of all subscriptions. Safe for concurrent use.
type Table struct {
	table  *ktable.Table[Settings] // not embedded: every write is validated
	change *sync.Mutex             // held from the reading to the writing of a change
}

// Open reads all settings and follows their changes. The caller closes it.
func Open(ctx context.Context, cfg kafka.Config, log *zap.Logger) (Table, error) {
	t, err := ktable.Open[Settings](ctx, cfg, topic.Settings, log)
	return Table{t, &sync.Mutex{}}, err
}

// Close ends the following.
func (t Table) Close() { t.table.Close() }

// Watch is that of ktable.Table: a signal when settings change.
func (t Table) Watch() (changed <-chan struct{}, stop func()) { return t.table.Watch() }

// Fresh is that of ktable.Table: nil once memory has all that was written up to
// age ago.
func (t Table) Fresh(ctx context.Context, age time.Duration) error { return t.table.Fresh(ctx, age) }

// Peek returns what memory holds of a subscription's settings, those at their
// zero values when it has chosen nothing. It never waits.
func (t Table) Peek(customerUUID string) Settings {
	e, _ := t.table.PeekEntry(customerUUID)
	return e.Value.of(e.At)
}

// Get is Peek, as of now. The error wraps ktable.ErrBehind when Kafka does not
// say what is there.
func (t Table) Get(ctx context.Context, customerUUID string) (Settings, error) {
	if err := t.table.Fresh(ctx, 0); err != nil {
		return Settings{}, err
	}
	return t.Peek(customerUUID), nil
}

// List returns the settings of all subscriptions that ever had some.
func (t Table) List() map[string]Settings {
	all := map[string]Settings{}
	for customer, e := range t.table.List() {
		all[customer] = e.Value.of(e.At)
	}
	return all
}

// Change reads a subscription's settings as of now, lets edit change them, and
// writes them when they are valid and others than before. Of two changes that
// two processes write at the same moment the later wins whole. The errors are
// edit's, Validate's and those of Get and of Put of ktable.Table.
func (t Table) Change(ctx context.Context, customerUUID string, edit func(*Settings) error) (Settings, error) {
	if n := len(customerUUID); n == 0 || n > audit.MaxIDBytes {
		return Settings{}, fmt.Errorf("a customerUuid has 1 to %d bytes, not %d", audit.MaxIDBytes, n)
	}
	t.change.Lock()
	defer t.change.Unlock()
	before, err := t.Get(ctx, customerUUID)
	if err != nil {
		return before, err
	}
	s := before
	if err := edit(&s); err != nil {
		return s, err
	}
	if err := s.Validate(); err != nil || len(Changes(before, s)) == 0 {
		return s, err
	}
	if s.RetentionDays != before.RetentionDays {
		// What is unset keeps a time: stored rows follow to the default, too.
		s.RetentionAt = now
	}
	if err := t.table.Put(ctx, customerUUID, s); err != nil {
		return s, err
	}
	return t.Peek(customerUUID), nil
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
	return t.Peek(customerUUID).retention()
}

// Retentions lists those of all subscriptions that ever chose.
func (t Table) Retentions() map[string]Retention {
	all := map[string]Retention{}
	for customer, s := range t.List() {
		if r, ok := s.retention(); ok {
			all[customer] = r
		}
	}
	return all
}

// retention is false for days that somebody wrote by hand and that are beyond
// the limits: far enough beyond, the table's dates overflow and everything
// expires at once.
func (s Settings) retention() (Retention, bool) {
	return Retention{s.RetentionDays, time.UnixMilli(int64(s.RetentionAt))}, s.RetentionAt != 0 && s.RetentionDays <= MaxRetentionDays
}
