package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/audited"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

// reportTarget is the targetType of the audit events of reports.
const reportTarget = "Report"

// recorded does something that is an audit event: before it is done, and after,
// with what came of it. do returns what more to say, and the outcome. Once begun
// it is carried through.
func (s *Service) recorded(r *http.Request, id identity.Identity, event audit.Event, do func(context.Context) (said string, err error)) error {
	ctx := context.WithoutCancel(r.Context())
	event.Status = audited.StatusRequested
	if err := s.audit(r, id, event); err != nil {
		return err
	}
	said, err := do(ctx)
	switch {
	case err == nil:
		event.Status = audited.StatusSuccess
	case errors.Is(err, ktable.ErrUnconfirmed):
		event.Status = audited.StatusUnknown
	default:
		event.Status = audited.StatusFailure
	}
	if said != "" {
		event.AuditComment = said + ": " + event.AuditComment
	}
	if unrecorded := s.audit(r.WithContext(ctx), id, event); unrecorded != nil {
		s.log.Error("what came of a request about a report is not recorded as an audit event", zap.String("action", event.Action), zap.String("requestId", requestIDOf(ctx)), zap.String("tenant", id.CustomerUUID), zap.Error(unrecorded))
	}
	return writeFailed(err)
}

// writeFailed is what the caller is told of a write to the table of jobs.
func writeFailed(err error) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*problem.Error](err); ok {
		return p
	}
	p := &problem.Error{Kind: problem.KindUnavailable, Cause: err}
	doubt, created := errors.AsType[*report.DoubtError](err)
	switch {
	case created:
		p.Detail = fmt.Sprintf("Kafka did not confirm it in time: there may or may not be a report %[2]d. Look at it, GET %[1]s/%[2]d, before you ask again.", reportPath, doubt.ID)
	case errors.Is(err, ktable.ErrUnconfirmed):
		p.Detail = "Kafka did not confirm it in time: it may or may not be done. Look at the report, or the list, GET " + reportPath + ", before you repeat it."
	default:
		p.RetryAfter, p.Detail = retryAfter, "Reports cannot be changed at the moment. Nothing was done; try again shortly."
	}
	return p
}

// tellCall tells the list of API calls of a state of a job. One that is lost
// here is told again by the reporter, at its start.
func (s *Service) tellCall(c audit.APICall) {
	if err := s.calls.emitter.EmitCall(c); err != nil {
		s.log.Warn("a state of a report is not told as an API call", zap.String("state", c.State), zap.String("tenant", c.CustomerUUID), zap.Error(err))
	}
}
