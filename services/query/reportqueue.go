package query

import (
	"fmt"
	"time"

	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

// queueRetry is when to ask again for a place among the queued reports. When one
// will begin is not known.
const queueRetry = time.Minute

// queueFull says why there is no place for another of the subscription's reports,
// or for j, which is queued already: those that were before it count. It is empty
// when there is one. Everybody counts these alike, because they are before it in
// the table, so of two that are asked for at once on two replicas one alone takes
// the last place.
func (s *Service) queueFull(spec *report.Spec, j *report.Job) (reason string) {
	if j != nil && j.State != report.StateQueued {
		return "" // a worker has it
	}
	before := s.reports.table.Sorted(func(other *report.Job) bool {
		return other.State == report.StateQueued && other.Spec.Requester.CustomerUUID == spec.Requester.CustomerUUID &&
			(j == nil || other.Place < j.Place)
	})
	most := s.cfg.ReportQueued
	if len(before) < most {
		return ""
	}
	return fmt.Sprintf("%d reports of your subscription are queued; the limit is %d (--report-queued).", len(before), most)
}

// blocked is the problem 429 of a report that is not queued. That it was blocked
// is told as an API call.
func (s *Service) blocked(spec *report.Spec, reason string) error {
	s.tellCall(spec.Blocked(time.Now(), reason))
	return &problem.Error{
		Kind: problem.KindTooMany, RetryAfter: queueRetry,
		Detail: reason + " Wait until one has begun, or cancel one of yours; a Manager can cancel others'.",
	}
}
