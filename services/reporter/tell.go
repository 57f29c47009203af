package reporter

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/report"
)

// retellAge is how long ago a job may have changed whose calls are told again at
// the start: longer than a reporter is away.
const retellAge = 24 * time.Hour

// tell has the list of API calls know the state that a job came into.
func (s *service) tell(j *report.Job) {
	calls := j.Calls()
	if err := s.emitter.EmitCall(calls[len(calls)-1]); err != nil {
		s.log.Warn("the state of a report's API call is not told", zap.Int64("report", j.ID), zap.Error(err))
	}
}

// retell tells again what whoever wrote it may have died before telling. It is
// stored if it is not there.
func (s *service) retell() {
	for _, j := range s.table.Sorted(func(j *report.Job) bool { return time.Since(j.Since) < retellAge }) {
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
