package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// errStopping ends exports when the service drains.
var errStopping = errors.New("the service is stopping")

// exportMembers are the members of an export request beside askedMembers.
var exportMembers = []string{"view", "format", "columns", "timezone"}

// exportRequest is what POST /audit-log/admin/search/export asks for.
type exportRequest struct {
	asked
	format  string // "csv" or "jsonl"
	columns []column
	zone    *time.Location
}

// column is one column of an export.
type column struct {
	*field.Field
	title  string // in the CSV header
	always bool   // in JSON also when it is empty
}

// activityTitles are what the seeds' page Activity Logs calls its columns.
var activityTitles = map[string]string{"userName": "User", "action": "Action", "endpointType": "Endpoint Type", "createdDate": "Date"}

// read reads the members of exportMembers.
func (req *exportRequest) read(f *form) {
	req.format = "csv"
	switch text, ok := f.text("format"); {
	case !ok || text == "csv":
	case text == "jsonl":
		req.format = text
	default:
		f.violate(problem.Violation{Field: "format", Value: problem.Shorten(text), Limit: "csv or jsonl", Message: "must be csv or jsonl"})
	}
	req.columns = f.columns(f.view())
	req.zone = f.zone("timezone")
	if _, given := f.text("timezone"); given && req.format != "csv" {
		f.violate(problem.Violation{Field: "timezone", Message: "goes with format csv only: dates in jsonl are milliseconds since 1970"})
	}
}

// columns reads the member of that name: fields in the order asked, by default
// those that the view shows.
func (f *form) columns(v view) []column {
	activity := v != nil
	columnOf := func(row *field.Field) column {
		c := column{Field: row, title: row.Title, always: row.Always || activity}
		if title, ok := activityTitles[row.Name]; ok && activity {
			c.title = title
		}
		return c
	}
	names := []string(v)
	if !activity {
		for _, row := range f.of.Fields {
			names = append(names, row.Name)
		}
	}
	elements, given := f.list("columns", len(f.of.Fields))
	switch {
	case given && len(elements) == 0:
		f.violate(problem.Violation{Field: "columns", Message: "must not be an empty list; leave it out to get all columns"})
	case given:
		names = f.names("columns", elements)
	}
	var columns []column
	seen := map[string]bool{}
	for i, name := range names {
		at := fmt.Sprintf("columns[%d]", i)
		row := f.named(at, name, func(*field.Field) bool { return true })
		switch {
		case row == nil:
		case seen[row.Name]:
			f.violate(problem.Violation{Field: at, Value: row.Name, Message: "is given more than once"})
		default:
			seen[row.Name] = true
			columns = append(columns, columnOf(row))
		}
	}
	return columns
}

// names are the elements of a list that must be texts; nil when one is not.
func (f *form) names(list string, elements []jsontext.Value) []string {
	names := make([]string, len(elements))
	for i, raw := range elements {
		if raw.Kind() != '"' {
			f.violate(problem.Violation{Field: fmt.Sprintf("%s[%d]", list, i), Value: problem.Shorten(string(raw)), Message: "must be a string"})
			return nil
		}
		names[i] = unquote(raw)
	}
	return names
}

// export answers POST /audit-log/admin/search/export: all events that match and
// that the caller may see, newest first, as a file that is made while it is
// sent. It is an audit event, which Kafka has before the first byte leaves.
func (s *Service) export(w http.ResponseWriter, r *http.Request, id identity.Identity) (err error) {
	var req exportRequest
	if req.asked, err = readAsked(w, r, id, exportMembers, req.read); err != nil {
		return err
	}
	return s.file(w, r, id, visibility.For(id), req)
}

// file answers an export of what see lets through.
func (s *Service) file(w http.ResponseWriter, r *http.Request, id identity.Identity, see visibility.View, req exportRequest) error {
	if err := s.bound(r.Context(), id, &req.asked); err != nil {
		return err
	}
	leave, err := s.exports.enter(r.Context(), id.CustomerUUID)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer s.whenStopping(func() { cancel(errStopping) })()
	counted, err := s.countExport(ctx, see, req)
	if err != nil {
		return stopped(ctx, err)
	}
	event := req.event()
	event.Status, event.AuditComment = "Started", fmt.Sprintf("%s: %d %s when it began", event.AuditComment, counted, req.records())
	if err := s.audit(r, id, event); err != nil {
		return err
	}
	body := newExportBody(w, r, req, s.exportHeader(req))
	err = s.exports.query(ctx, "export", sqlgen.Export(see, req.filter, fieldsOf(req.columns)), body.add)
	err = stopped(ctx, err)
	outcome, told := endExport(body, err)
	if err != nil && body.begun {
		s.log.Warn("export broke off", zap.String("requestId", requestIDOf(ctx)), zap.Int64("rows", body.rows), zap.Error(err))
	}
	s.metrics.exports.WithLabelValues(outcome).Inc()
	s.metrics.exported.Add(float64(body.rows))
	event = req.event()
	event.Status = "Success"
	if outcome != "complete" {
		event.Status = "Failure"
	}
	event.AuditComment += fmt.Sprintf(": %s, %d %s sent", outcome, body.rows, req.records())
	// Whoever hung up is recorded too.
	if err := s.audit(r.WithContext(context.WithoutCancel(r.Context())), id, event); err != nil {
		s.log.Error("the end of an export is not recorded", zap.String("requestId", requestIDOf(r.Context())), zap.Int64("rows", body.rows), zap.Error(err))
	}
	return told
}

// endExport ends the file and returns how it ended, for metrics and the audit
// event, and what the endpoint returns.
func endExport(body *exportBody, err error) (outcome string, told error) {
	switch {
	case errors.Is(err, errClientGone):
		return "gone", err
	case err != nil && !body.begun:
		return "incomplete", err // nothing was sent: the status can say it
	case body.end(err) != nil:
		return "gone", errClientGone
	case err != nil:
		return "incomplete", nil // the file says it
	}
	return "complete", nil
}

// countExport counts the events and refuses more than the limit. What arrives
// after it is exported too: the limit is no cut.
func (s *Service) countExport(ctx context.Context, see visibility.View, req exportRequest) (n uint64, err error) {
	err = s.exports.query(ctx, "count", sqlgen.Count(see, req.filter), func(r driver.Rows) error { return r.Scan(&n) })
	if most := s.cfg.ExportRows; err == nil && most > 0 && n > uint64(most) {
		return n, &problem.Error{
			Kind: problem.KindInvalid, Status: http.StatusUnprocessableEntity,
			Detail: fmt.Sprintf("The export would have %d %s; the limit is %d (--export-rows). Narrow it: a shorter time range (startDate, endDate), in several exports if need be, or a more exact query.", n, req.records(), most),
			Header: s.limitHeader(),
		}
	}
	return n, err
}

// stopped tells a client that hung up from a service that stops.
func stopped(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return &problem.Error{Kind: problem.KindUnavailable, Detail: "The service is stopping. Ask again shortly.", RetryAfter: retryAfter, Cause: errStopping}
	}
	return err
}

func fieldsOf(columns []column) []*field.Field {
	fields := make([]*field.Field, len(columns))
	for i, c := range columns {
		fields[i] = c.Field
	}
	return fields
}

// limitHeader says what bounds an export.
func (s *Service) limitHeader() http.Header {
	rows := "none"
	if s.cfg.ExportRows > 0 {
		rows = fmt.Sprint(s.cfg.ExportRows)
	}
	return http.Header{
		"X-Export-Row-Limit":      {rows},
		"X-Export-Time-Limit-Sec": {fmt.Sprint(int64(s.cfg.ExportTimeout.Seconds()))},
	}
}

// exportHeader says what bounds an export and which dates it covers. Call it
// before the statement: see completeUpTo.
func (s *Service) exportHeader(req exportRequest) http.Header {
	h := s.limitHeader()
	if upTo := s.horizon.completeUpTo(req.of); upTo != "null" {
		h.Set("X-Export-Complete-Up-To", upTo)
	}
	date := func(name string, ms *int64) {
		if ms != nil {
			h.Set(name, fmt.Sprint(*ms))
		}
	}
	date("X-Export-Start-Date", req.filter.Start)
	date("X-Export-End-Date", req.filter.End)
	if req.days > 0 {
		h.Set("X-Export-Timeframe-Days", fmt.Sprint(req.days))
	}
	return h
}

// event is the audit event of the export, but for its status.
func (req exportRequest) event() audit.Event {
	names := make([]string, len(req.columns))
	for i, c := range req.columns {
		names[i] = c.Name
	}
	target := "Audit Log"
	if req.of == field.Calls {
		target = "API Calls"
	}
	return audit.Event{
		Action: "Export", TargetType: target, TargetName: req.format,
		AuditComment: atMost(req.describe("export"), audit.MaxStringBytes/2) + "; columns " + strings.Join(names, " "),
	}
}

// records is what the export is of, for people.
func (a *asked) records() string {
	if a.of == field.Calls {
		return "API calls"
	}
	return "events"
}
