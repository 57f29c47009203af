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
	// Last is the place of its last record: it is another once the job has changed.
	Last int64
	// Past are the runs before the present one, oldest first.
	Past []Run
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
	// First is the claim that made it Running; 0: none. Of two jobs, that with the
	// lower runs for longer.
	First Epoch
	// Takeovers is how many owners one after the other were silent until another
	// took the job over, and none of them came to a plan or a chunk: a job with
	// many is what its owners die of. 0 once it is over.
	Takeovers int

	Plan     *Plan          // nil until it is planned
	Chunks   map[int]*Chunk // those that are complete, by N
	Progress Progress       // of the owner; without one, of the chunks
	End      *End           // nil unless it finished or failed

	keys   []string // all of the job's keys
	queued int64    // Place when it was queued last
	unread int      // records that this version does not know
	tidied bool     // Progress is of chunks that may be forgotten
}

// Unreadable says that the job has records that this version cannot read: nobody
// knows what became of it, nor which objects it wants.
func (j *Job) Unreadable() bool { return j.unread > 0 }

// Run is one that ended, and was followed by another.
type Run struct {
	Call                    uuid.UUID
	Submitted, Began, Ended time.Time // Began is the zero time if it never did
	Outcome                 string    // why it has no file
}

// event is a record of a job with its place.
type event struct {
	key    string
	offset int64
	at     time.Time
	*Record
}

// fold makes a job out of its records; its Spec is nil when that was removed.
// Records are taken in the order in which they were written, which is the same
// for everybody, and each is judged by those before it alone: so all replicas
// agree on what a job is, and a record of an owner that lost its job without
// knowing changes nothing.
//
// Nor does it matter which progress the table still has besides the newest of
// each epoch: progress counts for its owner alone, and when the owner changes it
// is that of the chunks.
func fold(id int64, records map[string]ktable.Entry[Record]) *Job {
	events := make([]event, 0, len(records))
	for k, e := range records {
		events = append(events, event{k, e.Offset, e.At, &e.Value})
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(a.offset, b.offset) })
	return replay(id, events)
}

func replay(id int64, events []event) *Job {
	j := &Job{ID: id, Chunks: map[int]*Chunk{}}
	for _, e := range events {
		j.keys, j.Last = append(j.keys, e.key), e.offset
		if e.unread() {
			j.unread++
		}
		j.apply(e)
	}
	return j
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
			if j.Owner != 0 { // who stops in peace releases before
				j.Takeovers++
			}
			j.own(Epoch(e.offset), e.Claim.Worker)
			if j.State == StateQueued {
				j.Began, j.First = e.at, j.Owner
				j.enter(StateRunning, "", e)
			}
		}
	case e.Resume != nil:
		if j.State == StateFailed {
			j.Past = append(j.Past, j.run())
			j.End, j.Call, j.Submitted, j.Began, j.First, j.Ended = nil, e.Resume.Call, e.at, time.Time{}, 0, time.Time{}
			j.own(0, "")
			j.enter(StateQueued, "", e)
		}
	case e.Cancel != nil:
		if !j.State.Over() {
			j.own(0, "")
			j.Ended = e.at
			j.enter(StateCancelled, e.Cancel.Why, e)
		}
	case e.Expire != nil:
		if j.State.Over() && j.State != StateExpired {
			j.enter(StateExpired, e.Expire.Why, e)
		}
	case e.Tidy != nil: // the first has seen all chunks
		if j.settled() && !j.tidied {
			j.Progress, j.tidied = *e.Tidy, true
		}
	case j.Owner != 0 && epochOf(e.key) == j.Owner: // the others are the owner's alone
		j.Heard = e.offset
		j.applyOwners(e)
	}
}

// applyOwners takes a record of the owner.
func (j *Job) applyOwners(e event) {
	switch {
	case e.Release != nil:
		first := j.Owner == j.First
		j.own(0, "")
		if e.Release.Undo && first {
			j.Began, j.First = time.Time{}, 0
			j.State, j.Reason, j.Since, j.Place = StateQueued, "", j.Submitted, j.queued
		}
	case e.Plan != nil:
		if j.Plan == nil {
			j.Plan, j.Takeovers = e.Plan, 0
		}
	case e.Chunk != nil:
		if j.Chunks[e.Chunk.N] == nil {
			j.Chunks[e.Chunk.N], j.Takeovers = e.Chunk, 0
		}
	case e.Progress != nil:
		j.Progress = *e.Progress
	case e.End != nil:
		j.own(0, "")
		if e.End.State == StateFinished {
			j.Progress = Progress{Rows: e.End.Rows, Bytes: e.End.Bytes}
		}
		j.End, j.Ended = e.End, e.at
		j.enter(e.End.State, e.End.Reason, e)
	}
}

// own makes an epoch the owner, 0 for none, who begins where the chunks are.
func (j *Job) own(by Epoch, worker string) {
	j.Owner, j.Worker, j.Heard = by, worker, int64(by)
	j.Progress = Progress{}
	for _, c := range j.Chunks {
		j.Progress.Rows += c.Rows
		j.Progress.Bytes += c.Bytes
		j.Progress.Busy += c.Busy
	}
}

// settled says that it neither runs nor ever will.
func (j *Job) settled() bool { return j.State.Over() && j.State != StateFailed }

func (j *Job) enter(s State, why string, e event) {
	j.State, j.Reason, j.Since, j.Place, j.Takeovers = s, why, e.at, e.offset, 0
	if s == StateQueued {
		j.queued = e.offset
	}
}
