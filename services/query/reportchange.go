package query

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

// deleteTimeout bounds how long a request waits for the deletion of objects.
const deleteTimeout = 10 * time.Second

// eventOf is the audit event of something that is done with a report, but for
// its status.
func eventOf(action string, j *report.Job) audit.Event {
	return audit.Event{
		Action: action, TargetType: reportTarget, TargetName: j.Spec.Name,
		AuditComment: fmt.Sprintf("report %d: %s", j.ID, describeSpec(j.Spec)),
	}
}

// conflict is the answer where the state of a report does not allow it.
func conflict(j *report.Job, format string, args ...any) error {
	detail := fmt.Sprintf("The report is %s", j.State)
	if j.Reason != "" {
		detail += " (" + j.Reason + ")"
	}
	return problem.New(problem.KindConflict, detail+": "+fmt.Sprintf(format, args...))
}

// noBody refuses what a request has no use for: parameters, and members of its
// body.
func noBody(w http.ResponseWriter, r *http.Request) error {
	if err := noParameters(r); err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	f, err := readForm(body, nil)
	if err != nil {
		return err
	}
	return f.err()
}

// cancelReport answers POST /audit-log/admin/report/{id}/cancel: a report that is
// queued or runs ends at once.
func (s *Service) cancelReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := noBody(w, r); err != nil {
		return err
	}
	j, err := s.jobToChange(r, id, "cancel")
	if err != nil {
		return err
	}
	if j.State.Over() {
		return conflict(j, "there is nothing to cancel.")
	}
	err = s.recorded(r, id, eventOf("Cancel", j), func(ctx context.Context) (string, error) {
		who := cmp.Or(id.Name, id.UserUUID)
		now, err := s.reports.table.Cancel(ctx, j.ID, who, "cancelled by "+who)
		switch {
		case err != nil:
			return "", err
		case now == nil:
			return "", errNoReport
		case now.State != report.StateCancelled: // it ended at this moment
			return "", conflict(now, "there is nothing to cancel.")
		}
		j = now
		calls := j.Calls()
		s.tellCall(calls[len(calls)-1]) //nolint:contextcheck // nobody waits for the state of a call
		return "", nil
	})
	if err != nil {
		return err
	}
	return s.answerStatus(w, j)
}

// rerunReport answers POST /audit-log/admin/report/{id}/rerun. A report of the
// caller's that failed goes on where it stopped. Any other that is over is asked
// for again: a new report, of what is stored now and of what the caller sees.
func (s *Service) rerunReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := noBody(w, r); err != nil {
		return err
	}
	j, err := s.jobToChange(r, id, "repeat")
	if err != nil {
		return err
	}
	if !j.State.Over() {
		return conflict(j, "it can be repeated once it is over. Cancel it to have that at once.")
	}
	if j.State == report.StateFailed && j.Spec.Requester.UserUUID == id.UserUUID {
		if j, err = s.resume(r, id, j); err != nil {
			return err
		}
		return answerSubmitted(w, j, resumedMessage)
	}
	req, f, err := parseReport(j.Spec.Request)
	if err != nil {
		return fmt.Errorf("the request of report %d is kept and cannot be read: %w", j.ID, err)
	}
	req.customerUUID, req.userUUID = nil, nil // those who asked first
	if j, err = s.create(r, id, req, f, j.Spec.Request, j); err != nil {
		return err
	}
	return answerSubmitted(w, j, submittedMessage)
}

// resume queues a report again that failed. Two at the same moment may make the
// queue longer than its limit by one.
func (s *Service) resume(r *http.Request, id identity.Identity, j *report.Job) (*report.Job, error) {
	call, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	blocked := *j.Spec // as if it were asked for now
	blocked.Job, blocked.Requester = call, s.requester(r, id)
	if full := s.queueFull(&blocked, nil); full != "" {
		return nil, s.blocked(&blocked, full)
	}
	var now *report.Job
	err = s.recorded(r, id, eventOf("Rerun", j), func(ctx context.Context) (string, error) {
		if now, err = s.reports.table.Resume(ctx, j.ID, cmp.Or(id.Name, id.UserUUID), call); err != nil {
			return "", err
		}
		switch {
		case now == nil:
			return "", errNoReport
		case now.Call != call:
			return "", conflict(now, "somebody else repeated it at this moment.")
		}
		s.tellCall(now.RunCalls()[0]) //nolint:contextcheck // nobody waits for the state of a call
		return "", nil
	})
	return now, err
}

// deleteReport answers DELETE /audit-log/admin/report/{id}: of a report that is
// over, entry and file.
func (s *Service) deleteReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := noBody(w, r); err != nil {
		return err
	}
	j, err := s.jobToChange(r, id, "delete")
	if err != nil {
		return err
	}
	if !j.State.Over() {
		return conflict(j, "it can be deleted once it is over. Cancel it first.")
	}
	err = s.recorded(r, id, eventOf("Delete", j), func(ctx context.Context) (string, error) {
		return "", s.remove(ctx, j, "deleted by "+cmp.Or(id.Name, id.UserUUID))
	})
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// remove deletes a report that was over when somebody looked. It expires first: of
// that and a resumption at the same moment one alone takes effect, so nothing is
// removed that runs. Without its records nothing hands the file out. If we die
// before the end, it is an Expired one, or the reporter's sweep deletes the objects.
func (s *Service) remove(ctx context.Context, j *report.Job, why string) error {
	if j.State != report.StateExpired {
		now, err := s.reports.table.Expire(ctx, j.ID, why)
		switch {
		case err != nil:
			return err
		case now == nil:
			return errNoReport
		case now.State != report.StateExpired:
			return conflict(now, "somebody else repeated it at this moment. Cancel it first.")
		}
	}
	if err := s.reports.table.Remove(ctx, j.ID); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	if err := s.reports.files.Delete(ctx, j.Spec.Job); err != nil {
		s.log.Warn("the file of a deleted report is left to the sweep", zap.Int64("report", j.ID), zap.Error(err))
	}
	return nil
}
