package testenv

import (
	"testing"
	"time"
)

// untilInterval is how often Until looks.
const untilInterval = 20 * time.Millisecond

// Until waits until done says so, and fails the test when that takes longer
// than limit, or when ended is closed before. done also says what it got, for
// the message. A nil ended never ends.
func Until(t testing.TB, limit time.Duration, ended <-chan struct{}, what string, done func() (ok bool, got string)) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		ok, got := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited for %s; got %s", what, got)
		}
		select {
		case <-time.After(untilInterval):
		case <-ended:
			t.Fatalf("the process ended while the test waited for %s; got %s", what, got)
		}
	}
}
