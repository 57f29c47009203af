//go:build !noengine && (linux || darwin)

package session

import (
	"testing"
	"testing/synctest"
)

// TestKillBacksOffAndGivesUp: a query that cannot be killed costs little, and is
// not tried for ever.
func TestKillBacksOffAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kills := 0
		if err := repeat(make(chan struct{}), func() error { kills++; return nil }); err == nil {
			t.Error("no error after giving up")
		}
		if kills < 10 || kills > 100 {
			t.Errorf("%d kills", kills)
		}
		done := make(chan struct{})
		if err := repeat(done, func() error { close(done); return nil }); err != nil {
			t.Errorf("after the query's end: %v", err)
		}
	})
}
