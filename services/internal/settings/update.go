package settings

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
	statusRequested = "Requested" // before the write
	statusSuccess   = "Success"
	statusFailure   = "Failure"
	statusUnknown   = "Unknown" // the write may or may not take effect
)

var (
	// ErrMeanwhile tells that somebody else changed the settings since they were
	// read. Nothing was written.
	ErrMeanwhile = errors.New("the settings were changed meanwhile")
	// ErrUnrecorded tells that a change was made and that this is not recorded.
	// That it was requested is.
	ErrUnrecorded = errors.New("the change was made, but only its request is recorded as an audit event")
)

// Update is Change as an audit event. record takes the event, with who does it
// still to be filled in, and returns nil only once it cannot be lost.
//
//  1. What is to change is recorded, as requested. When that fails nothing is
//     done; the event may have landed, as of a change that never came.
//  2. The settings are written. If we die before or after it, the trail shows a
//     request without an outcome: the settings, or what the next change found
//     before it, tell which.
//  3. What came of it is recorded. When that fails after a change that was made,
//     the error wraps ErrUnrecorded.
//
// A change that changes nothing is none, and repeating one that is in doubt is
// safe. The other errors are those of Change, and ErrMeanwhile. Once begun it is
// carried through, even when ctx ends: every step has its time limit, and record
// is to have one.
func (t Table) Update(ctx context.Context, customerUUID string, edit func(*Settings) error, record func(context.Context, audit.Event) error) (before, after Settings, err error) {
	ctx = context.WithoutCancel(ctx)
	if before, err = t.Get(ctx, customerUUID); err != nil {
		return before, before, err
	}
	after = before
	if err := edit(&after); err != nil {
		return before, before, err
	}
	changes := Changes(before, after)
	if err := after.Validate(); err != nil || len(changes) == 0 {
		return before, before, err
	}
	e, err := event(customerUUID, changes)
	if err != nil {
		return before, before, err
	}
	e.Status = statusRequested
	if err := record(ctx, e); err != nil {
		return before, before, fmt.Errorf("record the change before it is made: %w", err)
	}
	after, err = t.Change(ctx, customerUUID, func(s *Settings) error {
		if len(Changes(before, *s)) > 0 {
			return ErrMeanwhile
		}
		return edit(s)
	})
	switch {
	case err == nil:
		e.Status = statusSuccess
	case errors.Is(err, ktable.ErrUnconfirmed):
		e.Status = statusUnknown
	default:
		e.Status = statusFailure
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
func event(customerUUID string, changes []audit.Change) (audit.Event, error) {
	e := audit.Event{
		ModuleCode: topic.AuditModule, ModuleName: topic.AuditModuleName, ApplicationName: topic.AuditApplication,
		CustomerUUID: customerUUID, Action: "Update", TargetType: "Settings", TargetName: "Audit Log",
	}
	said := make([]string, len(changes))
	for i, c := range changes {
		said[i] = fmt.Sprintf("%s: %s -> %s", c.Field, text(c.Before), text(c.After))
	}
	e.AuditComment = strings.Join(said, "; ")
	return e, e.SetChanges(changes)
}

// text of a setting's value, for people.
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
