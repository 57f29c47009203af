package ingest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// lane carries one partition from Kafka into the table, in order. Two
// goroutines: the accumulator decodes records into the batch at hand, the
// writer stores the batch before. A lane lives from assignment to revocation.
type lane struct {
	in       *ingest
	at       partitionID
	topicID  uuid.UUID
	stream   *stream
	module   string // the only moduleCode that events may carry here; "": no topic of events
	owner    ownership
	recovery *recovery // the batch to make again first; nil: none
	until    int64     // last offset of the recovery
	// recovering is true until the records of the recovery have been pushed,
	// for the poll loop: they may take more memory than there is.
	recovering atomic.Bool
	log        *zap.Logger

	queue  *queue
	taken  []*kgo.Record      // from the queue, not yet decoded; owned by the accumulator
	ages   *ages              // how old what it holds is
	held   atomic.Int64       // bytes of the memory budget that the lane holds
	full   chan *batch        // accumulator -> writer
	ended  chan struct{}      // closed by run when the lane is over
	drain  context.CancelFunc // asks the lane to write what it has decoded and to end
	cancel context.CancelFunc // cuts it off
	unseen int                // records yet to be looked up because this process has not seen what came before; owned by the writer
	next   atomic.Int64       // offset to commit; 0: nothing stored yet
	first  atomic.Int64       // first offset pushed
	pushed atomic.Int64       // offset after the last one pushed; 0: none yet
	high   atomic.Int64       // end of the partition as of the last fetch
}

func newLane(in *ingest, at partitionID, s *stream, topicID uuid.UUID, owner ownership) *lane {
	module, _ := audit.ModuleOf(at.topic)
	return &lane{
		in: in, at: at, topicID: topicID, stream: s, module: module, owner: owner,
		log:    in.log.With(zap.String("topic", at.topic), zap.Int32("partition", at.partition)),
		queue:  newQueue(),
		ages:   &ages{},
		full:   make(chan *batch),
		ended:  make(chan struct{}),
		unseen: in.cfg.Limits.LookUpFirst,
	}
}

// begin sets what the lane recovers first.
func (l *lane) begin(r *recovery) {
	if r == nil {
		return
	}
	l.recovery, l.until = r, r.want.last
	l.recovering.Store(true)
	l.in.recovering.Add(1)
	l.in.budget.wake()
}

// recovered tells the poll loop that the lane is a lane like others again.
func (l *lane) recovered() {
	if l.recovering.Swap(false) {
		l.in.recovering.Add(-1)
	}
}

// start runs the lane until it is drained or cut off.
func (l *lane) start(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	open, drain := context.WithCancel(ctx)
	l.drain = drain
	go func() {
		defer close(l.ended)
		defer l.cancel()
		writer := make(chan struct{})
		go func() {
			defer close(writer)
			l.write(ctx)
		}()
		l.accumulate(ctx, open)
		close(l.full)
		<-writer
		l.recovered()
		l.release(l.held.Load())
	}()
}

// push hands fetched records to the lane and returns the bytes that wait in
// it. Not to be called once the lane may have ended.
func (l *lane) push(rs []*kgo.Record) int64 {
	var cost int64
	for _, r := range rs {
		cost += recordCost(r)
	}
	last := rs[len(rs)-1].Offset // once queued, a record is the decoder's, which recycles it
	l.first.CompareAndSwap(0, rs[0].Offset)
	l.held.Add(cost)
	l.in.budget.take(cost)
	l.ages.add(rs)
	l.queue.push(rs)
	l.pushed.Store(last + 1)
	if last >= l.until {
		l.recovered()
	}
	return l.held.Load()
}

func (l *lane) release(n int64) {
	l.held.Add(-n)
	l.in.budget.release(n)
}

// join waits until the lane has ended; when ctx ends first the lane is cut
// off. An insert cut off may have landed all the same: the range named in the
// commit before it is how the next owner finds out.
func (l *lane) join(ctx context.Context) {
	select {
	case <-l.ended:
	case <-ctx.Done():
		l.cancel()
		<-l.ended
	}
}

// accumulate fills batches from the queue and hands each to the writer once it
// is full, or old enough and the insert budget allows. It takes no more once
// open has ended, which is a part of ctx.
func (l *lane) accumulate(ctx, open context.Context) {
	if r := l.recovery; r != nil {
		var err error
		if r.stored, err = l.storedOffsets(ctx, r.want); err != nil {
			return // cut off; the range stays pending
		}
	}
	cur := l.stream.spare.Get().(*batch) // a second one is the writer's
	flush := time.NewTimer(0)
	<-flush.C
	reserved, due := false, false
	for {
		if r := l.recovery; r != nil && l.complete(cur) {
			if err := r.check(cur); err != nil {
				l.lost(cur.first, err)
				return
			}
			l.log.Info("insert in doubt is made again", zap.Int64("offset", cur.first), zap.Int("records", cur.count), zap.Int("stored", len(r.stored)))
			cur.sealed, cur.remade = true, true
			l.recovery = nil
			continue
		}
		var ready <-chan struct{}
		var out chan<- *batch
		if l.complete(cur) {
			out = l.full // decode no further until the writer has taken it
		} else {
			ready = l.queue.ready
			if len(l.taken) > 0 {
				ready = always
			}
			if due && !cur.empty() && l.recovery == nil {
				out = l.full
			}
		}
		select {
		case <-open.Done():
			l.finish(ctx, cur)
			return
		case out <- cur:
			flush.Stop()
			reserved, due = false, false
			cur = l.stream.spare.Get().(*batch)
		case <-ready:
			was := cur.empty()
			l.decode(open, cur)
			if was && !cur.empty() {
				flush.Reset(l.in.cfg.Limits.FlushAge)
			}
		case <-flush.C:
			// The batch is old enough. The insert budget of the process may
			// stretch its age further; meanwhile it goes on filling.
			if !reserved {
				reserved = true
				if wait := l.in.inserts.Reserve().Delay(); wait > 0 {
					flush.Reset(wait)
					continue
				}
			}
			due = true
		}
	}
}

// finish hands over the last batch. What is still in the queue was never
// counted: its offsets are not committed, the next owner reads it again.
func (l *lane) finish(ctx context.Context, cur *batch) {
	if cur.empty() || l.recovery != nil && !l.complete(cur) {
		return
	}
	select {
	case l.full <- cur:
	case <-ctx.Done():
	}
}

// complete says that b must be handed over before another record: it is full
// or, in a recovery, has reached the end of the range that was named.
func (l *lane) complete(b *batch) bool {
	if l.recovery != nil {
		return !b.empty() && b.last >= l.recovery.want.last
	}
	return b.full(l.in.cfg.Limits)
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// decode moves records from the queue into b until b is full, the records at
// hand are used up, or one cannot be judged yet.
func (l *lane) decode(open context.Context, b *batch) {
	if len(l.taken) == 0 {
		l.taken = l.queue.take()
	}
	for len(l.taken) > 0 && !l.complete(b) {
		r := l.taken[0]
		at := topic.Position{TopicID: l.topicID, Partition: r.Partition, Offset: r.Offset}
		e, err := l.read(b.filler, r, at)
		generated := err == nil && e.generatedFor != ""
		if generated && !l.knowsSwitches(open, b) {
			return
		}
		l.taken[0], l.taken = nil, l.taken[1:]
		b.take(r.Offset, len(r.Value), recordCost(r))
		b.appendedAt = r.Timestamp.UnixMilli()
		switch {
		case err != nil:
			b.dead = append(b.dead, deadLetter{record: r, reason: reason(err), err: err})
			continue
		case l.recovery.has(r.Offset):
		case e.heartbeat:
			b.heartbeats++
		case generated && !l.in.settings.Peek(e.generatedFor).StoresAutoUpdate(r.Timestamp):
			b.skipped++
		default:
			if len(r.Headers) > 0 && sentAgain(r.Headers) {
				b.doubted = append(b.doubted, b.rows.rows())
			}
			b.filler.add(at, b.appendedAt)
		}
		r.Recycle() // what was read points into it, and the columns do not
	}
}

// read has one record decoded and validated.
func (l *lane) read(f filler, r *kgo.Record, at topic.Position) (entry, error) {
	if p := packedOf(r); p != nil {
		return entry{}, p
	}
	if len(r.Value) > audit.MaxRecordBytes {
		return entry{}, tooLong(len(r.Value))
	}
	return f.read(l, r, at)
}

// idleCommit is how long a lane waits for its next batch before it commits the
// end of the last one by itself. With a next batch at hand the two commits are
// one.
const idleCommit = 50 * time.Millisecond

// write stores batches in order. Each batch goes through the same steps; the
// comments say what a restart finds if we die there.
func (l *lane) write(ctx context.Context) {
	idle := time.NewTimer(0)
	<-idle.C
	// A beginning that was found in the table is committed, so that the group
	// has an offset even if no record comes.
	settled := l.next.Load() == 0
	if !settled {
		idle.Reset(idleCommit)
	}
	for {
		select {
		case b, more := <-l.full:
			idle.Stop()
			if !more {
				if !settled {
					// Not committed is no loss: the range stays named, and
					// the next owner finds it stored.
					_ = l.settle(ctx)
				}
				return
			}
			if err := l.store(ctx, b); err != nil {
				l.lost(b.first, err)
				return
			}
			settled = false
			idle.Reset(idleCommit)
		case <-idle.C:
			if err := l.settle(ctx); err != nil {
				l.lost(l.next.Load(), err)
				return
			}
			settled = true
		}
	}
}

// store makes one batch durable and moves the lane past it.
func (l *lane) store(ctx context.Context, b *batch) error {
	err := l.secure(ctx, b)
	l.in.recent.over(b.turn) // stored, or cut off
	if err != nil {
		return err
	}
	// 5. The offset moves past the batch with the next commit: the next
	// batch's, or settle's when none comes soon.
	l.next.Store(b.last + 1)
	l.ages.done(b)
	l.in.herald.tell(l, b)
	l.in.metrics.stored(l, b)
	if n := len(b.dead); n > 0 {
		l.in.repeats.Warn("records became dead letters; auditrail deadletter list shows them", zap.String("topic", l.at.topic), zap.Int("records", n), zap.String("reason", b.dead[0].reason))
	}
	l.release(b.held)
	l.in.resume(l)
	b.reset()
	l.stream.spare.Put(b)
	return nil
}

// secure takes the steps after which each record of the batch is a row or a
// dead letter.
func (l *lane) secure(ctx context.Context, b *batch) error {
	// 1. Name the range. The commit's offset is the batch's first record,
	// which also settles the batch before. A lane whose partition has moved is
	// refused here, before it has done anything. If we die after this, the
	// next owner makes the same batch again: the range tells it which records
	// we may have judged, buried or inserted.
	if err := l.name(ctx, b); err != nil {
		return err
	}
	// 2. Leave out what is stored already. It reads, and buries conflicts. If
	// we die after this, the batch made again is looked up whole, so that a
	// record left out here is not taken for one that is missing.
	if err := l.judge(ctx, b); err != nil {
		return err
	}
	// 3. Write the dead letters. If we die after this, they are written again
	// by the next attempt and folded by their key.
	if err := l.bury(ctx, b.dead); err != nil {
		return err
	}
	// 4. Insert under the range's token, again and again until the engine says
	// yes and has the rows. If it landed and we were told that it failed, the
	// token makes the repetition a no-op. If we die after this, the next owner
	// finds the rows and has the table's view, if there is one, look again.
	return l.insert(ctx, b)
}

// name commits the batch's first offset with the batch's range as metadata.
func (l *lane) name(ctx context.Context, b *batch) error {
	pending := b.span()
	err := l.commit(ctx, b.first, &pending)
	b.named = time.Now()
	return err
}

// settle commits the end of the last batch, with nothing pending.
func (l *lane) settle(ctx context.Context) error { return l.commit(ctx, l.next.Load(), nil) }

// commit repeats a commit until the broker has it, ctx ends or the partition
// has another owner.
func (l *lane) commit(ctx context.Context, offset int64, pending *pendingRange) error {
	return l.in.retry(ctx, "commit", l.at.String(), func(ctx context.Context) error {
		return l.in.commits.commit(ctx, l.owner, l.at, offset, marker{topicID: l.topicID, pending: pending})
	})
}

// lost ends a lane that may not go on: cut off, or no longer the owner of its
// partition. What was not stored is not counted: whoever owns the partition
// reads it again.
func (l *lane) lost(offset int64, err error) {
	if !errors.Is(err, context.Canceled) {
		why := "mismatch"
		if errors.Is(err, errNotOwner) {
			why = "moved"
		}
		l.in.metrics.laneStops.WithLabelValues(why).Inc()
		l.in.forget(l, offset, err)
	}
	l.cancel()
}
