// Package audited makes changes of what subscriptions chose: each is an audit
// event, before it is made and after.
package audited

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Values of the status of a change's audit events.
const (
	StatusRequested = "Requested" // before the write
	StatusSuccess   = "Success"
	StatusFailure   = "Failure"
	StatusUnknown   = "Unknown" // the write may or may not take effect
)

var (
	// ErrMeanwhile tells that somebody else changed it since it was read. Nothing
	// was written.
	ErrMeanwhile = errors.New("it was changed by somebody else meanwhile")
	// ErrUnrecorded tells that a change was made and that this is not recorded.
	// That it was requested is.
	ErrUnrecorded = errors.New("the change was made, but only its request is recorded as an audit event")
)

// maxComment bounds what is said of a change in words, in bytes; the event's
// changes have all of it.
const maxComment = 8 << 10

// Table is where one object a subscription is kept.
type Table[V any] interface {
	// Get reads the object as of now; its zero value when there is none. The
	// error wraps ktable.ErrBehind when nobody knows.
	Get(ctx context.Context, customerUUID string) (V, error)
	// Change reads the object as of now, lets edit change it, and writes it. The
	// errors are edit's, and those of Get and of Put of ktable.Table.
	Change(ctx context.Context, customerUUID string, edit func(*V) error) (V, error)
}

// Object is what changes are made of.
type Object[V any] struct {
	Table[V]
	// Type and Name are targetType and targetName of the events.
	Type, Name string
	// Validate refuses what must not be written.
	Validate func(V) error
	// Changes lists what differs, in the names and values of the API: nil is not
	// set. None: they are the same.
	Changes func(before, after V) []audit.Change
}

// Update changes the object of a subscription. record takes the audit event,
// with who does it still to be filled in, and returns nil only once it cannot be
// lost.
//
//  1. What is to change is recorded, as requested. When that fails nothing is
//     done; the event may have landed, as of a change that never came.
//  2. The object is written. If we die before or after it, the trail shows a
//     request without an outcome: the object, or what the next change found
//     before it, tell which.
//  3. What came of it is recorded. When that fails after a change that was made,
//     the error wraps ErrUnrecorded.
//
// A change that changes nothing is none, and repeating one that is in doubt is
// safe. The other errors are those of Change and Validate, and ErrMeanwhile.
// Once begun it is carried through, even when ctx ends: every step has its time
// limit, and record is to have one.
func (o Object[V]) Update(ctx context.Context, customerUUID string, edit func(*V) error, record func(context.Context, audit.Event) error) (before, after V, err error) {
	ctx = context.WithoutCancel(ctx)
	if before, err = o.Get(ctx, customerUUID); err != nil {
		return before, before, err
	}
	after = before
	if err := edit(&after); err != nil {
		return before, before, err
	}
	if err := o.Validate(after); err != nil {
		return before, before, err
	}
	changes := o.Changes(before, after)
	if len(changes) == 0 {
		return before, before, nil
	}
	e, err := o.event(customerUUID, changes)
	if err != nil {
		return before, before, err
	}
	e.Status = StatusRequested
	if err := record(ctx, e); err != nil {
		return before, before, fmt.Errorf("record the change before it is made: %w", err)
	}
	after, err = o.Change(ctx, customerUUID, func(v *V) error {
		if len(o.Changes(before, *v)) > 0 {
			return ErrMeanwhile
		}
		return edit(v)
	})
	switch {
	case err == nil:
		e.Status = StatusSuccess
	case errors.Is(err, ktable.ErrUnconfirmed):
		e.Status = StatusUnknown
	default:
		e.Status = StatusFailure
	}
	unrecorded := record(ctx, e)
	switch {
	case unrecorded == nil:
	case err == nil:
		err = fmt.Errorf("%w: %w", ErrUnrecorded, unrecorded)
	default: // what the caller branches on is what came of the write
		err = fmt.Errorf("%w; nor is that recorded: %v", err, unrecorded) //nolint:errorlint // its kind is not the write's
	}
	return before, after, err
}

// event is of a change.
func (o Object[V]) event(customerUUID string, changes []audit.Change) (audit.Event, error) {
	e := audit.Event{
		ModuleCode: topic.AuditModule, ModuleName: topic.AuditModuleName, ApplicationName: topic.AuditApplication,
		CustomerUUID: customerUUID, Action: "Update", TargetType: o.Type, TargetName: o.Name,
	}
	said := make([]string, len(changes))
	for i, c := range changes {
		said[i] = fmt.Sprintf("%s: %s -> %s", c.Field, text(c.Before), text(c.After))
	}
	e.AuditComment = strings.Join(said, "; ")
	if len(e.AuditComment) > maxComment {
		e.AuditComment = strings.ToValidUTF8(e.AuditComment[:maxComment], "") + "..."
	}
	return e, e.SetChanges(changes)
}

// text of a value, for people.
func text(value any) string {
	if value == nil {
		return "default"
	}
	b, err := json.Marshal(value)
	if err != nil {
		return "?" // numbers and booleans have one
	}
	return string(b)
}
