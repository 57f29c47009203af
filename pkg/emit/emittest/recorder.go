// Package emittest helps modules test that they emit the audit events they
// should, without brokers.
package emittest

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/pkg/emit/internal/prepare"
)

// Recorder is an emit.Sink that keeps the events it is given, and the API calls
// of EmitCall. It refuses what an Emitter refuses, in the same words. The zero value is ready; it is safe
// for concurrent use.
type Recorder struct {
	// MaxAge is how far back an event or API call may lie. Zero means
	// audit.DefaultMaxAge. Set it before the first Emit.
	MaxAge time.Duration

	mu     sync.Mutex
	events []audit.Event
	calls  []audit.APICall
	err    error
	closed bool
}

var _ emit.Sink = (*Recorder)(nil)

// Emit checks e and records a copy of it, with an id, as it would travel.
func (r *Recorder) Emit(e audit.Event) error {
	now := time.Now()
	if e.ID == "" {
		e.ID = audit.NewID(now)
	}
	record, err := prepare.Append(nil, &e, now, r.MaxAge)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refuses(); err != nil {
		return err
	}
	var stored audit.Event
	if err := audit.Decode(record, &stored); err != nil {
		return err
	}
	r.events = append(r.events, stored)
	return nil
}

// EmitCall checks c and records a copy of it, as it would travel.
func (r *Recorder) EmitCall(c audit.APICall) error {
	record, err := prepare.AppendCall(nil, &c, time.Now(), r.MaxAge)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refuses(); err != nil {
		return err
	}
	var stored audit.APICall
	if err := audit.DecodeAPICall(record, &stored); err != nil {
		return err
	}
	r.calls = append(r.calls, stored)
	return nil
}

// refuses is why valid records are not taken now. mu is held.
func (r *Recorder) refuses() error {
	if r.closed {
		return emit.ErrClosed
	}
	return r.err
}

// Calls returns copies of the records of API calls so far, in order. They are
// the caller's.
func (r *Recorder) Calls() []audit.APICall {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Events returns copies of the events recorded so far, in order. They are the
// caller's.
func (r *Recorder) Events() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := make([]audit.Event, len(r.events))
	for i, e := range r.events {
		e.Changes = bytes.Clone(e.Changes)
		e.Extra = bytes.Clone(e.Extra)
		events[i] = e
	}
	return events
}

// Reset forgets all events and API calls, and what Fail and Close did.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.calls, r.err, r.closed = nil, nil, nil, false
}

// Fail makes Emit and EmitCall return err for what is valid, and record none,
// until Fail(nil). Use emit.ErrBufferFull to see how a module takes a long outage.
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Close makes Emit and EmitCall return emit.ErrClosed. What is recorded stays.
func (r *Recorder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
