package report

import (
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Calls returns what the list of API calls is told of the job: of each run a
// record for each state that it came into, oldest first. It follows from the
// table alone: whoever tells it again tells the same. Expiry of a report's file
// is no state of its call.
func (j *Job) Calls() []audit.APICall {
	var calls []audit.APICall
	for i := range j.Past {
		calls = append(calls, j.Spec.calls(&j.Past[i])...)
	}
	return append(calls, j.RunCalls()...)
}

// RunCalls is Calls of the present run, or the last. The first is that it is
// Queued.
func (j *Job) RunCalls() []audit.APICall {
	r := j.run()
	return j.Spec.calls(&r)
}

func (j *Job) run() Run { return Run{j.Call, j.Submitted, j.Began, j.Ended, j.outcome()} }

func (s *Spec) calls(r *Run) []audit.APICall {
	calls := []audit.APICall{s.call(r, audit.StateQueued, r.Submitted, "")}
	if !r.Began.IsZero() {
		calls = append(calls, s.call(r, audit.StateRunning, r.Began, ""))
	}
	if !r.Ended.IsZero() {
		c := s.call(r, audit.StateFinished, r.Ended, r.Outcome)
		if !r.Began.IsZero() {
			c.DurationMs = uint32(min(r.Ended.Sub(r.Began).Milliseconds(), 1<<32-1))
		}
		calls = append(calls, c)
	}
	return calls
}

// Blocked returns what the list of API calls is told of a job that was asked for,
// and that a limit keeps from being queued.
func (s *Spec) Blocked(at time.Time, reason string) audit.APICall {
	return s.call(&Run{Call: s.Job, Submitted: at}, audit.StateBlockedConcurrency, at, reason)
}

// outcome says how a run that ended did, when it has no file to show for it.
func (j *Job) outcome() string {
	switch {
	case j.End != nil && j.End.State == StateFinished:
		return ""
	case j.End != nil:
		return "Failed: " + j.End.Reason
	}
	return "Cancelled"
}

func (s *Spec) call(run *Run, state string, at time.Time, reason string) audit.APICall {
	r := &s.Requester
	c := audit.APICall{
		CallID: run.Call.String(), CustomerUUID: r.CustomerUUID, ModuleCode: topic.AuditModule, API: API,
		State: state, Durable: true, Reason: reason,
		SubmittedDate: run.Submitted.UnixMilli(), UpdatedDate: at.UnixMilli(),
		UserName: r.UserName, UserRole: string(r.UserRole), UserUUID: r.UserUUID,
		Client: r.Client, SourceIP: r.SourceIP, RequestID: r.RequestID,
	}
	if len(r.BusinessUnits) > 0 {
		c.BusinessUnit = r.BusinessUnits[0]
	}
	return c
}
