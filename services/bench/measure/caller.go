package measure

import (
	"runtime"
	"testing"
	"time"
)

// Thread runs pass, which handles that many events, again and again, and
// reports what it costs its caller: CPU time of its thread, and the time that
// passes. What others do meanwhile does not count, nor does settle, which runs
// between two passes, nor the first pass. Allocations are those of the process
// during the passes: only the runtime knows more.
func Thread(b *testing.B, events int, pass, settle func()) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pass()
	settle()
	runtime.GC()
	var cpu, wall time.Duration
	var before, after runtime.MemStats
	var allocs uint64
	passes := 0
	for b.Loop() {
		b.StopTimer()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		start, began := threadCPU(), time.Now()
		pass()
		cpu += threadCPU() - start
		wall += time.Since(began)
		passes++
		b.StopTimer()
		runtime.ReadMemStats(&after)
		allocs += after.Mallocs - before.Mallocs
		settle()
		b.StartTimer()
	}
	report(b, cpu, passes*events, Caller)
	report(b, wall, passes*events, Wall)
	b.ReportMetric(float64(allocs)/float64(passes*events), Allocs)
}
