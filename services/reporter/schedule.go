package reporter

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/report"
)

// turns decides which job gets the next turn: that of the subscription whose
// last turn is the longest ago, and of its jobs again that whose last turn is;
// those that never had one by their ids. A turn is a chunk at most, so a
// subscription waits for one chunk of each other, however large their reports
// are. Owned by the scheduler.
type turns struct {
	n             int64            // turns so far
	jobs          map[int64]int64  // the last turn of each
	subscriptions map[string]int64 // the last turn of each
}

func newTurns() *turns { return &turns{jobs: map[int64]int64{}, subscriptions: map[string]int64{}} }

// next is the one of some jobs whose turn it is; nil when there are none.
func (t *turns) next(some []*report.Job) *report.Job {
	if len(some) == 0 {
		return nil
	}
	return slices.MinFunc(some, func(a, b *report.Job) int {
		return cmp.Or(
			cmp.Compare(t.subscriptions[subscription(a)], t.subscriptions[subscription(b)]),
			cmp.Compare(t.jobs[a.ID], t.jobs[b.ID]),
			cmp.Compare(a.ID, b.ID),
		)
	})
}

func (t *turns) took(j *report.Job) {
	t.n++
	t.jobs[j.ID], t.subscriptions[subscription(j)] = t.n, t.n
}

// forget drops what is known of jobs that are over.
func (t *turns) forget(alive []*report.Job) {
	ids, subs := make(map[int64]struct{}, len(alive)), make(map[string]struct{}, len(alive))
	for _, j := range alive {
		ids[j.ID], subs[subscription(j)] = struct{}{}, struct{}{}
	}
	for id := range t.jobs {
		if _, ok := ids[id]; !ok {
			delete(t.jobs, id)
		}
	}
	for sub := range t.subscriptions {
		if _, ok := subs[sub]; !ok {
			delete(t.subscriptions, sub)
		}
	}
}

func subscription(j *report.Job) string { return j.Spec.Requester.CustomerUUID }

// leases knows how long owners have been silent, by this process's clock. Owned
// by the scheduler.
type leases map[int64]lease

type lease struct {
	owner report.Epoch
	heard int64
	since time.Time // when heard was first seen
}

// listen notes whom the table has heard of.
func (l leases) listen(alive []*report.Job, now time.Time) {
	owned := map[int64]struct{}{}
	for _, j := range alive {
		if j.Owner == 0 {
			continue
		}
		owned[j.ID] = struct{}{}
		if was, ok := l[j.ID]; !ok || was.owner != j.Owner || was.heard != j.Heard {
			l[j.ID] = lease{j.Owner, j.Heard, now}
		}
	}
	for id := range l {
		if _, ok := owned[id]; !ok {
			delete(l, id)
		}
	}
}

// silent says that nothing was heard of the job's owner for as long.
func (l leases) silent(j *report.Job, now time.Time, long time.Duration) bool {
	was, ok := l[j.ID]
	return ok && now.Sub(was.since) >= long
}

// scheduler gives turns to jobs. Its goroutine owns it.
type scheduler struct {
	*service
	turns  *turns
	leases leases
	claims map[int64]time.Time // jobs that cannot be claimed before
}

// lookEvery is how often jobs are looked at when nothing changes: owners grow
// silent, pauses end.
func (s *service) lookEvery() time.Duration { return min(time.Second, s.cfg.Lease/10) }

// schedule gives turns until ctx ends.
func (s *service) schedule(ctx context.Context) {
	sched := &scheduler{service: s, turns: newTurns(), leases: leases{}, claims: map[int64]time.Time{}}
	changed, stop := s.table.Watch()
	defer stop()
	tick := time.NewTicker(s.lookEvery())
	defer tick.Stop()
	for ctx.Err() == nil {
		sched.look(ctx, time.Now())
		select {
		case <-changed:
		case <-s.turned:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// look starts as many turns as there are workers free.
func (s *scheduler) look(ctx context.Context, now time.Time) {
	alive := s.table.Alive()
	s.leases.listen(alive, now)
	s.turns.forget(alive)
	for id, at := range s.claims {
		if now.After(at) {
			delete(s.claims, id)
		}
	}
	s.drop()
	s.metrics.count(alive)
	for {
		free, waiting := s.candidates(alive, now)
		if !free {
			return
		}
		j := s.turns.next(waiting)
		if j == nil {
			return
		}
		s.turns.took(j)
		s.start(ctx, j, s.silent(j, now))
	}
}

// drop ends the runs whose jobs are not ours any more.
func (s *scheduler) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.runs {
		// As the table has it now: what was looked at before does not know of a
		// claim since.
		if r.epoch != 0 && !r.owns(s.table.Job(id)) {
			r.lost()
			if !r.busy {
				delete(s.runs, id)
			}
		}
	}
}

// candidates are the jobs that could have a turn now; free says that there is a
// worker for one.
func (s *scheduler) candidates(alive []*report.Job, now time.Time) (free bool, some []*report.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := 0
	running := map[string]int{}
	queued := map[string]*report.Job{} // the first of each subscription
	for _, r := range s.runs {
		if r.busy {
			busy++
		}
	}
	s.metrics.busy.Set(float64(busy))
	if busy >= s.cfg.Workers {
		return false, nil
	}
	for _, j := range alive {
		r := s.runs[j.ID]
		if j.State == report.StateRunning || r != nil {
			running[subscription(j)]++
		}
		_, pause := s.claims[j.ID]
		switch {
		case r != nil:
			if !r.busy && !now.Before(r.notBefore) && r.ctx.Err() == nil {
				some = append(some, j)
			}
		case pause:
		case j.State == report.StateQueued:
			if first := queued[subscription(j)]; first == nil || j.ID < first.ID {
				queued[subscription(j)] = j
			}
		case j.Owner == 0 || s.ours(j) || s.silent(j, now):
			some = append(some, j)
		}
	}
	for sub, j := range queued {
		if running[sub] < s.cfg.Running {
			some = append(some, j)
		}
	}
	return true, some
}

// ours says that this replica owns a job by the table: by a claim that landed
// though it was in doubt, when there is no run of it.
func (s *service) ours(j *report.Job) bool { return j.Owner != 0 && j.Worker == s.worker }

// silent says that nothing was heard of the job's owner for as long as a lease,
// while we could hear: silence counts anew when we learn that we could not.
func (s *scheduler) silent(j *report.Job, now time.Time) bool {
	return now.Sub(time.Unix(0, s.deaf.Load())) >= s.cfg.Lease && s.leases.silent(j, now, s.cfg.Lease)
}

// start gives a job its turn. silent says that its owner is.
func (s *scheduler) start(ctx context.Context, j *report.Job, silent bool) {
	s.mu.Lock()
	r := s.runs[j.ID]
	if r == nil {
		r = newRun(ctx, s.service, j)
		s.runs[j.ID] = r
	}
	r.busy = true
	s.mu.Unlock()
	if r.epoch == 0 { // until we know better, should this fail
		s.claims[j.ID] = time.Now().Add(s.cfg.Pause)
	}
	s.service.turns.Go(func() { //nolint:contextcheck // a turn outlives ctx for a while: see stop
		s.metrics.turns.Inc()
		r.turn(j, silent)
		s.mu.Lock()
		r.busy = false
		if cause := context.Cause(r.ctx); r.epoch == 0 || cause != nil && !errors.Is(cause, errStopped) {
			delete(s.runs, j.ID)
		}
		s.mu.Unlock()
		select {
		case s.turned <- struct{}{}:
		default:
		}
	})
}

// stop lets the turns in hand end, for a while, and gives all jobs back but those
// whose turn does not end.
func (s *service) stop() {
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.turns.Wait()
	}()
	select {
	case <-over:
	case <-time.After(stopGrace):
	}
	s.mu.Lock()
	for _, r := range s.runs {
		r.end(errStopped)
	}
	s.mu.Unlock()
	select {
	case <-over:
	case <-time.After(stopTimeout):
		s.log.Warn("a turn does not end; others take its report over later")
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var released sync.WaitGroup
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.runs {
		if r.busy || !errors.Is(context.Cause(r.ctx), errStopped) {
			continue
		}
		epoch := r.epoch
		released.Go(func() {
			r.beats.Wait()
			// If we die before: others notice our silence.
			if err := s.table.Release(ctx, id, epoch); err != nil {
				s.log.Warn("a report is not given back; others take it over later", zap.Int64("report", id), zap.Error(err))
			}
		})
	}
	released.Wait()
}

var (
	// errLost ends a run whose job somebody else owns, or that is over.
	errLost = errors.New("the report is not ours any more")
	// errStopped ends a run when the reporter stops.
	errStopped = errors.New("the reporter stops")
)
