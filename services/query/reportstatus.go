package query

import (
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
)

// reportStatus is how a report stands. Dates are in milliseconds since 1970; null
// or absent: not yet, or not known.
type reportStatus struct {
	ReportID int64        `json:"reportId"`
	Name     string       `json:"reportName"`
	Summary  string       `json:"reportSummary"`
	State    report.State `json:"state"`
	// Reason says why it is in its state; Trouble, what keeps a run from going on.
	Reason  string `json:"reason,omitempty"`
	Trouble string `json:"trouble,omitempty"`
	CallID  string `json:"callId"` // of its present run, or the last
	// QueuePlace is its place among the queued reports of its subscription, 1 is
	// next; 0: it is not queued.
	QueuePlace int `json:"queuePlace,omitempty"`

	Created       int64  `json:"createdDate"`
	Began         *int64 `json:"beganDate"`
	Ended         *int64 `json:"endedDate"`
	Expires       *int64 `json:"expiresDate"`
	EstimatedEnd  *int64 `json:"estimatedEndDate"`
	Rows          int64  `json:"rows"`
	TotalRows     *int64 `json:"totalRows"` // null: not counted yet
	Bytes         int64  `json:"bytes"`
	Percent       int    `json:"percent"`
	RowsPerSecond int64  `json:"rowsPerSecond"`

	Columns     []string           `json:"reportColumns"` // titles
	Format      report.Format      `json:"format"`
	Compression report.Compression `json:"compression"`
	Timezone    string             `json:"timezone"`
	Query       string             `json:"query,omitempty"`
	FileName    string             `json:"fileName"`
	SHA256      string             `json:"sha256,omitempty"` // of the file

	// Start and End are as asked. Events before KeptSince may have been gone
	// already: Clipped says that it was asked for from before.
	Start        *int64 `json:"startDate"`
	End          *int64 `json:"endDate"`
	KeptSince    int64  `json:"keptSince"`
	Clipped      bool   `json:"clipped"`
	CompleteUpTo int64  `json:"completeUpTo"`

	UserUUID string        `json:"userUuid"` // who asked for it
	UserName string        `json:"userName"`
	UserRole identity.Role `json:"userRole"`
}

// status tells how a job stands at a moment.
func (s *Service) status(j *report.Job, now time.Time) reportStatus {
	spec, of := j.Spec, j.Spec.Requester
	st := reportStatus{
		ReportID: j.ID, Name: spec.Name, Summary: spec.Summary, State: j.State, Reason: j.Reason, CallID: j.Call.String(),
		Created: j.Created.UnixMilli(), Began: dateOf(j.Began), Ended: dateOf(j.Ended),
		Rows: j.Progress.Rows, Bytes: j.Progress.Bytes,
		Format: spec.Format, Compression: spec.Compression, Timezone: spec.Timezone, Query: spec.Query, FileName: spec.Name + spec.Suffix(),
		Start: spec.Start, End: spec.End, KeptSince: spec.KeptSince, Clipped: spec.Clipped(), CompleteUpTo: spec.Pin.Watermark,
		UserUUID: of.UserUUID, UserName: of.UserName, UserRole: of.UserRole,
	}
	for _, name := range spec.Columns {
		if f := field.Find(field.Events.Fields, name); f != nil {
			name = f.Title
		}
		st.Columns = append(st.Columns, name)
	}
	if j.Plan != nil {
		total := j.Plan.Rows()
		st.TotalRows = &total
	}
	st.rate(j, now)
	switch j.State {
	case report.StateQueued:
		st.QueuePlace = 1 + len(s.reports.table.Sorted(func(other *report.Job) bool {
			return other.State == report.StateQueued && other.Spec.Requester.CustomerUUID == of.CustomerUUID && other.ID < j.ID
		}))
	case report.StateRunning:
		st.Trouble = j.Progress.Trouble
		st.estimate(now)
	case report.StateFailed, report.StateCancelled:
		st.expires(j, s.cfg.ReportRetention)
	case report.StateFinished:
		st.expires(j, s.cfg.ReportRetention)
		st.SHA256 = j.End.SHA256
	case report.StateExpired:
		st.Expires = dateOf(j.Since)
	}
	st.percent()
	if j.End != nil && j.End.State == report.StateFinished {
		st.Rows, st.Bytes, st.TotalRows, st.Percent = j.End.Rows, j.End.Bytes, &j.End.Rows, 100
	}
	return st
}

func dateOf(at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	ms := at.UnixMilli()
	return &ms
}

func (st *reportStatus) expires(j *report.Job, after time.Duration) {
	if !j.Ended.IsZero() {
		st.Expires = dateOf(j.Ended.Add(after))
	}
}

// rate says how fast rows come: over the time that it was worked on, or since the
// run began where that is longer, because others have their turns in between.
func (st *reportStatus) rate(j *report.Job, now time.Time) {
	took := j.Progress.Busy
	if took <= 0 {
		return
	}
	if !j.Ended.IsZero() {
		now = j.Ended
	}
	if !j.Began.IsZero() {
		took = max(took, now.Sub(j.Began))
	}
	st.RowsPerSecond = int64(float64(st.Rows) / took.Seconds())
}

// percent says how much of it is done: 100 is kept for one that is finished.
func (st *reportStatus) percent() {
	if st.TotalRows != nil && *st.TotalRows > 0 {
		st.Percent = int(min(99, float64(st.Rows)/float64(*st.TotalRows)*100))
	}
}

// estimate says when a run may end that goes on as it did.
func (st *reportStatus) estimate(now time.Time) {
	if st.TotalRows == nil || st.RowsPerSecond == 0 || st.Trouble != "" {
		return
	}
	left := float64(max(0, *st.TotalRows-st.Rows)) / float64(st.RowsPerSecond)
	at := now.UnixMilli() + int64(math.Ceil(left*1000))
	st.EstimatedEnd = &at
}

// showReport answers GET /audit-log/admin/report/{id}.
func (s *Service) showReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := noParameters(r); err != nil {
		return err
	}
	j, _, err := s.job(r, id)
	if err != nil {
		return err
	}
	return s.answerStatus(w, j)
}

func (s *Service) answerStatus(w http.ResponseWriter, j *report.Job) error {
	body, err := json.Marshal(s.status(j, time.Now()))
	if err != nil {
		return err
	}
	return writeJSON(w, body)
}
