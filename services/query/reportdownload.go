package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

// overTimeout bounds the look whether a report is still there.
const overTimeout = 2 * time.Second

// finished returns the manifest, and its bytes, of a report that the caller sees and that has a
// file. The errors are problems: 404, 409 for one that has none, 410 for one that
// has none any more, 500 for one that is not as the job has it, 503.
func (s *Service) finished(r *http.Request, id identity.Identity) (j *report.Job, m *report.Manifest, raw []byte, err error) {
	if err := noParameters(r); err != nil {
		return nil, nil, nil, err
	}
	if j, _, err = s.job(r, id); err != nil {
		return nil, nil, nil, err
	}
	switch j.State {
	case report.StateQueued:
		return nil, nil, nil, conflict(j, "its file can be downloaded once it is Finished.")
	case report.StateRunning:
		st := s.status(j, time.Now())
		of := "not counted yet"
		if st.TotalRows != nil {
			of = fmt.Sprintf("%d of %d rows", st.Rows, *st.TotalRows)
		}
		return nil, nil, nil, conflict(j, "%d%%, %s. Its file can be downloaded once it is Finished.", st.Percent, of)
	case report.StateFailed:
		return nil, nil, nil, conflict(j, "it has no file. POST %s/%d/rerun goes on where it stopped.", reportPath, j.ID)
	case report.StateCancelled:
		return nil, nil, nil, conflict(j, "it has no file. POST %s/%d/rerun asks for it again.", reportPath, j.ID)
	case report.StateExpired:
		return nil, nil, nil, s.gone(j)
	case report.StateFinished:
	}
	if m, raw, err = s.manifest(r.Context(), j); err != nil {
		return nil, nil, nil, s.noFile(r, j, err)
	}
	return j, m, raw, nil
}

// noFile is the problem of a file, or a manifest, that cannot be read: 404 or 410
// when the report was deleted, or expired, since somebody looked; 410 when the
// store has it no more, 500 when it has another, 503 for anything else.
func (s *Service) noFile(r *http.Request, j *report.Job, err error) error {
	if r.Context().Err() != nil {
		return errClientGone
	}
	if over := s.over(r.Context(), j); over != nil {
		return over
	}
	of := fmt.Errorf("report %d: %w", j.ID, err)
	switch {
	case report.IsMissing(err):
		s.log.Error("the store has lost the file of a report", zap.Int64("report", j.ID), zap.String("requestId", requestIDOf(r.Context())), zap.Error(err))
		return &problem.Error{
			Kind: problem.KindNotFound, Status: http.StatusGone, Cause: of,
			Detail: fmt.Sprintf("The file of the report is gone from the store of reports. POST %s/%d/rerun makes it again, of what is stored now.", reportPath, j.ID),
		}
	case errors.Is(err, report.ErrDamaged):
		return of // 500, and logged
	}
	return &problem.Error{
		Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: of,
		Detail: "The store of reports does not give the file out at the moment. Try again shortly.",
	}
}

// over is the problem of a report that had a file and has none by now; nil when it
// still has. While Kafka is away, what memory holds decides.
func (s *Service) over(ctx context.Context, j *report.Job) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), overTimeout)
	defer cancel()
	if err := s.reports.table.Fresh(ctx); err != nil {
		s.log.Warn("whether a report was deleted or expired meanwhile is told from memory", zap.Int64("report", j.ID), zap.Error(err))
	}
	switch now := s.reports.table.Job(j.ID); {
	case now == nil:
		return errNoReport
	case now.State == report.StateExpired:
		return s.gone(now)
	}
	return nil
}

func (s *Service) gone(j *report.Job) error {
	return &problem.Error{
		Kind: problem.KindNotFound, Status: http.StatusGone,
		Detail: fmt.Sprintf("The report expired on %s: %s. Its file is deleted; POST %s/%d/rerun asks for it again.", j.Since.UTC().Format(time.RFC3339), j.Reason, reportPath, j.ID),
	}
}

// downloadReport answers GET and HEAD /audit-log/admin/report/{id}/download: the
// report's file, or the range of it that is asked for: the whole where there are
// several. Kafka has its audit event before the first byte leaves.
func (s *Service) downloadReport(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	j, m, _, err := s.finished(r, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer s.whenStopping(func() { cancel(errStopping) })()
	file := &reportFile{ctx: ctx, files: s.reports.files, m: m, resumed: strings.HasSuffix(strings.TrimSpace(r.Header.Get("Range")), "-")}
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
				return s.noFile(r, j, err)
			}
		}
		event := eventOf("Download", j)
		event.Status = "Started"
		if part := h.Get("Content-Range"); part != "" {
			event.AuditComment = "resumed, " + part + ": " + event.AuditComment
		}
		return s.audit(r, id, event)
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range") // http.ServeContent reads several in another goroutine; the whole is allowed
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
	case file.err != nil && ctx.Err() == nil && s.over(ctx, j) == nil:
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
	refused error // what is answered instead
	err     error // of writing
	sent    int64 // bytes
}

// WriteHeader sends the header once that is recorded, and the store gives out the
// first bytes.
func (d *download) WriteHeader(status int) {
	switch {
	case status == http.StatusPreconditionFailed:
		d.refused = &problem.Error{
			Kind: problem.KindInvalid, Status: status,
			Detail: "The file is not the one that If-Match or If-Unmodified-Since names. Ask without them, or look at its ETag first.",
		}
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
