// Package limits keeps the limits that were set for subscriptions' API calls in
// place of those of their tiers: one apicall.Override a customerUuid, in the
// table audit.api-limits.v1.
package limits

import (
	"context"
	"encoding/json"
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

// Changes lists what differs between two sets of limits, in the API's JSON: the
// default, and each API. Where that is too much for one audit event, the APIs
// are one entry.
func Changes(before, after apicall.Override) (changes []audit.Change) {
	was, is := wire(before), wire(after)
	add := func(field string, before, after json.RawMessage) {
		if string(before) == string(after) {
			return
		}
		c := audit.Change{Field: field}
		if before != nil { // a nil RawMessage is not a nil any
			c.Before = before
		}
		if after != nil {
			c.After = after
		}
		changes = append(changes, c)
	}
	add("default", was.Default, is.Default)
	names := maps.Clone(was.APIs)
	if names == nil {
		names = is.APIs
	} else {
		maps.Copy(names, is.APIs)
	}
	of := len(changes)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add("apis["+name+"]", was.APIs[name], is.APIs[name])
	}
	if len(changes) > audit.MaxChanges {
		changes = changes[:of]
		add("apis", was.all, is.all)
	}
	return changes
}

// limits are an Override in JSON.
type limits struct {
	Default json.RawMessage            `json:"default"`
	APIs    map[string]json.RawMessage `json:"apis"`

	all json.RawMessage // APIs in one
}

func wire(o apicall.Override) (w limits) {
	var parts struct {
		APIs json.RawMessage `json:"apis"`
	}
	b, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err == nil {
		err = json.Unmarshal(b, &parts)
	}
	if err != nil { // not valid: Validate, which is asked too, says why
		w.Default, _ = json.Marshal("not valid: " + err.Error())
	}
	w.all = parts.APIs
	return w
}
