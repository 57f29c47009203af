package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	_ "time/tzdata" // the production image has no zones of its own

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
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
	req.zone = time.UTC
	text, ok := f.text("timezone")
	if !ok {
		return
	}
	zone, err := time.LoadLocation(text)
	switch {
	case err != nil || text == "Local":
		f.violate(problem.Violation{Field: "timezone", Value: problem.Shorten(text), Message: "must be a name of the IANA time zone database, such as Europe/Berlin"})
	case req.format != "csv":
		f.violate(problem.Violation{Field: "timezone", Message: "goes with format csv only: dates in jsonl are milliseconds since 1970"})
	default:
		req.zone = zone
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
		for _, row := range field.Fields {
			names = append(names, row.Name)
		}
	}
	elements, ok := f.list("columns", len(field.Fields))
	if ok {
		if len(elements) == 0 {
			f.violate(problem.Violation{Field: "columns", Message: "must not be an empty list; leave it out to get all columns"})
		}
		names = nil
	}
	for i, raw := range elements {
		at := fmt.Sprintf("columns[%d]", i)
		if raw.Kind() != '"' {
			f.violate(problem.Violation{Field: at, Value: problem.Shorten(string(raw)), Message: "must be the name of a field"})
			continue
		}
		names = append(names, unquote(raw))
	}
	var columns []column
	seen := map[string]bool{}
	for i, name := range names {
		row := field.Find(field.Fields, name)
		at := fmt.Sprintf("columns[%d]", i)
		switch {
		case row == nil:
			f.violate(problem.Violation{Field: at, Value: problem.Shorten(name), Message: "is not known; known are " + fieldNames()})
		case seen[row.Name]:
			f.violate(problem.Violation{Field: at, Value: row.Name, Message: "is given more than once"})
		default:
			seen[row.Name] = true
			columns = append(columns, columnOf(row))
		}
	}
	return columns
}

func fieldNames() string {
	names := make([]string, len(field.Fields))
	for i, f := range field.Fields {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// export answers POST /audit-log/admin/search/export: all events that match and
// that the caller may see, newest first, as a file that is made while it is
// sent. It is an audit event, which Kafka has before the first byte leaves.
func (s *Service) export(w http.ResponseWriter, r *http.Request, id identity.Identity) (err error) {
	var req exportRequest
	if req.asked, err = readAsked(w, r, id, exportMembers, req.read); err != nil {
		return err
	}
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
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.stopping:
			cancel(errStopping)
		case <-done:
		}
	}()
	see := visibility.For(id)
	counted, err := s.countExport(ctx, see, req)
	if err != nil {
		return stopped(ctx, err)
	}
	event := req.event()
	event.Status, event.AuditComment = "Started", fmt.Sprintf("%s: %d events when it began", event.AuditComment, counted)
	if err := s.audit(r, id, event); err != nil {
		return err
	}
	body := newExportBody(w, r, req, s.exportHeader(req))
	err = s.exports.query(ctx, "export", sqlgen.Export(see, req.filter, fieldsOf(req.columns)), body.row)
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
	event.AuditComment += fmt.Sprintf(": %s, %d events sent", outcome, body.rows)
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
func (s *Service) countExport(ctx context.Context, see visibility.Predicate, req exportRequest) (n uint64, err error) {
	err = s.exports.query(ctx, "count", sqlgen.Count(see, req.filter), func(r driver.Rows) error { return r.Scan(&n) })
	if most := s.cfg.ExportRows; err == nil && most > 0 && n > uint64(most) {
		return n, &problem.Error{
			Kind: problem.KindInvalid, Status: http.StatusUnprocessableEntity,
			Detail: fmt.Sprintf("The export would have %d events; the limit is %d (--export-rows). Narrow it: a shorter time range (startDate, endDate), in several exports if need be, or a more exact query.", n, most),
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

// exportHeader says what bounds an export and which dates it covers.
func (s *Service) exportHeader(req exportRequest) http.Header {
	h := s.limitHeader()
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
	what := "all events"
	if req.filter.Where != nil {
		what = req.filter.Where.String()
	}
	names := make([]string, len(req.columns))
	for i, c := range req.columns {
		names[i] = c.Name
	}
	return audit.Event{
		Action: "Export", TargetType: "Audit Log", TargetName: req.format,
		AuditComment: fmt.Sprintf("%s; %s; columns %s", atMost(what, audit.MaxStringBytes/2), req.appendApplied(nil), strings.Join(names, " ")),
	}
}
