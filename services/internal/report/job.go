package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/ktable"
)

// Job is a report as the table has it at some moment. Treat it as read-only.
type Job struct {
	ID      int64
	Spec    *Spec
	Created time.Time // when its record was written

	State  State
	Reason string    // why it is in its state; may be empty
	Since  time.Time // when it came into its state
	// Place is that of the record in the table that put it there: of two, the
	// lower was written first.
	Place int64
	// Call is the callId of the present run, or the last; Submitted is when that
	// was asked for, Began when it was first claimed, the zero time before.
	Call      uuid.UUID
	Submitted time.Time
	Began     time.Time
	// Ended is when the last run ended, by any end but expiry; the zero time
	// before.
	Ended time.Time

	// Owner is the claim that holds; 0: none. Heard is the place of the owner's
	// last record in the table: an owner whose Heard does not move is silent.
	Owner  Epoch
	Worker string
	Heard  int64

	Plan     *Plan          // nil until it is planned
	Chunks   map[int]*Chunk // those that are complete, by N
	Progress Progress       // of the owner, or the last one
	End      *End           // nil unless it finished or failed

	keys []string // all of the job's keys
}

// event is a record of a job with its place.
type event struct {
	kind   string
	epoch  Epoch
	offset int64
	at     time.Time
	*Record
}

// jobs makes the jobs out of the table's entries. Records are taken in the order
// in which they were written, which is the same for everybody, and each is
// judged by those before it alone: so all replicas agree on what a job is, and a
// record of an owner that lost its job without knowing changes nothing.
func jobs(entries map[string]ktable.Entry[Record]) map[int64]*Job {
	events, keys := map[int64][]event{}, map[int64][]string{}
	for k, e := range entries {
		id, kind, epoch, ok := parseKey(k)
		if !ok {
			continue
		}
		events[id] = append(events[id], event{kind, epoch, e.Offset, e.At, &e.Value})
		keys[id] = append(keys[id], k)
	}
	all := make(map[int64]*Job, len(events))
	for id, of := range events {
		slices.SortFunc(of, func(a, b event) int { return cmp.Compare(a.offset, b.offset) })
		j := &Job{ID: id, Chunks: map[int]*Chunk{}, keys: keys[id]}
		for _, e := range of {
			j.apply(e)
		}
		all[id] = j
	}
	return all
}

// apply takes one record. What does not fit the state has no effect.
func (j *Job) apply(e event) {
	switch {
	case e.Spec != nil:
		j.Spec, j.Created, j.Call, j.Submitted = e.Spec, e.at, e.Spec.Job, e.at
		j.enter(StateQueued, "", e)
	case j.Spec == nil: // it was removed: these are left over
	case e.Claim != nil:
		if !j.State.Over() && j.Owner == e.Claim.Prev {
			j.Owner, j.Worker, j.Heard = Epoch(e.offset), e.Claim.Worker, e.offset
			if j.Began.IsZero() {
				j.Began = e.at
				j.enter(StateRunning, "", e)
			}
		}
	case e.Release != nil:
		if e.epoch == j.Owner {
			j.Owner, j.Worker = 0, ""
		}
	case e.Plan != nil:
		if j.Plan == nil { // whoever planned it: the rows are the same
			j.Plan = e.Plan
		}
		j.heard(e)
	case e.Chunk != nil:
		if j.Chunks[e.Chunk.N] == nil { // as with the plan
			j.Chunks[e.Chunk.N] = e.Chunk
		}
		j.heard(e)
	case e.Progress != nil:
		if e.epoch == j.Owner {
			j.Progress = *e.Progress
		}
		j.heard(e)
	case e.End != nil:
		if e.epoch == j.Owner && !j.State.Over() {
			j.End, j.Owner, j.Worker, j.Ended = e.End, 0, "", e.at
			j.enter(e.End.State, e.End.Reason, e)
		}
	case e.Cancel != nil:
		if !j.State.Over() {
			j.Owner, j.Worker, j.Ended = 0, "", e.at
			j.enter(StateCancelled, e.Cancel.Why, e)
		}
	case e.Resume != nil:
		if j.State == StateFailed {
			j.End, j.Call, j.Submitted, j.Began, j.Ended = nil, e.Resume.Call, e.at, time.Time{}, time.Time{}
			j.enter(StateQueued, "", e)
		}
	case e.Expire != nil:
		if j.State.Over() {
			j.enter(StateExpired, e.Expire.Why, e)
		}
	}
}

func (j *Job) enter(s State, why string, e event) {
	j.State, j.Reason, j.Since, j.Place = s, why, e.at, e.offset
}

func (j *Job) heard(e event) {
	if e.epoch == j.Owner {
		j.Heard = e.offset
	}
}
