// Package testenv gives component tests the real parts they run against.
package testenv

import (
	"os"
	"sync"
	"testing"
)

var (
	endMu sync.Mutex
	ends  []func() // what Main calls after the tests; guarded by endMu
)

// Main is the TestMain of a package whose tests use this one:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// In a child process that a test started it is that child. Otherwise it runs the
// tests, ends what they started and left for each other, and exits.
func Main(m *testing.M) {
	if spec := os.Getenv(engineEnv); spec != "" {
		os.Exit(engineChild(spec))
	}
	code := m.Run()
	endMu.Lock()
	defer endMu.Unlock()
	for i := len(ends) - 1; i >= 0; i-- {
		ends[i]()
	}
	os.Exit(code)
}

// AtEnd has Main call f after the tests, in the opposite order of the calls.
func AtEnd(f func()) {
	endMu.Lock()
	defer endMu.Unlock()
	ends = append(ends, f)
}
