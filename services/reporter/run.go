package reporter

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/report"
)

const (
	// fullTries is how often a store that is full is tried.
	fullTries = 3
	// mostPause is the longest pause between attempts, as a multiple of the first.
	mostPause = 30
	// stallsToGiveUp is how many attempts in which nothing moves make a report
	// Failed.
	stallsToGiveUp = 2
	// In a lease, an owner says this often that it lives: while rows move, and
	// when they do not.
	movesInLease, beatsInLease = 30, 6
	// mostTakeovers is how many owners in a row may end over the same step. Then
	// it is the report that they end of.
	mostTakeovers = 5
)

// run is a job that this replica owns, or is about to claim.
type run struct {
	*service
	id  int64
	log *zap.Logger
	ctx context.Context // ends when the job is not ours any more
	end context.CancelCauseFunc

	busy      bool         // a turn is under way; guarded by service.mu
	notBefore time.Time    // no turn before; set by turns, guarded by service.mu
	epoch     report.Epoch // ours; 0: not claimed yet; set by turns, guarded by service.mu

	// Owned by turns, of which there is one at a time.
	attempts int       // objects that were begun
	tries    int       // failures since something worked
	since    time.Time // of the first of them

	hand      hand           // the chunk in hand
	finishing atomic.Bool    // the end is being written
	beats     sync.WaitGroup // tells that we live

	mu      sync.Mutex
	done    report.Progress // of the chunks that are complete; guarded by mu
	trouble string          // guarded by mu
}

// hand is how far the chunk is that is being made.
type hand struct {
	rows, bytes atomic.Int64
	since       atomic.Int64 // Unix nanoseconds; 0: none is
}

func newRun(ctx context.Context, s *service, j *report.Job) *run {
	r := &run{service: s, id: j.ID, log: s.log.With(zap.Int64("report", j.ID))}
	// A stop lets turns end: see service.stop.
	r.ctx, r.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return r
}

// owns says that the job is ours as the table has it.
func (r *run) owns(j *report.Job) bool { return j != nil && j.Owner == r.epoch }

// lost ends the run, whose job is not ours any more. One that is ending it finds
// that out itself: it may be by its own hand.
func (r *run) lost() {
	if !r.finishing.Load() {
		r.end(errLost)
	}
}

// turn claims the job unless it is ours, and does the next step of it.
func (r *run) turn(j *report.Job, silent bool) {
	defer r.recovered()
	err := error(nil)
	if r.epoch == 0 {
		var ours bool
		if ours, err = r.claim(j, silent); err == nil && !ours {
			return
		}
		if err != nil {
			r.repeats.Warn("a report cannot be claimed", zap.Int64("report", r.id), zap.Error(err))
			return
		}
	}
	if err = r.step(); err != nil {
		r.failed(err)
	}
}

// recovered, deferred, makes a panic the end of this report: it must not be that
// of the others, nor come again and again.
func (r *run) recovered() {
	p := recover()
	if p == nil {
		return
	}
	r.log.Error("a turn panicked", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
	if r.epoch != 0 {
		r.failed(fmt.Errorf("%w: %v", errPanic, p))
	}
}

// claim makes the job ours; false when it is not to be had.
func (r *run) claim(j *report.Job, silent bool) (bool, error) {
	if silent {
		// It may be us who heard nothing.
		heard := j.Heard
		if err := r.table.Fresh(r.ctx); err != nil {
			r.deaf.Store(time.Now().UnixNano())
			return false, err
		}
		if j = r.table.Job(r.id); j == nil || j.State.Over() || j.Heard != heard {
			return false, nil
		}
	}
	epoch := j.Owner
	if !r.ours(j) {
		// If we die behind it, the job has an owner who is silent. If it landed and we
		// are told that it is in doubt, we find ourselves in the table later.
		var err error
		if epoch, err = r.table.Claim(r.ctx, r.id, j.Owner, r.worker); err != nil || epoch == 0 {
			return false, err
		}
	}
	j = r.table.Job(r.id)
	if j == nil || j.Owner != epoch {
		return false, nil // it was cancelled at once
	}
	if r.tooMany(j) {
		return false, r.table.Unclaim(r.ctx, r.id, epoch)
	}
	r.service.mu.Lock()
	r.epoch = epoch
	r.service.mu.Unlock()
	r.log.Info("report claimed", zap.Int64("epoch", int64(epoch)), zap.Int("chunks", len(j.Chunks)), zap.Int64("before", int64(j.First)))
	if j.First == epoch {
		r.tell(j)
	} else {
		r.metrics.takeovers.Inc()
	}
	r.took(j)
	r.beats.Go(r.beat)
	if j.Takeovers >= mostTakeovers {
		r.failed(errPoison)
		return false, nil
	}
	return true, nil
}

// tooMany says that the subscription has as many reports running without this
// one as it may: two replicas claimed at the same time. All agree who was first.
func (r *run) tooMany(j *report.Job) bool {
	if j.First != j.Owner {
		return false // it was running already
	}
	before := 0
	for _, o := range r.table.Alive() {
		if o.State == report.StateRunning && subscription(o) == subscription(j) && o.First < j.First {
			before++
		}
	}
	return before >= r.cfg.Running
}

// took notes what is complete.
func (r *run) took(j *report.Job) {
	var done report.Progress
	for _, c := range j.Chunks {
		done.Rows += c.Rows
		done.Bytes += c.Bytes
		done.Busy += c.Busy
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = done
}

// step does what is next: it plans a large report, or makes a chunk. What is quick
// goes with it: the header, the end, and of a small report all.
func (r *run) step() error {
	j := r.table.Job(r.id)
	if !r.owns(j) {
		return errLost
	}
	if j.Plan == nil {
		var err error
		if j, err = r.plan(j); err != nil {
			return err
		}
		r.worked(j)
		if len(j.Plan.Chunks) > 1 {
			return nil
		}
	}
	for made := false; ; {
		n, missing := nextChunk(j)
		if !missing {
			return r.publish(j)
		}
		if made {
			return nil
		}
		var err error
		if j, err = r.chunk(j, n); err != nil {
			return err
		}
		r.worked(j)
		made = n != report.Header
	}
}

// nextChunk is the first that is missing, false when none is.
func nextChunk(j *report.Job) (n int, missing bool) {
	n = 0
	if hasHeader(j.Spec) {
		n = report.Header
	}
	for ; n < len(j.Plan.Chunks); n++ {
		if j.Chunks[n] == nil {
			return n, true
		}
	}
	return 0, false
}

// worked notes that the job got on.
func (r *run) worked(j *report.Job) {
	r.took(j)
	r.tries, r.since = 0, time.Time{}
	r.say("")
}

func (r *run) say(trouble string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = trouble
}

// failed plans the next attempt, or ends the run as Failed.
func (r *run) failed(err error) {
	if r.ctx.Err() != nil || errors.Is(err, errLost) {
		r.end(errLost)
		return
	}
	now := time.Now()
	if r.tries++; r.tries == 1 {
		r.since = now
		switch {
		case errors.Is(err, errStalled):
			r.since = now.Add(-r.cfg.GiveUp / stallsToGiveUp)
		case errors.Is(err, errSlow):
			r.since = now.Add(-r.cfg.GiveUp)
		}
	}
	why := explain(err)
	r.metrics.failures.WithLabelValues(why.what).Inc()
	r.log.Warn("report is in trouble", zap.String("trouble", why.text), zap.Int("tries", r.tries), zap.Error(err))
	if why.full && r.tries >= fullTries || why.fatal || now.Sub(r.since) >= r.cfg.GiveUp {
		end := report.End{State: report.StateFailed, Reason: why.text + " " + why.advice}
		if r.finish(end) == nil {
			return
		}
	}
	r.say(why.text)
	r.service.mu.Lock()
	defer r.service.mu.Unlock()
	r.notBefore = now.Add(r.cfg.Pause * time.Duration(min(1<<min(r.tries-1, 10), mostPause)))
}

// settle writes to the table until it is known what became of it. there says
// that the record took effect. write may land several times: its records are the
// same, and the first counts.
func (r *run) settle(write func(context.Context) (*report.Job, error), there func(*report.Job) bool) (*report.Job, error) {
	for tries := 0; ; tries++ {
		j, err := write(r.ctx)
		if err == nil {
			if j != nil && there(j) {
				return j, nil
			}
			return nil, errLost
		}
		if !errors.Is(err, ktable.ErrUnconfirmed) {
			return nil, fmt.Errorf("%w: %w", errKafka, err)
		}
		r.metrics.failures.WithLabelValues(whatKafka).Inc()
		r.say(troubleKafka)
		for {
			r.repeats.Warn("a write to the table is in doubt", zap.Int64("report", r.id), zap.Error(err))
			select {
			case <-time.After(r.cfg.Pause * time.Duration(min(tries+1, mostPause))):
			case <-r.ctx.Done():
				if j = r.table.Job(r.id); j != nil && there(j) {
					return j, nil
				}
				return nil, errLost
			}
			if err = r.table.Fresh(r.ctx); err == nil {
				break
			}
		}
		r.say("")
		j = r.table.Job(r.id)
		if j != nil && there(j) {
			return j, nil
		}
		if !r.owns(j) {
			return nil, errLost
		}
	}
}

// beat tells that we live, and how far we are, until the run ends.
func (r *run) beat() {
	tick := time.NewTicker(r.cfg.Lease / movesInLease)
	defer tick.Stop()
	var told report.Progress
	at := time.Now() // the claim
	for {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return
		}
		p := r.progress(time.Now())
		if p.Rows == told.Rows && p.Bytes == told.Bytes && p.Trouble == told.Trouble && time.Since(at) < r.cfg.Lease/beatsInLease {
			continue
		}
		j, err := r.table.SetProgress(r.ctx, r.id, r.epoch, p)
		switch {
		case r.ctx.Err() != nil:
			return
		case err != nil:
			r.repeats.Warn("progress cannot be told", zap.Int64("report", r.id), zap.Error(err))
		case !r.owns(j):
			r.lost()
			return
		default:
			told, at = p, time.Now()
		}
	}
}

// progress is how far the job is.
func (r *run) progress(now time.Time) report.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.done
	p.Trouble = r.trouble
	if since := r.hand.since.Load(); since != 0 {
		p.Rows += r.hand.rows.Load()
		p.Bytes += r.hand.bytes.Load()
		p.Busy += now.Sub(time.Unix(0, since))
	}
	return p
}

// watch ends an attempt in which nothing moves: a connection that is frozen ends
// by itself only after a quarter of an hour, or never. Of ClickHouse nothing is
// heard before the first rows, which may be the last that it finds: it has longer.
type watch struct {
	ctx               context.Context
	timer             *time.Timer
	moving, answering time.Duration // how long nothing may be heard
	asked             atomic.Bool   // ClickHouse has not answered yet
	stop              context.CancelFunc
}

// watched is the context of an attempt, which the caller stops.
func (r *run) watched() (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	w := &watch{ctx: ctx, moving: r.cfg.GiveUp / stallsToGiveUp, answering: r.cfg.GiveUp}
	w.timer = time.AfterFunc(w.moving, func() {
		if w.asked.Load() {
			cancel(errSlow)
		} else {
			cancel(errStalled)
		}
	})
	w.stop = func() { w.timer.Stop(); cancel(nil) }
	return ctx, w
}

// ask tells that ClickHouse is given a statement.
func (w *watch) ask() {
	w.asked.Store(true)
	w.timer.Reset(w.answering)
}

// on tells that something moves.
func (w *watch) on() {
	w.asked.Store(false)
	w.timer.Reset(w.moving)
}

// why is err, of an attempt, with what the watch knows.
func (w *watch) why(err error) error {
	cause := context.Cause(w.ctx)
	switch {
	case errors.Is(cause, errSlow):
		return fmt.Errorf("%w: %w", errSlow, err)
	case !errors.Is(cause, errStalled):
		return err
	case errors.Is(err, errStored), errors.Is(err, errUnread):
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return fmt.Errorf("%w: %w: %w", errAway, errStalled, err)
}
