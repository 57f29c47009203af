package settings

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestRetentionHasLimits(t *testing.T) {
	for days, good := range map[uint16]bool{0: true, 1: true, 400: true, 3650: true, 3651: false, 65535: false} {
		err := Settings{RetentionDays: days}.Validate()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "between 1 and 3650") {
			t.Errorf("%d days: got %v", days, err)
		}
	}
}

func TestAChoiceIsReadWhereItIsNeeded(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t), kgo.DefaultProduceTopic(topic.Settings))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	table, err := Open(t.Context(), at, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	retain := func(customer string, days uint16) error {
		_, err := table.Change(t.Context(), customer, func(s *Settings) { s.RetentionDays = days })
		return err
	}
	for customer, days := range map[string]uint16{"a": 30, "b": 90, "c": 0} {
		if err := retain(customer, days); err != nil {
			t.Fatal(err)
		}
	}
	for customer, days := range map[string]uint16{"a": 3651, "": 30, strings.Repeat("x", 65): 30} {
		if err := retain(customer, days); err == nil {
			t.Errorf("customer %.5q, %d days: accepted", customer, days)
		}
	}
	// Somebody else wrote what no table of ours would.
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("d"), Value: []byte(`{"retentionDays":60000}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, time.Minute, nil, "the foreign record", func() (bool, string) {
		s, ok := table.table.Peek("d")
		return ok, fmt.Sprint(s)
	})
	for customer, want := range map[string]uint16{"a": 30, "b": 90, "c": 7, "d": 7, "e": 7} {
		if got := table.RetentionDays(customer, 7); got != want {
			t.Errorf("%s: got %d days, want %d", customer, got, want)
		}
	}
	if diff := cmp.Diff(table.Retentions(), map[uint16][]string{30: {"a"}, 90: {"b"}}); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}
