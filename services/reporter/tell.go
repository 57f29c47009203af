package reporter

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/report"
)

const (
	// retellAge is how long ago a job may have changed whose calls are told again
	// at the start: longer than all reporters are away.
	retellAge = 24 * time.Hour
	// retellEvery is how often those are told again whose jobs changed meanwhile.
	retellEvery = time.Minute
)

// tell has the list of API calls know the state that a job came into.
func (s *service) tell(j *report.Job) {
	calls := j.Calls()
	if err := s.emitter.EmitCall(calls[len(calls)-1]); err != nil {
		s.log.Warn("the state of a report's API call is not told", zap.Int64("report", j.ID), zap.Error(err))
	}
}

// keepTelling tells again what whoever wrote it to the table, a query service
// too, may have died before telling, until ctx ends. What was told is stored once.
func (s *service) keepTelling(ctx context.Context) {
	var r retold
	every := time.NewTicker(retellEvery)
	defer every.Stop()
	for {
		s.retell(&r, time.Now()) //nolint:contextcheck // an emitter waits for nobody
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// retold is how far the table was in the last two passes of retell. A state is
// told again in two passes: in the first of them whoever wrote it may be about to.
type retold struct {
	begun        bool
	older, newer int64 // places of the newest states
}

// retell is a pass: the first tells of the last day, the others of what came into
// its state since the pass before the last.
func (s *service) retell(r *retold, now time.Time) {
	newest := r.newer
	some := s.table.Sorted(func(j *report.Job) bool {
		newest = max(newest, j.Place)
		if !r.begun {
			return now.Sub(j.Since) < retellAge
		}
		return j.Place > r.older
	})
	if !r.begun {
		r.begun, r.newer = true, newest
	}
	r.older, r.newer = r.newer, newest
	for _, j := range some {
		for _, c := range j.Calls() {
			if err := s.emitter.ResendCall(c); err != nil {
				s.repeats.Warn("the state of a report's API call is not told", zap.Int64("report", j.ID), zap.Error(err))
			}
		}
	}
}

func (s *service) closeEmitter() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.emitter.Close(ctx)
	if _, ok := errors.AsType[*emit.UndeliveredError](err); ok {
		s.log.Warn("states of reports' API calls are told at the next start: Kafka did not take them in time", zap.Error(err))
	}
}
