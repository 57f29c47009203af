package testenv

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
)

// kafkaEnv chooses the broker of all tests: empty for the embedded one,
// "apache" for Apache Kafka itself.
const kafkaEnv = "AUDITRAIL_TEST_KAFKA"

// OnApacheKafka says that the tests run against Apache Kafka itself.
func OnApacheKafka() bool { return os.Getenv(kafkaEnv) == "apache" }

// retention keeps every record of a test, however old its clock.
const retention = 100 * 365 * 24 * time.Hour

// Kafka starts a broker of the test's own, on a free port with its data in a
// temporary folder, and ends it with the test.
func Kafka(t testing.TB) kafka.Config {
	t.Helper()
	if OnApacheKafka() {
		return KafkaCluster(t, 1).Config()
	}
	b, err := broker.Start(context.Background(), broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: retention}, broker.Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return kafka.Config{Addr: []string{b.Addr()}}
}
