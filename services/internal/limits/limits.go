// Package limits keeps the limits that were set for subscriptions' API calls in
// place of those of their tiers: one apicall.Override a customerUuid, in the
// table audit.api-limits.v1.
package limits

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/audited"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Table holds the limits of all subscriptions. It is an apicall.Limits. Safe for
// concurrent use.
type Table struct {
	table  *ktable.Table[apicall.Override] // not embedded: every write is validated
	change *sync.Mutex                     // held from the reading to the writing of a change
}

// Open reads all limits and follows their changes. The caller closes it.
func Open(ctx context.Context, cfg kafka.Config, log *zap.Logger) (Table, error) {
	t, err := ktable.Open[apicall.Override](ctx, cfg, topic.APILimits, log)
	return Table{t, &sync.Mutex{}}, err
}

// Close ends the following.
func (t Table) Close() { t.table.Close() }

// Limit returns what memory holds for a subscription's calls to an API, as
// apicall.Limits has it.
func (t Table) Limit(customerUUID, api string) (apicall.Limit, bool) {
	o := t.Peek(customerUUID)
	return o.Limit(api)
}

// Peek returns what memory holds of a subscription's limits, the zero Override
// when it has none. It never waits.
func (t Table) Peek(customerUUID string) apicall.Override {
	o, _ := t.table.Peek(customerUUID)
	return o
}

// Get is Peek, as of now. The error wraps ktable.ErrBehind when Kafka does not
// say what is there.
func (t Table) Get(ctx context.Context, customerUUID string) (apicall.Override, error) {
	if err := t.table.Fresh(ctx, 0); err != nil {
		return apicall.Override{}, err
	}
	return t.Peek(customerUUID), nil
}

// Change reads a subscription's limits as of now, lets edit replace them, and
// writes them when they are valid and others than before; the zero Override is
// written as none. What edit gets it does not change in place. Of two changes
// that two processes write at the same moment the later wins whole. The errors
// are edit's, Validate's and those of Get and of Put of ktable.Table.
func (t Table) Change(ctx context.Context, customerUUID string, edit func(*apicall.Override) error) (apicall.Override, error) {
	if n := len(customerUUID); n == 0 || n > audit.MaxIDBytes {
		return apicall.Override{}, fmt.Errorf("a customerUuid has 1 to %d bytes, not %d", audit.MaxIDBytes, n)
	}
	t.change.Lock()
	defer t.change.Unlock()
	before, err := t.Get(ctx, customerUUID)
	if err != nil {
		return before, err
	}
	o := before
	if err := edit(&o); err != nil {
		return o, err
	}
	if err := o.Validate(); err != nil || len(Changes(before, o)) == 0 {
		return o, err
	}
	if o.Default == nil && len(o.APIs) == 0 {
		err = t.table.Delete(ctx, customerUUID)
	} else {
		err = t.table.Put(ctx, customerUUID, o)
	}
	if err != nil {
		return o, err
	}
	return t.Peek(customerUUID), nil
}

// Update is Change as an audit event; see audited.Object.
func (t Table) Update(ctx context.Context, customerUUID string, edit func(*apicall.Override) error, record func(context.Context, audit.Event) error) (before, after apicall.Override, err error) {
	return audited.Object[apicall.Override]{
		Table: t, Type: "API Limits", Name: "API Limits", Changes: Changes,
		Validate: func(o apicall.Override) error { return o.Validate() },
	}.Update(ctx, customerUUID, edit, record)
}

// Changes lists what differs between two valid sets of limits, in the API's
// JSON: the default, and each API by its name.
func Changes(before, after apicall.Override) (changes []audit.Change) {
	add := func(field string, before, after *apicall.Limit) {
		if before != nil && after != nil && *before == *after || before == nil && after == nil {
			return
		}
		changes = append(changes, audit.Change{Field: field, Before: value(before), After: value(after)})
	}
	add("default", before.Default, after.Default)
	names := map[string]apicall.Limit{}
	maps.Copy(names, before.APIs)
	maps.Copy(names, after.APIs)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add("apis["+name+"]", of(before.APIs, name), of(after.APIs, name))
	}
	return changes
}

// of returns the limit of a name; nil when there is none.
func of(apis map[string]apicall.Limit, name string) *apicall.Limit {
	if l, ok := apis[name]; ok {
		return &l
	}
	return nil
}

// value is a limit as a change has it; nil when there is none.
func value(l *apicall.Limit) any {
	if l == nil {
		return nil // a nil pointer is not a nil any
	}
	return *l
}
