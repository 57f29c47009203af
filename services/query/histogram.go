package query

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// aheadOfNow is how far events may lie in the future: as the contract has it.
const aheadOfNow = 24 * time.Hour

// histogramMembers are the members of a request for a histogram beside
// askedMembers.
var histogramMembers = []string{"interval", "timezone"}

// histogramRequest is what POST /audit-log/admin/search/histogram asks for.
type histogramRequest struct {
	asked
	interval *interval // nil: auto
	zone     *time.Location
}

// read reads histogramMembers.
func (req *histogramRequest) read(f *form) {
	if text, ok := f.text("interval"); ok && text != "auto" {
		i := slices.IndexFunc(intervals, func(i interval) bool { return i.name == text })
		if i < 0 {
			f.violate(problem.Violation{Field: "interval", Value: problem.Shorten(text), Limit: intervalNames, Message: "must be one of " + intervalNames})
		} else {
			req.interval = &intervals[i]
		}
	}
	req.zone = f.zone("timezone")
}

// zone reads a member that names a time zone of the IANA database; UTC when it
// is not given. The system's tables have other names, too: that of the server's
// own zone, and, all in lower case, zones with leap seconds.
func (f *form) zone(name string) *time.Location {
	text, ok := f.short(name, 64)
	if !ok {
		return time.UTC
	}
	zone, err := time.LoadLocation(text)
	if err != nil || text[0] < 'A' || text[0] > 'Z' || text == "Local" || text == "Factory" {
		f.violate(problem.Violation{Field: name, Value: problem.Shorten(text), Limit: "a name of the IANA time zone database", Message: "must be a time zone such as Europe/Berlin or UTC"})
		return time.UTC
	}
	return zone
}

// histogram answers POST /audit-log/admin/search/histogram: how many events
// happened when.
func (s *Service) histogram(w http.ResponseWriter, r *http.Request, id identity.Identity) (err error) {
	var req histogramRequest
	if req.asked, err = readAsked(w, r, id, histogramMembers, req.read); err != nil {
		return err
	}
	if err := s.bound(r.Context(), id, &req.asked); err != nil {
		return err
	}
	return s.answer(w, r, id, req.describe("histogram"), func(ctx context.Context) (found, error) {
		return s.runHistogram(ctx, visibility.For(id), req)
	})
}

func (s *Service) runHistogram(ctx context.Context, see visibility.View, req histogramRequest) (found, error) {
	complete := s.horizon.completeUpTo()
	from, to, err := s.span(ctx, see, req.filter)
	if err != nil {
		return found{}, err
	}
	var in interval
	var starts []int64
	var counts []uint64
	for _, in = range req.candidates(from, to) {
		if starts = in.cover(from, to, req.zone); len(starts) > maxBuckets {
			continue
		}
		if starts, counts, err = s.countBuckets(ctx, see, req, in, starts, to); err != nil {
			return found{}, err
		}
		if len(starts) <= maxBuckets {
			break
		}
	}
	if len(starts) > maxBuckets {
		return found{}, tooManyBuckets(in)
	}
	var total uint64
	answer := []byte(`{"buckets":[`)
	for i, start := range starts {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = fmt.Appendf(answer, `{"start":%d,"count":%d}`, start, counts[i])
		total += counts[i]
	}
	answer = fmt.Appendf(answer, `],"interval":"%s","timezone":`, in.name)
	answer = appendText(answer, req.zone.String())
	answer = fmt.Appendf(answer, `,"totalCount":%d,`, total)
	answer = req.appendApplied(answer)
	answer = append(answer, `,"completeUpTo":`+complete+"}"...)
	return found{answer, int64(min(total, 1<<62))}, nil
}

// span is what a histogram covers: what was asked for, and where that is open,
// from the first event to now, or to the last event when the query itself says
// something about createdDate. A start of 0 means everything: it is open.
// from > to: there is nothing.
func (s *Service) span(ctx context.Context, see visibility.View, filter sqlgen.Filter) (from, to int64, err error) {
	from, to = math.MinInt64, filter.Now.UnixMilli()
	if filter.Start != nil {
		from, to = *filter.Start, max(to, *filter.Start)
	}
	if filter.End != nil {
		to = *filter.End
	}
	if filter.Start != nil && from > 0 {
		return max(from, sqlgen.MinInstant), min(to, sqlgen.MaxInstant), nil
	}
	err = s.engine.query(ctx, "span", sqlgen.Span(see, filter), func(r driver.Rows) error {
		var n uint64
		var first, last int64
		if err := r.Scan(&n, &first, &last); err != nil {
			return err
		}
		switch {
		case n == 0:
			from, to = 0, -1
		case filter.End == nil && filter.Start != nil:
			from, to = first, max(to, last)
		case filter.End == nil:
			from, to = first, last
		default:
			from, to = first, max(first, min(to, sqlgen.MaxInstant))
		}
		return nil
	})
	return from, to, err
}

// candidates are the intervals that may do, best first.
func (req *histogramRequest) candidates(from, to int64) []interval {
	if req.interval != nil {
		return []interval{*req.interval}
	}
	for i, in := range intervals {
		if in.most(from, to) <= autoBuckets {
			return intervals[i:]
		}
	}
	return intervals[len(intervals)-1:]
}

// countBuckets counts the events of each bucket. Where the end is open, buckets
// of the future are added as far as there are events.
func (s *Service) countBuckets(ctx context.Context, see visibility.View, req histogramRequest, in interval, starts []int64, to int64) ([]int64, []uint64, error) {
	least := len(starts)
	if least == 0 {
		return nil, nil, nil
	}
	if req.filter.End == nil {
		starts = in.starts(starts, to+aheadOfNow.Milliseconds(), req.zone, math.MaxInt)
	}
	counts := make([]uint64, len(starts))
	err := s.engine.query(ctx, "histogram", sqlgen.Histogram(see, req.filter, starts), func(r driver.Rows) error {
		var start int64
		var n uint64
		if err := r.Scan(&start, &n); err != nil {
			return err
		}
		i, found := slices.BinarySearch(starts, start)
		if !found {
			return fmt.Errorf("no bucket at %d", start)
		}
		counts[i] = n
		return nil
	})
	n := len(starts)
	for n > least && counts[n-1] == 0 {
		n--
	}
	return starts[:n], counts[:n], err
}

func tooManyBuckets(in interval) error {
	return problem.Invalid(problem.Violation{
		Field: "interval", Value: in.name, Limit: fmt.Sprintf("%d buckets", maxBuckets),
		Message: fmt.Sprintf("makes more than %d buckets of this time range; take a longer interval, or narrow the range (startDate, endDate)", maxBuckets),
	})
}
