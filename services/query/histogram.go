package query

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/field"
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
	by       *field.Field // counts by its values, too; nil: not
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
	complete := s.horizon.completeUpTo(req.of)
	all, err := s.series(ctx, see, req)
	if err != nil {
		return found{}, err
	}
	answer := all.appendJSON([]byte{'{'})
	answer = append(answer, ',')
	answer = req.appendApplied(answer)
	answer = append(answer, `,"completeUpTo":`+complete+"}"...)
	return found{body: answer, events: int64(min(all.total, 1<<62))}, nil
}

// series are the counts of a histogram.
type series struct {
	interval string
	zone     *time.Location
	starts   []int64
	counts   []uint64
	by       []map[string]uint64 // counts by the values of req.by; nil: not asked
	total    uint64
}

// appendJSON appends the members that say them.
func (h *series) appendJSON(b []byte) []byte {
	b = append(b, `"buckets":[`...)
	for i, start := range h.starts {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"start":%d,"count":%d`, start, h.counts[i])
		if h.by != nil {
			b = appendCounts(append(b, `,"states":`...), h.by[i])
		}
		b = append(b, '}')
	}
	b = fmt.Appendf(b, `],"interval":"%s","timezone":`, h.interval)
	b = appendText(b, h.zone.String())
	return fmt.Appendf(b, `,"totalCount":%d`, h.total)
}

// series counts what a histogram shows.
func (s *Service) series(ctx context.Context, see visibility.View, req histogramRequest) (series, error) {
	h := series{zone: req.zone}
	from, to, err := s.span(ctx, see, req.filter)
	if err != nil {
		return h, err
	}
	var in interval
	for _, in = range req.candidates(from, to) {
		h.interval = in.name
		if h.starts = in.cover(from, to, req.zone); len(h.starts) > maxBuckets {
			continue
		}
		if err := s.countBuckets(ctx, see, req, in, &h, to); err != nil {
			return h, err
		}
		if len(h.starts) <= maxBuckets {
			break
		}
	}
	if len(h.starts) > maxBuckets {
		return h, tooManyBuckets(in)
	}
	for _, n := range h.counts {
		h.total += n
	}
	return h, nil
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
func (s *Service) countBuckets(ctx context.Context, see visibility.View, req histogramRequest, in interval, h *series, to int64) error {
	least := len(h.starts)
	if least == 0 {
		return nil
	}
	if req.filter.End == nil {
		h.starts = in.starts(h.starts, to+aheadOfNow.Milliseconds(), req.zone, math.MaxInt)
	}
	h.counts = make([]uint64, len(h.starts))
	stmt := sqlgen.Histogram(see, req.filter, h.starts)
	if req.by != nil {
		stmt = sqlgen.HistogramBy(see, req.filter, h.starts, req.by)
		h.by = make([]map[string]uint64, len(h.starts))
	}
	err := s.engine.query(ctx, "histogram", stmt, func(r driver.Rows) error {
		var start int64
		var value string
		var n uint64
		dest := []any{&start, &n}
		if req.by != nil {
			dest = []any{&start, &value, &n}
		}
		if err := r.Scan(dest...); err != nil {
			return err
		}
		i, found := slices.BinarySearch(h.starts, start)
		if !found {
			return fmt.Errorf("no bucket at %d", start)
		}
		h.counts[i] += n
		if req.by != nil {
			if h.by[i] == nil {
				h.by[i] = map[string]uint64{}
			}
			h.by[i][value] += n
		}
		return nil
	})
	n := len(h.starts)
	for n > least && h.counts[n-1] == 0 {
		n--
	}
	h.starts, h.counts = h.starts[:n], h.counts[:n]
	return err
}

func tooManyBuckets(in interval) error {
	return problem.Invalid(problem.Violation{
		Field: "interval", Value: in.name, Limit: fmt.Sprintf("%d buckets", maxBuckets),
		Message: fmt.Sprintf("makes more than %d buckets of this time range; take a longer interval, or narrow the range (startDate, endDate)", maxBuckets),
	})
}
