package testenv

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Run runs a service until stop is called, or the test ends. stop waits for the
// service's end, and fails the test when that takes longer than limit or the
// service returned an error.
func Run(t testing.TB, limit time.Duration, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the service ended with %v", err)
			}
		case <-time.After(limit):
			t.Error("the service does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}
