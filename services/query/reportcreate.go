package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// submitted is the seed's answer of POST /audit-log/admin/report.
type submitted struct {
	Message     string `json:"message"`
	ReportID    int64  `json:"reportId"`
	CreatedDate int64  `json:"createdDate"`
}

const (
	submittedMessage = "Request for report submitted successfully" // the seed's
	resumedMessage   = "Report resumed successfully"
)

func answerSubmitted(w http.ResponseWriter, j *report.Job, message string) error {
	body, err := json.Marshal(submitted{message, j.ID, j.Created.UnixMilli()})
	if err != nil {
		return err
	}
	return writeJSON(w, body)
}

// createReport answers POST /audit-log/admin/report: it queues a report. The
// answer is 200, as scripts that were made for the seed expect of a request that
// worked.
func (s *Service) createReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := noParameters(r); err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	req, f, err := parseReport(body)
	if err != nil {
		return err
	}
	j, err := s.create(r, id, req, f, body, nil)
	if err != nil {
		return err
	}
	return answerSubmitted(w, j, submittedMessage)
}

// create makes the job of a request whose body is checked but for what the store
// knows; again is the job that is repeated, nil for none. Once Kafka has its audit event it is carried through, whether or not
// the client waits:
//
//  1. It is recorded, as requested. If that fails nothing is done.
//  2. The job is written. If we die before or after it, the trail shows a request
//     without an outcome, and the list of reports which it was.
//  3. It gives way when others were queued before it and there are too many.
//  4. What came of it is recorded, and the list of API calls told. If we die
//     before that, the reporter tells the latter at its start.
func (s *Service) create(r *http.Request, id identity.Identity, req reportRequest, f *form, body []byte, again *report.Job) (*report.Job, error) {
	if err := s.reports.opened(r.Context()); err != nil {
		return nil, err
	}
	pin, err := s.stored.Pin(r.Context())
	if err != nil {
		if broken := f.err(); broken != nil { // what is wrong whatever is stored
			return nil, broken
		}
		return nil, s.pinFailed(r, err)
	}
	if err := s.checkModules(r.Context(), id, req, f, pin); err != nil {
		return nil, err
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if err := req.allowed(id); err != nil {
		return nil, err
	}
	spec, err := s.spec(r, id, req, pin, body)
	if err != nil {
		return nil, err
	}
	if full := s.queueFull(spec, nil); full != "" {
		return nil, s.blocked(spec, full) //nolint:contextcheck // nobody waits for the state of a call
	}
	event := audit.Event{Action: "Create", TargetType: reportTarget, TargetName: spec.Name, AuditComment: describeSpec(spec)}
	if again != nil {
		event.Action, event.AuditComment = "Rerun", fmt.Sprintf("report %d again: %s", again.ID, event.AuditComment)
	}
	var j *report.Job
	err = s.recorded(r, id, event, func(ctx context.Context) (string, error) {
		if j, err = s.reports.table.Create(ctx, *spec); err != nil {
			return inDoubt(err), err
		}
		if j == nil { // it was deleted before we looked
			return "", problem.New(problem.KindConflict, "The report was deleted by somebody else at this moment.")
		}
		which := fmt.Sprintf("report %d", j.ID)
		if full := s.queueFull(spec, j); full != "" {
			if err := s.reports.table.Remove(ctx, j.ID); err != nil {
				return which, err
			}
			return which, s.blocked(spec, full) //nolint:contextcheck // nobody waits for the state of a call
		}
		s.tellCall(j.Calls()[0]) //nolint:contextcheck // nobody waits for the state of a call
		return which, nil
	})
	return j, err
}

// inDoubt names the report that there may be after an error of Create; else it is
// empty.
func inDoubt(err error) string {
	if doubt, ok := errors.AsType[*report.DoubtError](err); ok {
		return fmt.Sprintf("perhaps report %d", doubt.ID)
	}
	return ""
}

func (s *Service) pinFailed(r *http.Request, err error) error {
	if r.Context().Err() != nil {
		return errClientGone
	}
	return &problem.Error{
		Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: err,
		Detail: "What is stored cannot be told at the moment, and a report is of that. Nothing was done; try again shortly.",
	}
}

// spec fixes what was asked for.
func (s *Service) spec(r *http.Request, id identity.Identity, req reportRequest, pin sqlgen.Pin, body []byte) (*report.Spec, error) {
	chose, err := s.settings.of(r.Context(), id.CustomerUUID)
	if err != nil {
		return nil, err
	}
	days := int(s.cfg.RetentionDays)
	if chose.RetentionDays > 0 {
		days = int(chose.RetentionDays)
	}
	raw, err := kept(body)
	if err != nil {
		return nil, err
	}
	job, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	spec := &report.Spec{
		Job: job, Requester: s.requester(r, id), Name: req.name, Summary: req.summary,
		Columns: req.columns, Format: req.format, Compression: req.compression, Timezone: req.zone.String(),
		Start: req.filter.Start, End: req.filter.End, KeptSince: now.UTC().AddDate(0, 0, -days).UnixMilli(),
		Now: now.UnixMilli(), Pin: pin, Request: raw,
	}
	if req.filter.Where != nil {
		spec.Query = req.filter.Where.String()
	}
	return spec, nil
}

// requester is who asks, as a job keeps it.
func (s *Service) requester(r *http.Request, id identity.Identity) report.Requester {
	return report.Requester{
		CustomerUUID: id.CustomerUUID, UserUUID: id.UserUUID, UserName: id.Name, UserRole: id.Role,
		BusinessUnits: id.BusinessUnits, ViewAll: id.ViewAll,
		Client: atMost(r.UserAgent(), audit.MaxNameBytes), SourceIP: s.cfg.clientAddress(r), RequestID: requestIDOf(r.Context()),
	}
}

// describeSpec says what a report is of, for its audit events.
func describeSpec(spec *report.Spec) string {
	return atMost(describe("report", spec.Query, spec.Start, spec.End), audit.MaxStringBytes/2) + "; " + string(spec.Format) + ", columns " + strings.Join(spec.Columns, " ")
}
