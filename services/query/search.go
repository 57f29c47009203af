package query

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Limits of the search endpoint, from the seeds.
const (
	maxPageNumber   = 100
	maxPageSize     = 200
	defaultPageSize = 10
	maxQQL          = 500 // characters
)

// How long a client may take to receive an answer, which is held in memory
// until then: writeGrace, and its size at the slowest rate that we serve.
const (
	writeGrace   = 10 * time.Second
	slowestWrite = 512 << 10 // bytes a second
)

// searchRequest is what POST /audit-log/admin/search asks for.
type searchRequest struct {
	pageNumber   int64
	pageSize     int64
	filter       sqlgen.Filter
	qql          string
	customerUUID *string
	userUUID     *string
}

// search answers POST /audit-log/admin/search: one page of the events that
// the caller may see, newest first, and their exact number.
func (s *Service) search(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	req, err := parseSearch(body)
	if err != nil {
		return err
	}
	if err := req.allowed(id); err != nil {
		return err
	}
	answer, release, err := s.runSearch(r.Context(), id, req)
	if err != nil {
		return err
	}
	defer release()
	return writeJSON(w, answer)
}

// searchMembers are the members of a search request, in the seeds' order.
var searchMembers = []string{"pageNumber", "pageSize", "qql", "startDate", "endDate", "customerUuid", "userUuid"}

// parseSearch reads a search request. The error tells every broken rule.
func parseSearch(body []byte) (searchRequest, error) {
	req := searchRequest{pageSize: defaultPageSize}
	f, err := readForm(body, searchMembers)
	if err != nil {
		return req, err
	}
	if n, ok := f.number("pageNumber", 0, maxPageNumber); ok {
		req.pageNumber = n
	}
	if n, ok := f.number("pageSize", 1, maxPageSize); ok {
		req.pageSize = n
	}
	qql, _ := f.short("qql", maxQQL)
	req.qql = strings.TrimSpace(qql)
	req.filter.Start, req.filter.End = f.dateRange()
	if v, ok := f.id("customerUuid", identity.MaxID); ok {
		req.customerUUID = &v
	}
	if v, ok := f.id("userUuid", identity.MaxID); ok {
		req.userUUID = &v
	}
	if err := f.err(); err != nil {
		return req, err
	}
	if req.qql != "" {
		return req, &problem.Error{
			Kind: problem.KindInvalid, Status: http.StatusNotImplemented,
			Detail: "Queries in the query language (qql) are not implemented yet. Leave qql out; startDate and endDate narrow the search.",
		}
	}
	return req, nil
}

// allowed holds the ids that a request may name against the token. The answer
// says nothing about whom they belong to.
func (req searchRequest) allowed(id identity.Identity) error {
	if req.customerUUID != nil && *req.customerUUID != id.CustomerUUID {
		return problem.New(problem.KindForbidden, "customerUuid is not the token's subscription. Leave it out, or use that subscription's token.")
	}
	if req.userUUID != nil && *req.userUUID != id.UserUUID {
		return problem.New(problem.KindForbidden, "userUuid is not the token's user. Leave it out, or use that user's token.")
	}
	return nil
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
	answer = append(answer, '}')
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
