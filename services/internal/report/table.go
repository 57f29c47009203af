package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// maxAllot is how many numbers that reports have already are passed over for
// a new one: those of a topic of numbers that was made anew begin at 1 again.
const maxAllot = 10_000

// allotTimeout bounds the wait for a number.
const allotTimeout = 10 * time.Second

// Table holds all jobs. Writes return once this process has read them back; an
// error that wraps ktable.ErrUnconfirmed leaves open whether they took effect.
// Safe for concurrent use.
type Table struct {
	table *ktable.Table[Record]
	ids   *kgo.Client
	log   *zap.Logger

	mu        sync.Mutex
	changes   *ktable.Changes[Record]                   // guarded by mu
	records   map[int64]map[string]ktable.Entry[Record] // of each job, by key; guarded by mu
	jobs      map[int64]*Job                            // guarded by mu
	alive     map[int64]*Job                            // those of jobs that are not over; guarded by mu
	byJob     map[uuid.UUID]*Job                        // jobs by Spec.Job; guarded by mu
	leftovers map[int64]*Job                            // of jobs that were removed; guarded by mu
	unread    map[int64]struct{}                        // of which records are not understood, and that may be there; guarded by mu
	shared    bool                                      // jobs was returned: a change makes another map; guarded by mu
}

// Open reads all jobs and follows their changes. The caller closes it. Its
// errors are those of ktable.Open.
func Open(ctx context.Context, cfg kafka.Config, log *zap.Logger) (*Table, error) {
	t, err := ktable.Open[Record](ctx, cfg, topic.Reports, log)
	if err != nil {
		return nil, err
	}
	ids, err := kgo.NewClient(append(cfg.Options(log),
		kgo.DefaultProduceTopic(topic.ReportIDs), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		// As in ktable: an attempt ends in time. A number may then be lost.
		kgo.RecordDeliveryTimeout(allotTimeout), kgo.AllowIdempotentProduceCancellation())...)
	if err != nil {
		t.Close()
		return nil, err
	}
	if err := topic.CheckOne(ctx, ids, topic.ReportIDs); err != nil {
		t.Close()
		ids.Close()
		return nil, err
	}
	return &Table{table: t, ids: ids, log: log, changes: t.Changes()}, nil
}

// Close ends the following.
func (t *Table) Close() {
	t.table.Close()
	t.ids.Close()
}

// Watch is that of ktable.Table: a signal when jobs change.
func (t *Table) Watch() (changed <-chan struct{}, stop func()) { return t.table.Watch() }

// ID is that of the table's topic.
func (t *Table) ID() uuid.UUID { return t.table.ID() }

// Fresh is that of ktable.Table.
func (t *Table) Fresh(ctx context.Context) error { return t.table.Fresh(ctx, 0) }

// Jobs returns what memory holds of all jobs, by id. Neither the map nor the
// jobs are the caller's to change. It costs a copy of the map after each change:
// who looks often takes Alive or Sorted.
func (t *Table) Jobs() map[int64]*Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refold()
	t.shared = true
	return t.jobs
}

// Job returns one job; nil when memory has none of that id.
func (t *Table) Job(id int64) *Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refold()
	return t.jobs[id]
}

// ByJob returns the job of that Spec.Job; nil when memory has none.
func (t *Table) ByJob(job uuid.UUID) *Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refold()
	return t.byJob[job]
}

// Alive returns the jobs that are not over, oldest first. It costs nothing for
// those that are.
func (t *Table) Alive() []*Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refold()
	return sorted(slices.Collect(maps.Values(t.alive)))
}

// Unreadable is how many jobs have records that this version cannot read: newer
// ones, or damaged ones. While there is one, nobody knows which objects are
// wanted.
func (t *Table) Unreadable() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refold()
	return len(t.unread)
}

// refold folds the jobs anew of which records changed; t.mu is held.
func (t *Table) refold() {
	changed, anew := t.changes.Take()
	if anew {
		t.records, t.leftovers = map[int64]map[string]ktable.Entry[Record]{}, map[int64]*Job{}
		t.unread = map[int64]struct{}{}
		t.jobs, t.alive, t.byJob, t.shared = map[int64]*Job{}, map[int64]*Job{}, map[uuid.UUID]*Job{}, false
	}
	ids := map[int64]struct{}{}
	for k, e := range changed {
		id, _, ok := parseKey(k)
		if !ok {
			continue
		}
		ids[id] = struct{}{}
		switch of := t.records[id]; {
		case e == nil:
			delete(of, k)
		case of == nil:
			t.records[id] = map[string]ktable.Entry[Record]{k: *e}
		default:
			of[k] = *e
		}
	}
	if len(ids) > 0 && t.shared {
		t.jobs, t.shared = maps.Clone(t.jobs), false
	}
	readable := len(t.unread) == 0
	for id := range ids {
		if j := t.jobs[id]; j != nil && t.byJob[j.Spec.Job] == j {
			delete(t.byJob, j.Spec.Job)
		}
		delete(t.jobs, id)
		delete(t.alive, id)
		delete(t.leftovers, id)
		delete(t.unread, id)
		j := fold(id, t.records[id])
		_, there := t.records[id][key(id, kindSpec)] // read or not
		if there && j.unread > 0 {
			t.unread[id] = struct{}{}
		}
		switch {
		case len(j.keys) == 0:
			delete(t.records, id)
		case !there:
			t.leftovers[id] = j
		case j.Spec != nil:
			t.jobs[id], t.byJob[j.Spec.Job] = j, j
			if !j.State.Over() {
				t.alive[id] = j
			}
		}
	}
	if readable && len(t.unread) > 0 {
		t.log.Error("reports have records that this version cannot read: they are kept, and so are all objects: update this program", zap.Int64s("reports", slices.Sorted(maps.Keys(t.unread))))
	}
}

// Sorted returns the jobs for which keep holds, oldest first. keep does not ask
// the table for anything.
func (t *Table) Sorted(keep func(*Job) bool) []*Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refold()
	var some []*Job
	for _, j := range t.jobs {
		if keep(j) {
			some = append(some, j)
		}
	}
	return sorted(some)
}

func sorted(jobs []*Job) []*Job {
	slices.SortFunc(jobs, func(a, b *Job) int { return cmp.Compare(a.ID, b.ID) })
	return jobs
}

// Get is Job, but waits for what the table holds by now before it says that
// there is none. The error wraps ktable.ErrBehind when that could not be told.
func (t *Table) Get(ctx context.Context, id int64) (*Job, error) {
	if j := t.Job(id); j != nil {
		return j, nil
	}
	if _, _, err := t.table.Get(ctx, key(id, kindSpec)); err != nil {
		return nil, err
	}
	return t.Job(id), nil
}

// DoubtError tells that the report of that number may or may not be there. It
// wraps ktable.ErrUnconfirmed.
type DoubtError struct {
	ID  int64
	err error
}

func (e *DoubtError) Error() string { return e.err.Error() }

// Unwrap is the reason.
func (e *DoubtError) Unwrap() error { return e.err }

// Create makes a job. If we die in the middle, a number is lost, nothing else.
// The error is a *DoubtError when nobody knows whether it was made.
func (t *Table) Create(ctx context.Context, s Spec) (*Job, error) {
	id, err := t.allot(ctx)
	if err != nil {
		return nil, err
	}
	j, err := t.put(ctx, id, Record{Spec: &s}, kindSpec)
	if errors.Is(err, ktable.ErrUnconfirmed) {
		err = &DoubtError{id, err}
	}
	return j, err
}

// allot returns a number that no report has.
func (t *Table) allot(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, allotTimeout)
	defer cancel()
	for range maxAllot {
		r, err := t.number(ctx)
		if errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition) {
			// The topic was made anew: a producer that knows it by its old id would
			// fail for ever.
			t.ids.PurgeTopicsFromProducing(topic.ReportIDs)
			r, err = t.number(ctx)
		}
		if err != nil {
			return 0, fmt.Errorf("allot a report's number: %w", err)
		}
		id := r.Offset + 1
		if _, taken, err := t.table.Get(ctx, key(id, kindSpec)); err != nil || !taken {
			return id, err
		}
	}
	return 0, fmt.Errorf("topic %s gave %d numbers that reports have already", topic.ReportIDs, maxAllot)
}

// number takes the next number, that is r.Offset + 1. All records have one key:
// the topic keeps the last, so that its offsets go on.
func (t *Table) number(ctx context.Context) (r *kgo.Record, err error) {
	return t.ids.ProduceSync(ctx, &kgo.Record{Key: []byte("last"), Value: []byte("1")}).First()
}

// Claim makes the caller, who calls itself worker, the owner of a job whose owner
// is prev. It returns the new epoch; 0 when somebody else was faster, or the job
// is over.
func (t *Table) Claim(ctx context.Context, id int64, prev Epoch, worker string) (Epoch, error) {
	unique := uuid.NewString()
	j, err := t.put(ctx, id, Record{Claim: &claim{prev, worker}}, kindClaim, unique)
	if err != nil || j == nil {
		return 0, err
	}
	e, ok := t.table.PeekEntry(key(id, kindClaim, unique))
	if !ok || j.Owner != Epoch(e.Offset) {
		return 0, nil
	}
	return j.Owner, nil
}

// Release gives a job back that epoch owns.
func (t *Table) Release(ctx context.Context, id int64, epoch Epoch) error {
	return t.release(ctx, id, epoch, release{})
}

// Unclaim is Release as if the job had not been claimed: it is Queued again when
// it became Running by that claim.
func (t *Table) Unclaim(ctx context.Context, id int64, epoch Epoch) error {
	return t.release(ctx, id, epoch, release{Undo: true})
}

func (t *Table) release(ctx context.Context, id int64, epoch Epoch, r release) error {
	_, err := t.put(ctx, id, Record{Release: &r}, kindRelease, epoch.String(), uuid.NewString())
	return err
}

// SetPlan says how the job is cut. It has no effect when epoch is not the owner
// any more, nor have AddChunk, SetProgress and SetEnd: the job that is returned
// tells, nil when it was removed.
func (t *Table) SetPlan(ctx context.Context, id int64, epoch Epoch, p Plan) (*Job, error) {
	return t.put(ctx, id, Record{Plan: &p}, kindPlan, epoch.String(), uuid.NewString())
}

// AddChunk says that a chunk is complete.
func (t *Table) AddChunk(ctx context.Context, id int64, epoch Epoch, c Chunk) (*Job, error) {
	return t.put(ctx, id, Record{Chunk: &c}, kindChunk, epoch.String(), uuid.NewString())
}

// SetProgress says how far epoch has come, and that it lives.
func (t *Table) SetProgress(ctx context.Context, id int64, epoch Epoch, p Progress) (*Job, error) {
	return t.put(ctx, id, Record{Progress: &p}, kindProgress, epoch.String())
}

// SetEnd ends the run.
func (t *Table) SetEnd(ctx context.Context, id int64, epoch Epoch, e End) (*Job, error) {
	return t.put(ctx, id, Record{End: &e}, kindEnd, epoch.String(), uuid.NewString())
}

// Cancel ends a job that is not over; the job that is returned tells.
func (t *Table) Cancel(ctx context.Context, id int64, who, why string) (*Job, error) {
	return t.put(ctx, id, Record{Cancel: &by{who, why}}, kindCancel, uuid.NewString())
}

// Resume queues a job again that failed, as a run with that callId; the job that
// is returned tells whether it did.
func (t *Table) Resume(ctx context.Context, id int64, who string, call uuid.UUID) (*Job, error) {
	return t.put(ctx, id, Record{Resume: &resume{by{Who: who}, call}}, kindResume, uuid.NewString())
}

// Expire takes a job's file out of reach. Its objects are the caller's to
// delete afterwards.
func (t *Table) Expire(ctx context.Context, id int64, why string) (*Job, error) {
	return t.put(ctx, id, Record{Expire: &by{Why: why}}, kindExpire, uuid.NewString())
}

// Tidy forgets the plan, the chunks and the progress of a job that neither runs
// nor can be resumed: its manifest has what counts. It does nothing to another:
// one that failed may be resumed at this moment, whatever the caller has seen.
func (t *Table) Tidy(ctx context.Context, id int64) error {
	j := t.Job(id)
	if j == nil || !j.settled() {
		return nil
	}
	// What the chunks came to stays; of a file the end's record has it.
	if !j.tidied && len(j.Chunks) > 0 && (j.End == nil || j.End.State != StateFinished) {
		var err error
		if j, err = t.put(ctx, id, Record{Tidy: &j.Progress}, kindTidy, uuid.NewString()); err != nil || j == nil {
			return err
		}
	}
	return t.drop(ctx, j, kindChunk, kindPlan, kindProgress)
}

// Remove forgets a job: without its specification there is none. Its other
// records are left over until DropLeftovers deletes them.
func (t *Table) Remove(ctx context.Context, id int64) error {
	return t.table.Delete(ctx, key(id, kindSpec))
}

// DropLeftovers deletes the records of jobs that are removed, and returns how
// many there were.
func (t *Table) DropLeftovers(ctx context.Context) (n int, err error) {
	t.mu.Lock()
	t.refold()
	all := slices.Collect(maps.Values(t.leftovers))
	t.mu.Unlock()
	for _, j := range all {
		n += len(j.keys)
		err = errors.Join(err, t.drop(ctx, j))
	}
	return n, err
}

// drop deletes the job's keys of these kinds; without kinds, all.
func (t *Table) drop(ctx context.Context, j *Job, kinds ...string) error {
	for _, k := range j.keys {
		_, kind, _ := parseKey(k)
		if len(kinds) > 0 && !slices.Contains(kinds, kind) {
			continue
		}
		if err := t.table.Delete(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// put writes a record and returns the job as it is then; nil when it was
// removed meanwhile.
func (t *Table) put(ctx context.Context, id int64, r Record, kind string, more ...string) (*Job, error) {
	if err := t.table.Put(ctx, key(id, kind, more...), r); err != nil {
		return nil, fmt.Errorf("report %d: %w", id, err)
	}
	return t.Job(id), nil
}
