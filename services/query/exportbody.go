package query

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/klauspost/compress/gzip"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
)

// exportPiece is how much of an export is sent at once, in bytes before gzip.
const exportPiece = 64 << 10

// HTTP trailers of an export.
const (
	exportStatus = "X-Export-Status" // complete or incomplete
	exportRows   = "X-Export-Rows"   // events in it
)

// format writes rows to the end of a buffer.
type format interface {
	media() string
	head(b []byte) []byte
	row(b []byte, dest []any) []byte
	// broken is the last row of a file that is not complete.
	broken(b []byte, rows int64, why string) []byte
}

// exportBody is the body of an export, made from rows as they come. Nothing is
// sent before the first row or the end, so that what fails before it can still
// have a status. Owned by the request's goroutine.
type exportBody struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	out    io.Writer // w, or zip
	zip    *gzip.Writer
	header http.Header
	format format
	name   string // of the file

	row   *row
	buf   []byte // not sent yet
	rows  int64
	begun bool
}

func newExportBody(w http.ResponseWriter, r *http.Request, req exportRequest, header http.Header) *exportBody {
	b := &exportBody{w: w, rc: http.NewResponseController(w), out: w, header: header}
	b.format = jsonLines{req.columns}
	if req.format == "csv" {
		b.format = csvFormat{columns: req.columns, zone: req.zone}
	}
	b.name = map[*field.Table]string{field.Events: "audit-events-", field.Calls: "api-calls-"}[req.of] + req.filter.Now.UTC().Format("20060102T150405Z") + "." + req.format
	b.row = newRow(req.of, fieldsOf(req.columns))
	if acceptsGzip(r) {
		b.zip = gzip.NewWriter(w)
		b.out = b.zip
	}
	return b
}

// acceptsGzip reads Accept-Encoding as RFC 9110 has it, as far as gzip goes.
func acceptsGzip(r *http.Request) bool {
	accepted := false
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || coding != "gzip" && coding != "*" {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		accepted = err != nil || q > 0
		if coding == "gzip" {
			break // it is named: * is for the others
		}
	}
	return accepted
}

// begin sends the header and what stands before the first row.
func (b *exportBody) begin() {
	b.begun = true
	h := b.w.Header()
	maps.Copy(h, b.header)
	h.Set("Content-Type", b.format.media())
	h.Set("Content-Disposition", `attachment; filename="`+b.name+`"`)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Encoding")
	h.Set("Trailer", exportStatus+", "+exportRows)
	h.Set("Connection", "close") // or its next answer would meet the deadline that end sets
	if b.zip != nil {
		h.Set("Content-Encoding", "gzip")
	}
	b.w.WriteHeader(http.StatusOK)
	b.buf = b.format.head(b.buf)
}

// add adds the current row. The error is errClientGone when the client hung up
// or reads too slowly.
func (b *exportBody) add(rows driver.Rows) error {
	if err := b.row.scan(rows); err != nil {
		return err
	}
	if !b.begun {
		b.begin()
	}
	b.buf = b.format.row(b.buf, b.row.shown)
	b.rows++
	if len(b.buf) < exportPiece {
		return nil
	}
	return b.send()
}

// send sends what is there. Every piece has a deadline of its own: a client may
// take long, but must go on.
func (b *exportBody) send() error {
	_ = b.rc.SetWriteDeadline(time.Now().Add(writeTime(len(b.buf)))) // test writers have none
	_, err := b.out.Write(b.buf)
	b.buf = b.buf[:0]
	if err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// end ends the body: as complete, or with a row that says why it is not.
func (b *exportBody) end(why error) error {
	if !b.begun {
		b.begin()
	}
	status := "complete"
	if why != nil {
		status = "incomplete"
		b.buf = b.format.broken(b.buf, b.rows, sentence(why))
	}
	if err := b.send(); err != nil {
		return err
	}
	if b.zip != nil {
		if err := b.zip.Close(); err != nil {
			return fmt.Errorf("%w: %w", errClientGone, err)
		}
	}
	b.w.Header().Set(exportStatus, status)
	b.w.Header().Set(exportRows, strconv.FormatInt(b.rows, 10))
	if err := b.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	// The last chunk and the trailers leave when the handler returns, which waits
	// for the audit event before that.
	_ = b.rc.SetWriteDeadline(time.Now().Add(auditTimeout + writeGrace))
	return nil
}

// sentence is what a client may know of an error.
func sentence(err error) string {
	p := problem.From(err)
	if p.Kind == problem.KindInternal {
		return "Something went wrong on our side."
	}
	return p.Detail
}
