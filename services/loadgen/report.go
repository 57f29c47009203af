package loadgen

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/auditrail/auditrail/pkg/emit"
)

// reportEvery is how often a line of progress is printed.
const reportEvery = 2 * time.Second

// reporter prints how the run goes.
type reporter struct {
	out   io.Writer
	stats func() emit.Stats
	start time.Time
	last  time.Time // of the line before
	sent  int64     // at that time
}

func newReporter(out io.Writer, stats func() emit.Stats) *reporter {
	now := time.Now()
	return &reporter{out: out, stats: stats, start: now, last: now}
}

// run prints until ctx ends.
func (r *reporter) run(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.line()
		}
	}
}

func (r *reporter) line() {
	now, s := time.Now(), r.stats()
	_, _ = fmt.Fprintf(r.out, "%d %s, %.0f events/s, %d buffered\n",
		s.Emitted, english.PluralWord(int(s.Emitted), "event", ""), perSecond(s.Emitted-r.sent, now.Sub(r.last)), s.BufferedEvents)
	r.last, r.sent = now, s.Emitted
}

// summary prints the whole run, once everything has its fate.
func (r *reporter) summary() {
	took, s := time.Since(r.start), r.stats()
	_, _ = fmt.Fprintf(r.out, "emitted %d, delivered %d, failed %d, took %s, %.0f events/s\n",
		s.Emitted, s.Delivered, s.Failed, took.Round(time.Millisecond), perSecond(s.Delivered, took))
}

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}
