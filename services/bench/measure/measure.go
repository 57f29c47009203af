// Package measure is what the benchmarks that compare with a yardstick share:
// the events they work on and the clock they are measured by.
package measure

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// Metrics that a benchmark reports, an event: nanoseconds, and allocations.
const (
	CPU    = "cpu-ns/event"    // CPU time of the process
	Caller = "caller-ns/event" // CPU time of the calling thread
	Wall   = "wall-ns/event"   // time that passed for the caller
	Allocs = "allocs/event"
)

// Set is how many events a benchmark goes through: far more than caches hold,
// as in a busy service.
const Set = 1 << 16

// shortSet is the same with -test.short, to see that a benchmark works.
const shortSet = 200

// Size is how many events to ask for: Set, or a few in short mode.
func Size() int {
	if testing.Short() {
		return shortSet
	}
	return Set
}

// Workloads are the names of the two, and whether they are full.
var Workloads = []struct {
	Name string
	Full bool
}{{"base", false}, {"full", true}}

// Now is the clock that the events are valid by.
func Now() time.Time { return time.UnixMilli(workload.Default().End) }

// Lines are the first n events of a workload as JSON, in one piece of memory.
func Lines(tb testing.TB, full bool, n int) [][]byte {
	tb.Helper()
	cfg := workload.Default()
	cfg.Full = full
	gen, err := workload.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	var (
		e     audit.Event
		arena []byte
	)
	ends := make([]int, n)
	for i := range ends {
		gen.Next(&e)
		if arena, err = e.AppendJSON(arena); err != nil {
			tb.Fatal(err)
		}
		ends[i] = len(arena)
	}
	lines := make([][]byte, n)
	start := 0
	for i, end := range ends {
		lines[i] = arena[start:end:end]
		start = end
	}
	return lines
}

// Events are the lines decoded. They point into them.
func Events(tb testing.TB, lines [][]byte) []audit.Event {
	tb.Helper()
	events := make([]audit.Event, len(lines))
	for i, line := range lines {
		if err := audit.Decode(line, &events[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return events
}

// Process runs pass, which handles that many events, again and again, and
// reports the CPU time of the whole process: whatever the work costs
// elsewhere, garbage collection included, counts. A first pass is not
// measured: it grows buffers.
func Process(b *testing.B, events int, pass func()) {
	b.Helper()
	pass()
	runtime.GC() // what came before is not this benchmark's to clean up
	passes := 0
	start := ProcessCPU()
	for b.Loop() {
		pass()
		passes++
	}
	report(b, ProcessCPU()-start, passes*events, CPU)
}

// ProcessCPU is the CPU time of the process so far.
func ProcessCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // only a wrong argument makes it fail
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func report(b *testing.B, spent time.Duration, events int, unit string) {
	b.ReportMetric(float64(spent.Nanoseconds())/float64(events), unit)
}
