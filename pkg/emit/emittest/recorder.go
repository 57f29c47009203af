// Package emittest helps modules test that they emit the audit events they
// should, without brokers.
package emittest

import (
	"bytes"
	"sync"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/pkg/emit/internal/prepare"
)

// Recorder is an emit.Sink that keeps the events it is given. It refuses what
// an Emitter refuses, in the same words. The zero value is ready; it is safe
// for concurrent use.
type Recorder struct {
	// MaxAge is how far back an event may lie. Zero means
	// audit.DefaultMaxAge. Set it before the first Emit.
	MaxAge time.Duration

	mu     sync.Mutex
	events []audit.Event
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
	if r.closed {
		return emit.ErrClosed
	}
	if r.err != nil {
		return r.err
	}
	var stored audit.Event
	if err := audit.Decode(record, &stored); err != nil {
		return err
	}
	r.events = append(r.events, stored)
	return nil
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

// Reset forgets all events and what Fail and Close did.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.err, r.closed = nil, nil, false
}

// Fail makes Emit return err for every valid event, and record none, until
// Fail(nil). Use emit.ErrBufferFull to see how a module takes a long outage.
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Close makes Emit return emit.ErrClosed. The events stay.
func (r *Recorder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
