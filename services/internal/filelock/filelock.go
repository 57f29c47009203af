// Package filelock keeps two processes from using one data folder.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock is a held lock. It ends with the process, however that ends.
type Lock struct{ f *os.File }

// Take locks path, creating the file if needed. It does not wait: when another
// process holds the lock it says so.
func Take(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's own data folder
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is locked: another process uses this folder; stop it, or choose another with --data-dir", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// Release gives the lock up.
func (l *Lock) Release() { _ = l.f.Close() } // closing ends the lock, also when it errs
