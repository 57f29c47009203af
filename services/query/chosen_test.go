package query

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// TestSettingsComeWithKafkaAndStayWithoutIt: the service starts first, Kafka
// comes, gets its topics, and goes.
func TestSettingsComeWithKafkaAndStayWithoutIt(t *testing.T) {
	if testenv.OnApacheKafka() {
		t.Skip("starts and ends its broker in the middle, which only the embedded one can")
	}
	at := kafka.Config{Addr: away(t).Addr}
	c := openChosen(at, zap.NewNop())
	defer c.close()
	unread := func() {
		t.Helper()
		_, err := c.of(t.Context(), "c")
		if p := problem.From(err); p == nil || p.Kind != problem.KindUnavailable || p.RetryAfter == 0 || c.ready(t.Context()) == nil {
			t.Errorf("before they were read: %v", err)
		}
	}
	unread()
	b, err := broker.Start(context.WithoutCancel(t.Context()), broker.Config{Addr: at.Addr[0], DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: time.Hour}, broker.Deps{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	until(t, "to say what is missing", func() bool {
		err := c.ready(t.Context())
		return err != nil && err.Error() == "topics are missing, audit.events.audit.v1 is one: run auditrail migrate"
	})
	unread()
	cl, err := kafka.Open(t.Context(), at, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	until(t, "settings to be read", func() bool { return c.ready(t.Context()) == nil })
	if _, err := c.table.Change(t.Context(), "c", func(s *settings.Settings) error { s.DefaultTimeframeDays = 90; return nil }); err != nil {
		t.Fatal(err)
	}
	b.Close()
	for customer, want := range map[string]int{"c": 90, "other": 30} {
		if s, err := c.of(t.Context(), customer); err != nil || s.Timeframe() != want {
			t.Errorf("%s, after Kafka went: %+v, %v", customer, s, err)
		}
	}
}
