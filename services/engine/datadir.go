//go:build !noengine && (linux || darwin)

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	engineDir = "clickhouse"     // in the data folder
	lockName  = "auditrail.lock" // in engineDir
	tempDir   = "auditrail.tmp"  // in engineDir, for the HTTP interface's files
	dirMode   = os.FileMode(0o750)
)

// openDataDir makes the engine's folder and locks it: the library itself does
// not refuse a second process in time, and two would ruin the data. unlock is
// called once the engine has stopped; the system does it for a process that died.
func openDataDir(dataDir string) (dir string, unlock func(), err error) {
	dir, err = filepath.Abs(filepath.Join(dataDir, engineDir))
	if err != nil {
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o640) //nolint:gosec // the user's own path
	if err != nil {
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close() //nolint:errcheck // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return "", nil, fmt.Errorf("--data-dir: another engine%s uses %s; stop it, or set another --data-dir", owner(f), dir)
		}
		return "", nil, fmt.Errorf("--data-dir: lock %s: %w", dir, err)
	}
	pid := fmt.Appendf(nil, "%d\n", os.Getpid())
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		_ = f.Close()
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	return dir, func() { _ = f.Close() }, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// owner names the process that holds the lock, when it wrote its id.
func owner(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}
