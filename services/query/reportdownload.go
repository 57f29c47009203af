package query

import (
	"context"
	"encoding/json"
	"errors"

	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

// storeTimeout bounds how long a request waits for a manifest.
const storeTimeout = 10 * time.Second

// finished returns the manifest of a report that the caller sees and that has a
// file. The errors are problems: 404, 409 for one that has none, 410 for one that
// has none any more, 503.
func (s *Service) finished(r *http.Request, id identity.Identity) (*report.Job, *report.Manifest, error) {
	if err := noParameters(r); err != nil {
		return nil, nil, err
	}
	j, _, err := s.job(r, id)
	if err != nil {
		return nil, nil, err
	}
	switch j.State {
	case report.StateQueued:
		return nil, nil, conflict(j, "its file can be downloaded once it is Finished.")
	case report.StateRunning:
		st := s.status(j, time.Now())
		of := "not counted yet"
		if st.TotalRows != nil {
			of = fmt.Sprintf("%d of %d rows", st.Rows, *st.TotalRows)
		}
		return nil, nil, conflict(j, "%d%%, %s. Its file can be downloaded once it is Finished.", st.Percent, of)
	case report.StateFailed:
		return nil, nil, conflict(j, "it has no file. POST %s/%d/rerun goes on where it stopped.", reportPath, j.ID)
	case report.StateCancelled:
		return nil, nil, conflict(j, "it has no file. POST %s/%d/rerun asks for it again.", reportPath, j.ID)
	case report.StateExpired:
		return nil, nil, s.gone(j)
	case report.StateFinished:
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	m, err := s.reports.files.Manifest(ctx, j.End.Manifest)
	if err == nil {
		return j, m, nil
	}
	// It may have expired, or been deleted, since we looked.
	if now := s.reports.table.Job(j.ID); now == nil {
		return nil, nil, errNoReport
	} else if now.State == report.StateExpired {
		return nil, nil, s.gone(now)
	}
	return nil, nil, s.storeAway(r, j, err)
}

// storeAway is the problem 503 of a file that the store does not give out.
func (s *Service) storeAway(r *http.Request, j *report.Job, err error) error {
	if r.Context().Err() != nil {
		return errClientGone
	}
	return &problem.Error{
		Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: fmt.Errorf("report %d: %w", j.ID, err),
		Detail: "The store of reports does not give the file out at the moment. Try again shortly.",
	}
}

func (s *Service) gone(j *report.Job) error {
	return &problem.Error{
		Kind: problem.KindNotFound, Status: http.StatusGone,
		Detail: fmt.Sprintf("The report expired on %s: %s. Its file is deleted; POST %s/%d/rerun asks for it again.", j.Since.UTC().Format(time.RFC3339), j.Reason, reportPath, j.ID),
	}
}

// reportManifest answers GET /audit-log/admin/report/{id}/manifest.
func (s *Service) reportManifest(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	_, m, err := s.finished(r, id)
	if err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writeJSON(w, body)
}

// downloadReport answers GET and HEAD /audit-log/admin/report/{id}/download: the
// report's file, or the ranges of it that are asked for. Kafka has its audit
// event before the first byte leaves.
func (s *Service) downloadReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	j, m, err := s.finished(r, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer s.whenStopping(func() { cancel(errStopping) })()
	file := &reportFile{ctx: ctx, files: s.reports.files, m: m}
	defer file.close()
	h := w.Header()
	h.Set("Content-Type", mediaOf(j.Spec))
	h.Set("Content-Disposition", attachment(j.Spec.Name+j.Spec.Suffix()))
	h.Set("ETag", `"`+m.SHA256+`"`)
	h.Set("Cache-Control", "no-store")
	out := &download{ResponseWriter: w, rc: http.NewResponseController(w), size: m.Bytes}
	out.begin = func() error {
		if r.Method == http.MethodHead {
			return nil
		}
		if m.Bytes > 0 { // where http.ServeContent has gone to
			if err := file.open(); err != nil {
				return s.storeAway(r, j, err)
			}
		}
		event := eventOf("Download", j)
		event.Status = "Started"
		if part := h.Get("Content-Range"); part != "" {
			event.AuditComment = "resumed, " + part + ": " + event.AuditComment
		} else if ranges := r.Header.Get("Range"); ranges != "" && out.status == http.StatusPartialContent {
			event.AuditComment = "ranges, " + atMost(ranges, audit.MaxNameBytes) + ": " + event.AuditComment
		}
		return s.audit(r, id, event)
	}
	http.ServeContent(out, r, "", time.UnixMilli(m.FinishedDate), file)
	if out.refused != nil {
		for _, name := range []string{"Content-Type", "Content-Disposition", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control"} {
			h.Del(name)
		}
		return out.refused
	}
	s.metrics.downloaded.Add(float64(out.sent))
	switch {
	case file.err != nil && ctx.Err() == nil:
		s.metrics.downloads.WithLabelValues("broken").Inc()
		s.log.Error("a download broke off", zap.Int64("report", j.ID), zap.String("requestId", requestIDOf(ctx)), zap.Int64("bytes", out.sent), zap.Error(file.err))
		return errClientGone // a part must not pass for the whole
	case file.err != nil || out.err != nil:
		s.metrics.downloads.WithLabelValues("gone").Inc()
		return errClientGone
	}
	if out.sent == 0 {
		return nil // HEAD, and what the client has already
	}
	if err := out.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.metrics.downloads.WithLabelValues("gone").Inc()
		return errClientGone
	}
	s.metrics.downloads.WithLabelValues("complete").Inc()
	_ = out.rc.SetWriteDeadline(time.Time{}) // the connection's next answer must not meet it
	return nil
}

// download hands out what http.ServeContent writes: nothing before it is
// recorded, and each piece with a deadline of its own. Owned by the request's
// goroutine.
type download struct {
	http.ResponseWriter
	rc      *http.ResponseController
	begin   func() error
	size    int64 // of the file
	status  int
	refused error // what is answered instead
	err     error // of writing
	sent    int64 // bytes
}

// WriteHeader sends the header once that is recorded, and the store gives out the
// first bytes.
func (d *download) WriteHeader(status int) {
	d.status = status
	switch {
	case status == http.StatusRequestedRangeNotSatisfiable:
		d.refused = &problem.Error{
			Kind: problem.KindInvalid, Status: status, Header: http.Header{"Content-Range": {fmt.Sprintf("bytes */%d", d.size)}},
			Detail: fmt.Sprintf("The Range lies outside of the file, which has %d bytes, or cannot be read.", d.size),
		}
	case status < http.StatusMultipleChoices:
		d.refused = d.begin()
	}
	if d.refused == nil {
		d.ResponseWriter.WriteHeader(status)
	}
}

// Write sends a piece: a client may take long, but must go on.
func (d *download) Write(b []byte) (int, error) {
	if d.refused != nil {
		return 0, d.refused // what stands in its place is not sent
	}
	_ = d.rc.SetWriteDeadline(time.Now().Add(writeTime(len(b)))) // test writers have none
	n, err := d.ResponseWriter.Write(b)
	if d.sent += int64(n); err != nil {
		d.err = err
	}
	return n, err
}

// whenStopping calls f when the service drains, until the caller calls forget.
func (s *Service) whenStopping(f func()) (forget func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-s.stopping:
			f()
		case <-done:
		}
	}()
	return func() { close(done) }
}

// mediaOf is the Content-Type of a report's file. One that is compressed is a
// compressed file, not an encoding of another.
func mediaOf(spec *report.Spec) string {
	switch spec.Compression {
	case report.Gzip:
		return "application/gzip"
	case report.Zstd:
		return "application/zstd"
	case report.None:
	}
	switch spec.Format {
	case report.JSONLines:
		return "application/jsonl"
	case report.Parquet:
		return "application/vnd.apache.parquet"
	case report.CSV:
	}
	return csvFormat{}.media()
}

// attachment is the Content-Disposition of a file as RFC 6266 has it: for
// clients that know no filename*, a name in ASCII stands before that.
func attachment(name string) string {
	var plain, exact strings.Builder
	for _, r := range name {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\%:*?<>|`, r) {
			r = '_'
		}
		plain.WriteRune(r)
	}
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0 {
			exact.WriteByte(c) // attr-char of RFC 5987
		} else {
			fmt.Fprintf(&exact, "%%%02X", c)
		}
	}
	return fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, plain.String(), exact.String())
}
