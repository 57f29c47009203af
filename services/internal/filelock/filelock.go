// Package filelock keeps two processes from using one folder.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// Lock is a held lock. It ends with the process, however that ends.
type Lock struct{ f *os.File }

// Take locks path, creating the file if needed. When another process holds the
// lock for longer than patience it says so, and which.
func Take(path string, patience time.Duration) (*Lock, error) {
	l, err := take(path)
	for end := time.Now().Add(patience); busy(err) && time.Now().Before(end); l, err = take(path) {
		<-time.After(waitInterval)
	}
	if busy(err) {
		return nil, fmt.Errorf("%s is locked: another process%s uses this folder; stop it, or choose another with --data-dir", path, owner(path))
	}
	return l, err
}

// waitInterval is how often Wait tries a busy lock again.
const waitInterval = 200 * time.Millisecond

// Wait locks path, creating the file if needed, and waits while another process
// has it, until ctx is done. It calls waiting once before it waits.
func Wait(ctx context.Context, path string, waiting func()) (*Lock, error) {
	for told := false; ; told = true {
		l, err := take(path)
		if !busy(err) {
			return l, err
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(waitInterval):
		}
	}
}

func busy(err error) bool {
	return errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR)
}

func take(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is in the operator's own folder
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// For owner. A lock without it locks as well.
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return &Lock{f}, nil
}

// owner names the process that holds the lock, when it wrote its id.
func owner(path string) string {
	b, _ := os.ReadFile(path) //nolint:gosec // as above
	if pid := strings.TrimSpace(string(b)); pid != "" {
		return " (" + pid + ")"
	}
	return ""
}

// Release gives the lock up.
func (l *Lock) Release() { _ = l.f.Close() } // closing ends the lock, also when it errs
