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

// queueFull says that too many of the subscription's reports are queued for
// another, or for j, which is queued already: those that were before it count.
// Everybody counts these alike, because they are before it in the table, so of
// two that are asked for at once on two replicas one alone takes the last place.
// The error is a problem 429; that it was blocked is told as an API call.
func (s *Service) queueFull(spec *report.Spec, j *report.Job) error {
	if j != nil && j.State != report.StateQueued {
		return nil // a worker has it
	}
	before := s.reports.table.Sorted(func(other *report.Job) bool {
		return other.State == report.StateQueued && other.Spec.Requester.CustomerUUID == spec.Requester.CustomerUUID &&
			(j == nil || other.Place < j.Place)
	})
	most := s.cfg.ReportQueued
	if len(before) < most {
		return nil
	}
	reason := fmt.Sprintf("%d reports of your subscription are queued; the limit is %d (--report-queued).", len(before), most)
	s.tellCall(spec.Blocked(time.Now(), reason))
	return &problem.Error{
		Kind: problem.KindTooMany, RetryAfter: queueRetry,
		Detail: reason + " Wait until one has begun, or cancel one.",
	}
}
