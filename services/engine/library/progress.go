//go:build !noengine && (linux || darwin)

package library

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// How often progress is told: on a terminal the line is rewritten, elsewhere
// each is a line in a log.
const (
	terminalInterval = 250 * time.Millisecond
	logInterval      = 5 * time.Second
)

// report tells how far the folder that a download goes to has grown.
type report struct {
	out      *os.File
	dir      string
	total    int64
	terminal bool
	done     chan struct{}
	wg       sync.WaitGroup
}

// newReport starts telling. out may be nil.
func newReport(out *os.File, dir string, total int64) *report {
	r := &report{out: out, dir: dir, total: total, done: make(chan struct{})}
	if out == nil {
		return r
	}
	interval := logInterval
	if info, err := out.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		r.terminal, interval = true, terminalInterval
	}
	r.tell()
	r.wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.tell()
			case <-r.done:
				return
			}
		}
	})
	return r
}

// stop ends the progress line.
func (r *report) stop() {
	close(r.done)
	r.wg.Wait()
	if r.terminal {
		_, _ = fmt.Fprintln(r.out)
	}
}

func (r *report) tell() {
	const mb = 1_000_000
	have := min(size(r.dir), r.total) // npm keeps a second copy at the end
	line := fmt.Sprintf("fetching the ClickHouse engine: %d of %d MB (%d%%)", have/mb, r.total/mb, 100*have/max(r.total, 1))
	if r.terminal {
		_, _ = fmt.Fprint(r.out, "\r"+line)
	} else {
		_, _ = fmt.Fprintln(r.out, line)
	}
}

// say writes one line.
func (r *report) say(line string) {
	if r.out != nil {
		_, _ = fmt.Fprintln(r.out, line)
	}
}

// size is the sum of the files under dir. Files come and go meanwhile.
func size(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
