package report

import (
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Calls returns what the list of API calls is told of the job's present run: a
// record for each state that it came into, oldest first. It follows from the
// table alone: whoever tells it again tells the same. Expiry of a report's file
// is no state of its call.
func (j *Job) Calls() []audit.APICall {
	calls := []audit.APICall{j.call(audit.StateQueued, j.Submitted, "")}
	if !j.Began.IsZero() {
		calls = append(calls, j.call(audit.StateRunning, j.Began, ""))
	}
	if !j.Ended.IsZero() {
		c := j.call(audit.StateFinished, j.Ended, j.outcome())
		if !j.Began.IsZero() {
			c.DurationMs = uint32(min(j.Ended.Sub(j.Began).Milliseconds(), 1<<32-1))
		}
		calls = append(calls, c)
	}
	return calls
}

// Blocked returns what the list of API calls is told of a job that was asked for,
// and that a limit keeps from being queued.
func (s *Spec) Blocked(at time.Time, reason string) audit.APICall {
	j := Job{Spec: s, Call: s.Job, Submitted: at}
	return j.call(audit.StateBlockedConcurrency, at, reason)
}

// outcome says how the run ended, when it has no file to show for it.
func (j *Job) outcome() string {
	switch {
	case j.End != nil && j.End.State == StateFinished:
		return ""
	case j.End != nil:
		return "Failed: " + j.End.Reason
	}
	return "Cancelled"
}

func (j *Job) call(state string, at time.Time, reason string) audit.APICall {
	r := &j.Spec.Requester
	c := audit.APICall{
		CallID: j.Call.String(), CustomerUUID: r.CustomerUUID, ModuleCode: topic.AuditModule, API: API,
		State: state, Durable: true, Reason: reason,
		SubmittedDate: j.Submitted.UnixMilli(), UpdatedDate: at.UnixMilli(),
		UserName: r.UserName, UserRole: string(r.UserRole), UserUUID: r.UserUUID,
		Client: r.Client, SourceIP: r.SourceIP, RequestID: r.RequestID,
	}
	if len(r.BusinessUnits) > 0 {
		c.BusinessUnit = r.BusinessUnits[0]
	}
	return c
}
