//go:build !noengine && (linux || darwin)

package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/auditrail/auditrail/services/internal/filelock"
)

const (
	engineDir = "clickhouse"     // in the data folder
	lockName  = "auditrail.lock" // in engineDir
	tempDir   = "auditrail.tmp"  // in engineDir, for the HTTP interface's files
	dirMode   = os.FileMode(0o750)
	// lockPatience outlasts the end of an engine whose parent was just killed:
	// it notices, finishes its inserts and goes.
	lockPatience = 5 * time.Second
)

// openDataDir makes the engine's folder and locks it: the library itself does
// not refuse a second process in time, and two would ruin the data. The lock is
// released once the engine has stopped; the system does it for a process that died.
func openDataDir(dataDir string) (dir string, lock *filelock.Lock, err error) {
	dir, err = filepath.Abs(filepath.Join(dataDir, engineDir))
	if err != nil {
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	if lock, err = filelock.Take(filepath.Join(dir, lockName), lockPatience); err != nil {
		return "", nil, fmt.Errorf("--data-dir: %w", err)
	}
	return dir, lock, nil
}
