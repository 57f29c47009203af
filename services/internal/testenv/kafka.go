package testenv

import (
	"context"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
)

// Kafka starts an embedded broker of the test's own, on a free port with its
// data in a temporary folder, and ends it with the test.
func Kafka(t testing.TB) kafka.Config {
	t.Helper()
	b, err := broker.Start(context.Background(), broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: 24 * 365 * 100 * 3600e9}, broker.Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return kafka.Config{Addr: []string{b.Addr()}}
}
