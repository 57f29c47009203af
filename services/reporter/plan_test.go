package reporter

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// dated counts events by their dates.
type dated []int64

// bounds are how many are in a span, the first and the last.
func (d dated) bounds(span report.Span) (n, first, last int64) {
	for _, at := range d {
		if at < span.From || at >= span.To {
			continue
		}
		if n == 0 || at < first {
			first = at
		}
		if n == 0 || at > last {
			last = at
		}
		n++
	}
	return n, first, last
}

func (d dated) histogram(_ context.Context, span report.Span, width int64) (some []stretch, err error) {
	counts := map[int64]int64{}
	for _, at := range d {
		if at >= span.From && at < span.To {
			counts[span.From+(at-span.From)/width*width]++
		}
	}
	for from, n := range counts {
		some = append(some, stretch{from, n})
	}
	slices.SortFunc(some, func(a, b stretch) int { return int(b.from - a.from) })
	return some, nil
}

// TestChunksAreTheWholeRange, each behind the one before, none larger than asked
// but of one millisecond.
func TestChunksAreTheWholeRange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		span := report.Span{From: rapid.Int64Range(-1e6, 1e6).Draw(t, "from")}
		span.To = span.From + rapid.SampledFrom([]int64{0, 1, 10, 5000, 1e6, 4e14}).Draw(t, "long")
		var events dated
		if span.To > span.From {
			for range rapid.IntRange(0, 200).Draw(t, "events") {
				at := rapid.Int64Range(span.From, span.To-1).Draw(t, "at")
				if len(events) > 0 && rapid.Bool().Draw(t, "same") {
					at = events[0] + rapid.Int64Range(0, min(3, span.To-1-events[0])).Draw(t, "near")
				}
				events = append(events, at)
			}
		}
		size := rapid.Int64Range(1, 50).Draw(t, "size")
		chunks, err := cut(context.Background(), span, size, events)
		if err != nil {
			t.Fatal(err)
		}
		if len(chunks) == 0 || chunks[0].To != span.To || chunks[len(chunks)-1].From != span.From {
			t.Fatalf("%v is not %v", chunks, span)
		}
		for i, c := range chunks {
			n, first, last := events.bounds(c.Span)
			if n != c.Rows {
				t.Fatalf("chunk %d, %v, has %d events", i, c, n)
			}
			if n > size && first != last {
				t.Fatalf("chunk %d, %v, has more than %d events", i, c, size)
			}
			if i > 0 && c.To != chunks[i-1].From {
				t.Fatalf("chunk %d, %v, is not behind %v", i, c, chunks[i-1])
			}
			// Two neighbours that would fit into one were not cut.
			if i > 0 && n+chunks[i-1].Rows <= size && n > 0 {
				t.Fatalf("chunks %d and %d, %v and %v, have %d events at most", i-1, i, chunks[i-1], c, size)
			}
		}
	})
}

// looks counts how often it is asked.
type looks struct {
	rowCounter
	n int
}

func (l *looks) histogram(ctx context.Context, span report.Span, width int64) ([]stretch, error) {
	l.n++
	return l.rowCounter.histogram(ctx, span, width)
}

// TestAPlanOfAnyRange has about as many chunks as the rows need, after few looks,
// however empty the range is.
func TestAPlanOfAnyRange(t *testing.T) {
	t.Parallel()
	const day, now, n = 24 * 60 * 60 * 1000, 1_780_000_000_000, 100_000
	for _, days := range []int64{1, 30, 400, 3650} {
		events := make(dated, n)
		for i := range events {
			events[i] = now - int64(i)*days*day/n
		}
		for name, span := range map[string]report.Span{
			"just theirs": {From: now - days*day, To: now + 1}, "since 1970": {To: sqlgen.MaxInstant + 1}, "all": {From: sqlgen.MinInstant, To: sqlgen.MaxInstant + 1},
		} {
			for _, size := range []int64{100, 2000, 40_000, n} {
				c := &looks{rowCounter: events}
				chunks, err := cut(t.Context(), span, size, c)
				if err != nil {
					t.Fatal(err)
				}
				if most := n/size*6/5 + 1; int64(len(chunks)) > most || c.n > 3 {
					t.Errorf("%d days, %s: %d chunks of %d rows after %d looks, want %d after 3 at most", days, name, len(chunks), size, c.n, most)
				}
			}
		}
	}
}

func job(id int64, customer string) *report.Job {
	return &report.Job{ID: id, Spec: &report.Spec{Requester: report.Requester{CustomerUUID: customer}}}
}

func TestTurnsGoRound(t *testing.T) {
	t.Parallel()
	turns := newTurns()
	jobs := []*report.Job{job(1, "a"), job(2, "a"), job(3, "a"), job(4, "b"), job(5, "c")}
	var got []int64
	next := func() {
		j := turns.next(jobs)
		turns.took(j)
		got = append(got, j.ID)
	}
	for range 9 {
		next()
	}
	// Who comes new is next, whatever the others have.
	jobs = append(jobs, job(6, "d"), job(7, "b"))
	for range 4 {
		next()
	}
	if want := []int64{1, 4, 5, 2, 4, 5, 3, 4, 5, 6, 1, 7, 5}; !slices.Equal(got, want) {
		t.Errorf("turns %v, want %v", got, want)
	}
	turns.forget(jobs[:1])
	if len(turns.jobs) != 1 || len(turns.subscriptions) != 1 {
		t.Errorf("known: %v, %v", turns.jobs, turns.subscriptions)
	}
	if turns.next(nil) != nil {
		t.Error("nobody has a turn")
	}
}

func TestAnOwnerIsSilentByOurClock(t *testing.T) {
	t.Parallel()
	l := leases{}
	j := job(1, "a")
	j.Owner, j.Heard = 7, 7
	now := time.Now()
	silent := func(want bool) {
		t.Helper()
		if got := l.silent(j, now, time.Minute); got != want {
			t.Errorf("silent is %v after %v", got, l)
		}
	}
	l.listen([]*report.Job{j}, now)
	now = now.Add(time.Minute - 1)
	silent(false)
	now = now.Add(1)
	silent(true)
	j.Heard = 8
	l.listen([]*report.Job{j}, now)
	silent(false)
	now = now.Add(time.Minute)
	silent(true)
	j.Owner = 9 // somebody took it
	l.listen([]*report.Job{j}, now)
	silent(false)
	j.Owner = 0
	l.listen([]*report.Job{j}, now)
	if len(l) != 0 {
		t.Error(fmt.Sprint(l))
	}
}
