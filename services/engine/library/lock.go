//go:build !noengine && (linux || darwin)

package library

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockInterval is how often a busy lock is tried again.
const lockInterval = 200 * time.Millisecond

// lock takes an exclusive lock on the file at path, waiting while another
// process has it. The system releases it when a process dies.
func lock(ctx context.Context, path string, progress *os.File) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // a cache of public files
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told && progress != nil {
			told = true
			_, _ = fmt.Fprintln(progress, "another process fetches the ClickHouse engine; waiting for it")
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(lockInterval):
		}
	}
}
