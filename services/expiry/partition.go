package expiry

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
)

// partition knows the calls of one partition that go on, and how far we know
// what was said of them. Guarded by the expirer's mu.
//
// It holds the last record of each such call: as many as modules serve or let
// wait at a time, plus those that died less than a lease ago, and for a while
// those that expired. While a partition is read anew from far back there are, in
// addition, those that died meanwhile.
type partition struct {
	calls     map[uuid.UUID]*openCall
	next      int64 // offset after the last record that was read
	end       int64 // of the partition, as of the last look
	committed int64
	topicID   uuid.UUID // of the topic that is read; zero: we have not begun
	anew      bool      // the group's offset is of a topic that is no more

	asked    time.Time // when the end was asked for that is yet to be reached; zero: none is
	goal     int64     // that end
	complete time.Time // all that was appended before has been read
	contact  time.Time // since when complete has never stood still for long
}

// openCall is a call that goes on as far as we know, or that has expired.
type openCall struct {
	offset   int64  // of its last record; of its Expired record once it has one
	value    []byte // of its last record
	appended time.Time
	heard    time.Time // when it was read, by our clock
	told     time.Time // when its Expired record was written; zero: it was not
	expired  bool      // that record was read, or cannot be made
}

// rememberLeases is for how many leases a call that expired is remembered after
// its last sign of life. A process that slept may go on with it: it must not
// expire twice, at different times.
const rememberLeases = 10

func newPartition() *partition { return &partition{calls: map[uuid.UUID]*openCall{}} }

// read takes a record in, at a time by our clock. What ingest refuses, and what
// an operator sent again, tells of no call.
func (s *partition) read(r *kgo.Record, now time.Time) {
	s.next = r.Offset + 1
	if r.Attrs.IsControl() || len(r.Value) > audit.MaxRecordBytes {
		return
	}
	var c audit.APICall
	if audit.DecodeAPICall(r.Value, &c) != nil || c.Validate(r.Timestamp, 0) != nil {
		return
	}
	id, err := uuid.Parse(c.CallID)
	if err != nil {
		return
	}
	known := s.calls[id]
	switch c.State {
	case audit.StateQueued, audit.StateRunning:
		switch {
		case known != nil && known.expired:
			known.heard = now
		case redriven(r):
		case c.Durable: // it may be silent for as long as it likes
			delete(s.calls, id)
		default:
			s.calls[id] = &openCall{offset: r.Offset, value: bytes.Clone(r.Value), appended: r.Timestamp, heard: now}
		}
	case audit.StateExpired:
		s.calls[id] = &openCall{offset: r.Offset, heard: now, expired: true}
	default:
		delete(s.calls, id)
	}
}

func redriven(r *kgo.Record) bool {
	for _, h := range r.Headers {
		if h.Key == audit.HeaderRedriven {
			return true
		}
	}
	return false
}

// looked takes in where the partition began and ended when that was asked. A
// pause in what we know that is longer than gap ends the contact.
func (s *partition) looked(asked time.Time, start, end int64, gap time.Duration) {
	s.next = max(s.next, start) // records before are gone
	s.end = end
	if s.asked.IsZero() {
		s.asked, s.goal = asked, end
	}
	if s.next < s.goal {
		return // later, then: a newer end is further away
	}
	if s.next >= end {
		s.asked = asked
	}
	if s.asked.Sub(s.complete) > gap {
		s.contact = s.asked
	}
	s.complete, s.asked = s.asked, time.Time{}
}

// silent lists the calls that have been silent for a lease of contact, and are
// not told to be so, and forgets those that expired long ago.
func (s *partition) silent(now time.Time, lease time.Duration) (silent []*openCall) {
	for id, c := range s.calls {
		since := c.heard
		if s.contact.After(since) {
			since = s.contact
		}
		silence := s.complete.Sub(since)
		switch {
		case c.expired && silence >= rememberLeases*lease:
			delete(s.calls, id)
		case !c.expired && silence >= lease && now.Sub(c.told) >= lease:
			silent = append(silent, c)
		}
	}
	return silent
}

// ended makes the record that ends the call. Nothing of it depends on when, or by
// whom, it is made; but it may break a rule by now: a call may become too old.
func (c *openCall) ended(at int32, lease time.Duration, now time.Time) (*kgo.Record, error) {
	var call audit.APICall
	if err := audit.DecodeAPICall(c.value, &call); err != nil {
		return nil, err
	}
	ran := call.State == audit.StateRunning
	call.State, call.Heartbeat = audit.StateExpired, false
	call.Reason = fmt.Sprintf("nothing was heard of it for %s: its process may have died", lease)
	call.UpdatedDate = max(call.SubmittedDate, c.appended.Add(lease).UnixMilli())
	if ran {
		call.DurationMs = uint32(min(call.UpdatedDate-call.SubmittedDate, math.MaxUint32))
	}
	call.HTTPStatus = 0
	if err := call.Validate(now, 0); err != nil {
		return nil, err
	}
	value, err := call.AppendJSON(nil)
	if err != nil {
		return nil, err
	}
	return &kgo.Record{Topic: audit.APICallsTopic, Partition: at, Key: []byte(call.CallID), Value: value,
		// Somebody may have written it before us.
		Headers: []kgo.RecordHeader{{Key: audit.HeaderResent, Value: []byte("1")}}}, nil
}

// oldest is the offset from which whoever takes over must read.
func (s *partition) oldest() int64 {
	at := s.next
	for _, c := range s.calls {
		at = min(at, c.offset)
	}
	return at
}
