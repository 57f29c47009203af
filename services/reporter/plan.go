package reporter

import (
	"context"
	"fmt"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

const (
	// mostChunks bounds a plan, about, which is one record of the table: chunks of
	// a larger report have more rows.
	mostChunks = 5000
	// stretches is into how many a span is cut at least to see where its rows are,
	// stretchesOfAChunk into how many for each chunk: one that is not full has room
	// for less than another.
	stretches, stretchesOfAChunk = 2000, 8
)

// rows is what a report is of, as statements take it.
type rows struct {
	see     visibility.Predicate
	filter  sqlgen.Filter
	pin     sqlgen.Pin
	columns []*field.Field
	shape   sqlgen.Shape
}

// rowsOf reads a specification. What a query service accepted is readable: an
// error tells of another version's.
func rowsOf(s *report.Spec) (rows, error) {
	r := rows{see: visibility.For(s.Requester.Identity()), pin: s.Pin, filter: sqlgen.Filter{Now: time.UnixMilli(s.Now)}}
	if s.Query != "" {
		where, err := qql.Reparse(field.Events, s.Query)
		if err != nil {
			return r, fmt.Errorf("%w: query: %w", errSpec, err)
		}
		r.filter.Where = where
	}
	for _, name := range s.Columns {
		f := field.Find(field.Events.Fields, name)
		if f == nil || f.Type == field.JSON {
			return r, fmt.Errorf("%w: no column %q", errSpec, name)
		}
		r.columns = append(r.columns, f)
	}
	if len(r.columns) == 0 {
		return r, fmt.Errorf("%w: no columns", errSpec)
	}
	switch s.Format {
	case report.CSV:
		zone, err := time.LoadLocation(s.Timezone)
		if err != nil {
			return r, fmt.Errorf("%w: %w", errSpec, err)
		}
		r.shape = sqlgen.CSV{Zone: zone}
	case report.JSONLines:
		r.shape = sqlgen.JSONLines{}
	case report.Parquet:
		r.shape = sqlgen.Parquet{}
	default:
		return r, fmt.Errorf("%w: no format %q", errSpec, s.Format)
	}
	return r, nil
}

// whole is the report's range.
func whole(s *report.Spec) report.Span {
	span := report.Span{From: s.From(), To: sqlgen.MaxInstant + 1}
	if s.End != nil && *s.End < sqlgen.MaxInstant {
		span.To = *s.End + 1
	}
	span.To = max(span.To, span.From) // one that ended before what is kept has no rows
	return span
}

// plan cuts the job into chunks.
func (r *run) plan(j *report.Job) (*report.Job, error) {
	of, err := rowsOf(j.Spec)
	if err != nil {
		return nil, err
	}
	ctx, moved := r.watched()
	defer moved.stop()
	chunks, err := cut(ctx, whole(j.Spec), r.cfg.ChunkRows, counts{r.events, of, moved})
	if err != nil {
		return nil, moved.why(err)
	}
	if j.Spec.Format == report.Parquet {
		if n := rowGroups(chunks); n > maxRowGroups {
			return nil, fmt.Errorf("%w: some %d row groups, a file has %d at most", errTooLarge, n, maxRowGroups)
		}
	}
	// If we die before it is written, whoever comes next counts again.
	return r.settle(
		func(ctx context.Context) (*report.Job, error) {
			return r.table.SetPlan(ctx, r.id, r.epoch, report.Plan{Chunks: chunks})
		},
		func(j *report.Job) bool { return r.owns(j) && j.Plan != nil },
	)
}

// rowCounter counts the rows of a span by stretches of width, newest first,
// without empty ones; ClickHouse does.
type rowCounter interface {
	histogram(ctx context.Context, span report.Span, width int64) ([]stretch, error)
}

type stretch struct{ from, rows int64 }

type counts struct {
	events *clickHouse
	rows
	moved *watch // is told when ClickHouse is asked, and when it answers
}

func (c counts) numbers(ctx context.Context, stmt sqlgen.Statement) ([][]int64, error) {
	c.moved.ask()
	defer c.moved.on()
	return c.events.numbers(ctx, stmt)
}

func (c counts) histogram(ctx context.Context, span report.Span, width int64) ([]stretch, error) {
	got, err := c.numbers(ctx, sqlgen.ReportHistogram(c.see, c.filter, c.pin, span, width))
	if err != nil {
		return nil, err
	}
	some := make([]stretch, len(got))
	for i, row := range got {
		if len(row) != 2 {
			return nil, fmt.Errorf("%w: a histogram has %v", errBroken, row)
		}
		some[i] = stretch{row[0], row[1]}
	}
	return some, nil
}

// count is how many rows are in a span.
func (c counts) count(ctx context.Context, span report.Span) (int64, error) {
	got, err := c.numbers(ctx, sqlgen.ReportCount(c.see, c.filter, c.pin, span))
	if err != nil {
		return 0, err
	}
	if len(got) != 1 || len(got[0]) != 1 {
		return 0, fmt.Errorf("%w: a count is %v", errBroken, got)
	}
	return got[0][0], nil
}

// cut makes chunks of size rows each, about: newest first, each behind the one
// before, together the whole span, one at least. More rows are in one only when
// they are of one millisecond, which is never split.
func cut(ctx context.Context, span report.Span, size int64, c rowCounter) ([]report.PlannedChunk, error) {
	of, size, err := survey(ctx, span, size, c)
	if err != nil {
		return nil, err
	}
	fine, err := of.finer(ctx, size, c)
	if err != nil {
		return nil, err
	}
	chunks := []report.PlannedChunk{{Span: span}}
	for _, s := range fine {
		at := &chunks[len(chunks)-1]
		if at.Rows > 0 && at.Rows+s.rows > size {
			chunks = append(chunks, report.PlannedChunk{Span: report.Span{From: span.From, To: at.From}})
			at = &chunks[len(chunks)-1]
		}
		at.Rows += s.rows
		at.From = s.from
	}
	chunks[len(chunks)-1].From = span.From
	return chunks, nil
}

// counted is where the rows of a span are: in stretches of width, newest first.
type counted struct {
	report.Span
	width int64
	rows  []stretch
}

// survey looks where the rows of a span are, ever closer while that shows more:
// an open range is mostly empty, and a large one has many rows in a stretch. It
// returns the size that chunks must have for mostChunks, too.
func survey(ctx context.Context, span report.Span, size int64, c rowCounter) (counted, int64, error) {
	for pieces := int64(stretches); ; {
		of, err := count(ctx, span, pieces, c)
		if err != nil {
			return of, 0, err
		}
		n := int64(0)
		for _, s := range of.rows {
			n += s.rows
		}
		if n <= size {
			return of, size, nil
		}
		size = max(size, n/mostChunks+1)
		span = report.Span{From: of.rows[len(of.rows)-1].from, To: min(of.rows[0].from+of.width, span.To)}
		if pieces = max(stretches, stretchesOfAChunk*(n/size)); widthOf(span, pieces) > of.width/2 {
			return of, size, nil
		}
	}
}

// count counts by so many stretches.
func count(ctx context.Context, span report.Span, pieces int64, c rowCounter) (of counted, err error) {
	of.Span, of.width = span, widthOf(span, pieces)
	of.rows, err = c.histogram(ctx, span, of.width)
	return of, err
}

// widthOf is that of a span's stretches when they are so many, in milliseconds.
func widthOf(span report.Span, pieces int64) int64 {
	return max(1, (span.To-span.From+pieces-1)/pieces)
}

// finer cuts stretches so finely that none has more than size rows unless it is a
// millisecond.
func (of counted) finer(ctx context.Context, size int64, c rowCounter) (fine []stretch, err error) {
	for _, s := range of.rows {
		if s.rows <= size || of.width == 1 {
			fine = append(fine, s)
			continue
		}
		within, err := count(ctx, report.Span{From: s.from, To: min(s.from+of.width, of.To)}, stretches, c)
		if err != nil {
			return nil, err
		}
		some, err := within.finer(ctx, size, c)
		if err != nil {
			return nil, err
		}
		fine = append(fine, some...)
	}
	return fine, nil
}
