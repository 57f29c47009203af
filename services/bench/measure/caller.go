package measure

import (
	"runtime"
	"testing"
	"time"
)

// Thread runs pass, which handles that many events, again and again, and
// reports what it costs its caller: CPU time of its thread, and the time that
// passes. What others do meanwhile does not count, nor does settle, which runs
// between two passes, nor the first pass.
func Thread(b *testing.B, events int, pass, settle func()) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pass()
	settle()
	runtime.GC()
	var cpu, wall time.Duration
	passes := 0
	for b.Loop() {
		start, began := threadCPU(), time.Now()
		pass()
		cpu += threadCPU() - start
		wall += time.Since(began)
		passes++
		b.StopTimer()
		settle()
		b.StartTimer()
	}
	report(b, cpu, passes*events, Caller)
	report(b, wall, passes*events, Wall)
}
