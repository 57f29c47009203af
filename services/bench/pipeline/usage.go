package main

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/bench/measure"
)

// usage is what a process has used.
type usage struct {
	CPU       time.Duration
	Resident  int64  // bytes of memory now; 0 where the system does not tell
	Peak      int64  // the same at the most
	Mallocs   uint64 // objects allocated
	Allocated uint64 // bytes allocated
	GCs       uint32
}

func usageNow() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	resident, peak := memory()
	return usage{CPU: measure.ProcessCPU(), Resident: resident, Peak: peak, Mallocs: m.Mallocs, Allocated: m.TotalAlloc, GCs: m.NumGC}
}

// since is what was used after from. Memory stays that of the process.
func (u usage) since(from usage) usage {
	return usage{
		CPU: u.CPU - from.CPU, Resident: u.Resident, Peak: u.Peak, Mallocs: u.Mallocs - from.Mallocs,
		Allocated: u.Allocated - from.Allocated, GCs: u.GCs - from.GCs,
	}
}

// memory is what is resident, now and at the most so far, on Linux. The rusage of
// a child would begin with that of its parent.
func memory() (now, peak int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	bytesOf := func(name string) int64 {
		_, rest, _ := bytes.Cut(status, []byte(name))
		line, _, _ := bytes.Cut(rest, []byte("kB"))
		n, err := strconv.ParseInt(strings.TrimSpace(string(line)), 10, 64)
		if err != nil {
			return 0
		}
		return n << 10
	}
	return bytesOf("VmRSS:"), bytesOf("VmHWM:")
}
