package query

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/internal/field"
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
)

// searchRequest is what POST /audit-log/admin/search asks for.
type searchRequest struct {
	asked
	pageNumber int64
	pageSize   int64
	sort       sqlgen.Sort
	after      *cursor // nil: from the beginning
	view       view
}

// searchMembers are the members of a search request beside askedMembers.
var searchMembers = []string{"pageNumber", "pageSize", "sort", "searchAfter", "view"}

// read reads them.
func (req *searchRequest) read(f *form) {
	req.pageSize = defaultPageSize
	if n, ok := f.number("pageNumber", math.MinInt64, math.MaxInt64); ok && (n < 0 || n > maxPageNumber) {
		f.violate(problem.Violation{
			Field: "pageNumber", Value: strconv.FormatInt(n, 10), Limit: fmt.Sprintf("0 to %d", maxPageNumber),
			Message: fmt.Sprintf("must be 0 to %d; to go further, pass on searchAfter of each answer instead", maxPageNumber),
		})
	} else {
		req.pageNumber = n
	}
	if n, ok := f.number("pageSize", 1, maxPageSize); ok {
		req.pageSize = n
	}
	req.sort = f.sort()
	req.view = f.view()
	text, ok := f.short("searchAfter", maxCursor)
	if !ok {
		return
	}
	if req.pageNumber > 0 {
		f.violate(cursorViolation("does not go with a pageNumber above 0: it says itself where the page begins"))
		return
	}
	var err error
	if req.after, err = decodeCursor(text, f.of, req.sort); err != nil {
		f.violate(cursorViolation(err.Error()))
	}
}

// search answers POST /audit-log/admin/search: one page of the events that
// the caller may see, newest first unless asked otherwise, and their exact
// number.
func (s *Service) search(w http.ResponseWriter, r *http.Request, id identity.Identity) (err error) {
	var req searchRequest
	if req.asked, err = readAsked(w, r, id, searchMembers, req.read); err != nil {
		return err
	}
	return s.page(w, r, id, visibility.For(id), req)
}

// page answers a search for what see lets through.
func (s *Service) page(w http.ResponseWriter, r *http.Request, id identity.Identity, see visibility.View, req searchRequest) (err error) {
	next := cursor{} // what the next page begins with
	if next.Query, err = fingerprint(see, &req.asked, req.sort); err != nil {
		return err
	}
	if req.after != nil {
		err = req.after.resume(see, &req.asked, req.sort)
	} else {
		err = s.bound(r.Context(), id, &req.asked)
	}
	if err != nil {
		return err
	}
	next.Now, next.Days = req.filter.Now.UnixMilli(), req.days
	what := "search"
	if req.of == field.Calls {
		what = "search of API calls"
	}
	return s.answer(w, r, id, req.describe(what), func(ctx context.Context) (found, error) {
		return s.runSearch(ctx, see, req, next)
	})
}

// runSearch runs the page and the count side by side and returns the answer's
// body. In a walk, the count is that of its beginning.
func (s *Service) runSearch(ctx context.Context, see visibility.View, req searchRequest, next cursor) (found, error) {
	complete := s.horizon.completeUpTo(req.of)
	// One more than is shown: it tells whether there is more.
	page := sqlgen.Page{Sort: req.sort, Offset: req.pageNumber * req.pageSize, Limit: req.pageSize + 1}
	if req.after != nil {
		page.After = req.after.position()
	}
	answer := []byte(`{"auditRecords":[`)
	if req.of == field.Calls {
		answer = []byte(`{"apiCalls":[`)
	}
	var rows int64
	var count uint64
	g, run := errgroup.WithContext(ctx)
	g.Go(s.guard(ctx, func() error {
		rec := newRecord(req.of)
		return s.engine.query(run, "rows", sqlgen.Rows(see, req.filter, page), func(r driver.Rows) error {
			if rows++; rows > req.pageSize {
				return nil
			}
			if err := rec.scan(r); err != nil {
				return err
			}
			if rows > 1 {
				answer = append(answer, ',')
			}
			answer = rec.appendJSON(answer, req.view)
			if rows == req.pageSize {
				next.Value, next.Date, next.ID = rec.position(req.sort)
			}
			return nil
		})
	}))
	if req.after == nil {
		g.Go(s.guard(ctx, func() error {
			return s.engine.query(run, "count", sqlgen.Count(see, req.filter), func(r driver.Rows) error { return r.Scan(&count) })
		}))
	}
	if err := g.Wait(); err != nil {
		return found{}, err
	}
	next.Total = total(page, rows, int64(min(count, 1<<62)))
	if req.after != nil {
		next.Total = req.after.Total
	}
	answer = fmt.Appendf(answer, `],"totalCount":%d,`, next.Total)
	if req.of == field.Events { // API calls are walked by searchAfter alone
		answer = fmt.Appendf(answer, `"pageNumber":%d,`, req.pageNumber)
	}
	answer = fmt.Appendf(answer, `"pageSize":%d,`, req.pageSize)
	answer = req.appendApplied(answer)
	answer = append(answer, `,"completeUpTo":`+complete...)
	if rows > req.pageSize {
		after, err := next.encode()
		if err != nil {
			return found{}, err
		}
		answer = append(answer, `,"searchAfter":"`+after+`"`...)
	}
	return found{body: append(answer, '}'), events: min(rows, req.pageSize)}, nil
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
