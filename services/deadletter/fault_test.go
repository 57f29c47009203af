package deadletter

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// The records land and their markers do not: the letters stay open, and the
// next run sends the records again.
func TestAMarkerThatFailsLeavesItsLetterOpen(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	stop := e.ingest(b, 1)
	e.produce(
		&kgo.Record{Topic: pm, Key: []byte("customer-1"), Value: event(1, daysAgo(3))},
		&kgo.Record{Topic: pm, Value: event(2, daysAgo(3), func(e *audit.Event) { e.ID = "" })},
	)
	e.open(2)
	e.settled()
	stop()

	limit := func(bytes string) {
		t.Helper()
		rs, err := kadm.NewClient(e.cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}, topic.DeadLetter)
		if err != nil || rs[0].Err != nil {
			t.Fatal(err, rs)
		}
	}
	limit("70") // no marker fits
	said, err := e.redrive(all)
	if err == nil || !strings.Contains(err.Error(), "mark the dead letters that were sent") || !strings.Contains(said, "2 sent, 0 skipped, 0 failed") {
		t.Fatalf("without markers: %v\n%s", err, said)
	}
	if n := len(e.records(pm)); n != 4 {
		t.Fatalf("%d records are on the topic, want 4", n)
	}
	limit(fmt.Sprint(topic.MaxDeadLetterBytes))
	e.open(2)
	if said, err := e.redrive(all); err != nil || !strings.Contains(said, "2 sent, 0 skipped, 0 failed") {
		t.Fatalf("%v\n%s", err, said)
	}
	e.open(0)
	stop = e.ingest(b, 400)
	b.stored(2)
	e.settled()
	stop()
	b.stored(2)
}

// Kafka goes away in the middle of a run: the run says so, and the next one,
// with Kafka back, sends what is open. Every event is stored once.
func TestKafkaGoesAwayDuringARedrive(t *testing.T) {
	t.Parallel()
	start, brokers := ownBroker(t)
	first := start()
	e, b := newEnvOn(t, brokers()), newTable(t)
	const n = 8 * roundLetters
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, madeLetter(int64(i), event(i)))
	}
	e.produce(rs...)
	watch, err := kafka.Open(t.Context(), e.kafka, zaptest.NewLogger(t), kgo.ConsumeTopics(pm), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	away := make(chan struct{})
	go func() {
		defer close(away)
		defer watch.Close()
		watch.PollFetches(t.Context()) // the first record is there
		first.Close()
	}()
	said, err := e.redrive(all)
	<-away
	if err == nil || strings.Contains(said, fmt.Sprintf("%d sent", n)) {
		t.Fatalf("Kafka did not go away in the middle: %v\n%s", err, said)
	}
	t.Logf("without Kafka: %v", err)
	if !strings.Contains(err.Error(), "once it does, run the command again") && !strings.Contains(err.Error(), "redriving them again is safe") {
		t.Errorf("it does not say what to do: %v", err)
	}

	second := start()
	t.Cleanup(second.Close)
	if said, err := e.redrive(all); err != nil {
		t.Fatalf("with Kafka back: %v\n%s", err, said)
	}
	e.open(0)
	stop := e.ingest(b, 400)
	b.stored(n)
	e.settled()
	stop()
	b.stored(n)
}

// ownBroker is an embedded broker that may be closed and started again, at one
// address, which is known once it was started.
func ownBroker(t *testing.T) (start func() *broker.Broker, brokers func() kafka.Config) {
	if testenv.OnApacheKafka() {
		t.Skip("it ends the embedded broker")
	}
	cfg := broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: 10_000 * time.Hour}
	start = func() *broker.Broker {
		t.Helper()
		b, err := broker.Start(context.Background(), cfg, broker.Deps{Log: zaptest.NewLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Addr = b.Addr()
		return b
	}
	return start, func() kafka.Config { return kafka.Config{Addr: []string{cfg.Addr}} }
}

// Without Kafka a run ends with the round under way, instead of trying every
// round of the rest.
func TestARoundWithoutKafkaIsTheLast(t *testing.T) {
	t.Parallel()
	start, brokers := ownBroker(t)
	b := start()
	e := newEnvOn(t, brokers())
	cl, err := kafka.Open(t.Context(), e.kafka, zaptest.NewLogger(t), producing()...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	r := &redriver{cl: cl, cfg: RedriveConfig{Kafka: e.kafka}, outcomes: map[outcome]int{}}
	for i := range int64(2) { // the second without Kafka
		l, _ := parse(madeLetter(i, event(int(i))))
		r.round = []*letter{l}
		if err = r.flush(t.Context()); i == 0 {
			if err != nil {
				t.Fatal(err)
			}
			b.Close()
		}
	}
	t.Log(err, r.outcomes)
	if err == nil || !strings.Contains(err.Error(), "once it does, run the command again") || r.failed != 1 || r.sent != 1 {
		t.Errorf("%d sent, %d failed, %v", r.sent, r.failed, err)
	}
}
