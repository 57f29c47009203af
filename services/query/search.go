package query

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Limits of the search endpoint, from the seeds.
const (
	maxPageNumber   = 100
	maxPageSize     = 200
	defaultPageSize = 10
)

// How long a client may take to receive an answer, which is held in memory
// until then: writeGrace, and its size at the slowest rate that we serve.
const (
	writeGrace   = 10 * time.Second
	slowestWrite = 512 << 10 // bytes a second
)

// searchRequest is what POST /audit-log/admin/search asks for.
type searchRequest struct {
	asked
	pageNumber int64
	pageSize   int64
}

// searchMembers are the members of a search request beside askedMembers.
var searchMembers = []string{"pageNumber", "pageSize"}

// read reads them.
func (req *searchRequest) read(f *form) {
	req.pageSize = defaultPageSize
	if n, ok := f.number("pageNumber", 0, maxPageNumber); ok {
		req.pageNumber = n
	}
	if n, ok := f.number("pageSize", 1, maxPageSize); ok {
		req.pageSize = n
	}
}

// search answers POST /audit-log/admin/search: one page of the events that
// the caller may see, newest first, and their exact number.
func (s *Service) search(w http.ResponseWriter, r *http.Request, id identity.Identity) (err error) {
	var req searchRequest
	if req.asked, err = readAsked(w, r, id, searchMembers, req.read); err != nil {
		return err
	}
	if err := s.bound(r.Context(), id, &req.asked); err != nil {
		return err
	}
	answer, release, err := s.runSearch(r.Context(), id, req)
	if err != nil {
		return err
	}
	defer release()
	return writeJSON(w, answer)
}

// runSearch runs the page and the count side by side and returns the answer's
// body. The caller calls release once it has been sent.
func (s *Service) runSearch(ctx context.Context, id identity.Identity, req searchRequest) (body []byte, release func(), err error) {
	leave, err := s.engine.enter(ctx, id.CustomerUUID)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	see := visibility.For(id)
	page := sqlgen.Page{Offset: req.pageNumber * req.pageSize, Limit: req.pageSize}
	answer := []byte(`{"auditRecords":[`)
	var rows int64
	var count uint64
	g, run := errgroup.WithContext(ctx)
	g.Go(s.guard(ctx, func() error {
		rec := newRecord()
		return s.engine.query(run, "rows", sqlgen.Rows(see, req.filter, page), func(r driver.Rows) error {
			if err := rec.scan(r); err != nil {
				return err
			}
			if rows++; rows > 1 {
				answer = append(answer, ',')
			}
			answer = rec.appendJSON(answer)
			return nil
		})
	}))
	g.Go(s.guard(ctx, func() error {
		return s.engine.query(run, "count", sqlgen.Count(see, req.filter), func(r driver.Rows) error { return r.Scan(&count) })
	}))
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	answer = append(answer, `],"totalCount":`...)
	answer = strconv.AppendInt(answer, total(page, rows, int64(min(count, 1<<62))), 10)
	answer = append(answer, `,"pageNumber":`...)
	answer = strconv.AppendInt(answer, req.pageNumber, 10)
	answer = append(answer, `,"pageSize":`...)
	answer = strconv.AppendInt(answer, req.pageSize, 10)
	answer = append(answer, ',')
	answer = append(req.appendApplied(answer), '}')
	// Before the place is left: what waits here is in memory too.
	release, err = s.engine.hold(ctx, id.CustomerUUID, int64(cap(answer)))
	return answer, release, err
}

// total makes one story of two statements that saw the table at slightly
// different moments. A page that is not full ends the list: what it saw is the
// exact total. A page beyond the end saw at most offset events, a full page at
// least offset and itself; the count decides within that.
func total(page sqlgen.Page, rows, count int64) int64 {
	switch {
	case rows >= page.Limit:
		return max(count, page.Offset+rows)
	case rows > 0 || page.Offset == 0:
		return page.Offset + rows
	default:
		return min(count, page.Offset)
	}
}

// writeJSON writes a complete answer.
func writeJSON(w http.ResponseWriter, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTime(len(body)))) // test writers have none
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(body); err != nil || rc.Flush() != nil { //nolint:gosec // JSON, not HTML, and nosniff
		return nil // a client that hung up, or reads too slowly, is no error of ours
	}
	// The deadline is the connection's: its next answer must not meet it.
	_ = rc.SetWriteDeadline(time.Time{})
	return nil
}

// writeTime is how long sending an answer of n bytes may take.
func writeTime(n int) time.Duration {
	return writeGrace + time.Duration(n)*time.Second/slowestWrite
}
