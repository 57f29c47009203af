package reporter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/auditrail/auditrail/services/internal/report"
)

const (
	// houseEvery is how often jobs that are over are looked at.
	houseEvery = 10 * time.Second
	// sweepAgain is when a sweep is tried again that failed.
	sweepAgain = time.Minute
	// marker is the object that says which table's reports a store has.
	marker = "auditrail-reports"
)

// keepHouse looks after jobs that are over, until ctx ends.
func (s *service) keepHouse(ctx context.Context) {
	changed, stop := s.table.Watch()
	defer stop()
	every := time.NewTicker(min(houseEvery, s.cfg.OrphanAge))
	defer every.Stop()
	var sweep time.Time // when the next is due
	for ctx.Err() == nil {
		s.retire(ctx, time.Now())
		if now := time.Now(); !now.Before(sweep) {
			sweep = now.Add(s.sweepAt(ctx, now))
		}
		select {
		case <-every.C:
		case <-changed:
			select { // what changes often is looked at together
			case <-time.After(s.lookEvery()):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}
}

// sweepAt sweeps what is old at some time, and returns after how long that is due
// again.
func (s *service) sweepAt(ctx context.Context, now time.Time) time.Duration {
	if err := s.sweep(ctx, now.Add(-s.cfg.OrphanAge)); err != nil {
		s.repeats.Warn("the object store is not swept", zap.Error(err))
		return min(s.cfg.OrphanAge, sweepAgain)
	}
	return s.cfg.OrphanAge
}

// retire expires, tidies and forgets what is over. All of it may be done twice,
// by several replicas at once.
func (s *service) retire(ctx context.Context, now time.Time) {
	for _, j := range s.table.Sorted(func(j *report.Job) bool { return j.State.Over() }) {
		if ctx.Err() != nil {
			return
		}
		// As it is now: those before it may have taken long.
		if j = s.table.Job(j.ID); j == nil || !j.State.Over() {
			continue
		}
		if j.Unreadable() { // it may be running, by a record that is newer than we
			continue
		}
		if err := s.retireOne(ctx, j, now); err != nil {
			s.repeats.Warn("a report that is over cannot be put away", zap.Int64("report", j.ID), zap.Error(err))
		}
	}
	if _, err := s.table.DropLeftovers(ctx); err != nil {
		s.repeats.Warn("records of deleted reports are left over", zap.Error(err))
	}
}

func (s *service) retireOne(ctx context.Context, j *report.Job, now time.Time) (err error) {
	if j.State == report.StateExpired && now.Sub(j.Since) >= s.cfg.EntryRetention {
		return s.table.Remove(ctx, j.ID)
	}
	expires := j.State != report.StateExpired && now.Sub(j.Ended) >= s.cfg.Retention
	if expires {
		// First out of reach, then deleted: if we die between, the sweep deletes.
		if j, err = s.table.Expire(ctx, j.ID, fmt.Sprintf("kept for %s", s.cfg.Retention)); err != nil || j == nil {
			return err
		}
		if j.State != report.StateExpired {
			return nil // it was resumed meanwhile
		}
		s.metrics.expired.Inc()
	}
	tidy := j.State != report.StateFailed && (j.Plan != nil || len(j.Chunks) > 0)
	if expires || tidy {
		if err := s.clean(ctx, j); err != nil {
			return err
		}
	}
	if tidy { // behind the objects: what says that there may be some goes last
		return s.table.Tidy(ctx, j.ID)
	}
	return nil
}

// clean deletes the objects of a job that is over and can not be resumed, but
// for those of its file. What a zombie still writes is left to the sweep.
func (s *service) clean(ctx context.Context, j *report.Job) error {
	keep, err := s.wanted(ctx, j)
	if err != nil {
		return err
	}
	return s.files.Each(ctx, report.Dir(j.Spec.Job), func(o *blob.ListObject) error {
		if keep(o.Key) {
			return nil
		}
		return s.files.DeleteObject(ctx, o.Key)
	})
}

// wanted says which of a job's objects are: all while it runs, its chunks while
// it can be resumed, its file once it has one, and none behind that. Nothing that
// is not wanted is ever wanted later, but by a job that runs.
func (s *service) wanted(ctx context.Context, j *report.Job) (func(object string) bool, error) {
	some := map[string]bool{}
	switch j.State {
	case report.StateQueued, report.StateRunning:
		return func(string) bool { return true }, nil
	case report.StateFailed:
		for _, c := range j.Chunks {
			some[c.Object] = true
		}
	case report.StateFinished:
		m, _, err := s.files.Manifest(ctx, j)
		if report.IsMissing(err) || errors.Is(err, report.ErrDamaged) { // somebody was at it by hand: nobody knows
			s.repeats.Warn("which objects a finished report wants is not known: all are kept", zap.Int64("report", j.ID), zap.Error(err))
			return func(string) bool { return true }, nil
		}
		if err != nil {
			return nil, err
		}
		some[j.End.Manifest] = true
		for _, p := range m.Parts {
			some[p.Object] = true
		}
	case report.StateCancelled, report.StateExpired:
	}
	return func(object string) bool { return some[object] }, nil
}

// sweep deletes objects that are older and that no job wants: what attempts left
// behind that failed, or whose owner died.
func (s *service) sweep(ctx context.Context, older time.Time) error {
	table, err := s.mark(ctx)
	if err != nil {
		return err
	}
	var dir, known string // of the objects at hand, and of the job that keep is of
	var some []string
	next := func() error {
		if len(some) == 0 {
			return nil
		}
		keep, err := s.wantedNow(ctx, table, dir)
		if err != nil {
			return err
		}
		for _, name := range some {
			if keep(name) {
				continue
			}
			if err := s.files.DeleteObject(ctx, name); err != nil {
				return err
			}
			s.metrics.orphans.Inc()
		}
		some = some[:0]
		return nil
	}
	err = s.files.Each(ctx, "", func(o *blob.ListObject) error {
		of, _, ok := strings.Cut(o.Key, "/")
		if _, err := uuid.Parse(of); !ok || err != nil || o.ModTime.After(older) {
			return nil // not ours, or too young
		}
		if of != known {
			if err := next(); err != nil {
				return err
			}
			dir, known = of, of
		}
		some = append(some, o.Key)
		return nil
	})
	if err != nil {
		return err
	}
	return next()
}

// wantedNow is wanted for the job of a folder that was listed before. The table
// is read to its end in between: a replica that is cut off from Kafka could take
// a report for failed that has long been resumed. It must still be the table that
// the store belongs to: one that was made anew wants nothing.
func (s *service) wantedNow(ctx context.Context, table uuid.UUID, dir string) (func(object string) bool, error) {
	if err := s.table.Fresh(ctx); err != nil {
		return nil, err
	}
	if n := s.table.Unreadable(); n > 0 {
		return nil, fmt.Errorf("%d reports have records that this version cannot read: nobody knows which objects they want, and no orphans are deleted; run the newest version, or delete those reports", n)
	}
	job, err := uuid.Parse(dir)
	if err != nil {
		return nil, err
	}
	j := s.table.ByJob(job)
	if now := s.table.ID(); now != table {
		return nil, fmt.Errorf("the table is %s, it was %s when the sweep began", now, table)
	}
	if j != nil {
		return s.wanted(ctx, j)
	}
	return func(string) bool { return false }, nil
}

// mark ties the store to the table: the sweep of another table's reporter, or of
// ours whose topic was made anew, must not take these reports for nobody's.
func (s *service) mark(ctx context.Context) (of uuid.UUID, err error) {
	if err := s.table.Fresh(ctx); err != nil {
		return of, err
	}
	of = s.table.ID()
	want := of.String()
	got, err := s.files.Bucket().ReadAll(ctx, marker)
	if report.IsMissing(err) {
		err = s.files.Bucket().WriteAll(ctx, marker, []byte(want), &blob.WriterOptions{IfNotExist: true, ContentType: contentType})
		if err != nil && gcerrors.Code(err) != gcerrors.FailedPrecondition {
			return of, err
		}
		got, err = s.files.Bucket().ReadAll(ctx, marker)
	}
	if err != nil {
		return of, err
	}
	if string(got) != want {
		return of, fmt.Errorf("the object store holds reports of table %s, this one is %s: orphans are not deleted; when no reporter of that table is left, delete the object %q", got, want, marker)
	}
	return of, nil
}
