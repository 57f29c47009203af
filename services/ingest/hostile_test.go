package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/schemas"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// A range in doubt may be larger than what a lane may hold, or the process:
// --ingest-memory may have been lowered since.
func TestARecoveryLargerThanTheMemoryEnds(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	values := make([][]byte, 8000)
	for i := range values {
		values[i] = event(i)
	}
	p.produce(pm, 0, values...)
	p.leavePending(values, 0, int64(len(values)-1))
	p.cfg.Limits.Memory = 1 << 20
	p.start()
	p.stored(uint64(len(values)))
	p.committed()
}

func TestAStopDoesNotWaitForKafka(t *testing.T) {
	t.Parallel()
	if testenv.OnApacheKafka() {
		t.Skip("ends its broker in the middle, which only the embedded one can")
	}
	at := testenv.ClickHouse(t).Config()
	p := newPipeline(t, at, "PM")
	b, err := broker.Start(context.Background(), broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: 1000 * time.Hour}, broker.Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	p.cfg.Kafka = kafka.Config{Addr: []string{b.Addr()}}
	cl, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	p.kafka, p.admin = cl, kadm.NewClient(cl)
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: 1000 * time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	p.cfg.Limits.FlushAge = 200 * time.Millisecond
	stop := p.start()
	p.produce(pm, 0, event(1))
	p.stored(1)
	p.produce(pm, 0, []byte("a dead letter in flight"))
	b.Close()
	p.until("/readyz to name Kafka", func() (bool, string) {
		said := p.readyz()
		return strings.Contains(said, "kafka has been failing"), said
	})
	stop() // fails the test when Run does not end
}

func TestARecordThatUnpacksToMoreThanADeadLetterHolds(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	huge := bytes.Repeat([]byte("0"), 3<<20) // packs to almost nothing
	cl, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: pm, Value: huge}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p.produce(pm, 0, event(1))
	p.stored(1)
	r := p.deadLetters(1)["0"]
	if headerOf(r, topic.HeaderReason) != audit.RuleRecord || headerOf(r, topic.HeaderSize) != fmt.Sprint(len(huge)) || len(headerOf(r, topic.HeaderSHA256)) != 64 || !bytes.HasPrefix(huge, r.Value) {
		t.Errorf("got a dead letter of %d bytes with headers %v", len(r.Value), r.Headers)
	}
}

// TestAnythingOnATopicIsStoredOrDeadLettered: whatever bytes a producer sends,
// each record has a row or a dead letter, and those behind it are stored.
func TestAnythingOnATopicIsStoredOrDeadLettered(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	values := [][]byte{
		nil, {}, {0}, []byte("null"), []byte("{}"), []byte(`{"id":`), bytes.Repeat([]byte{0xff}, 1000),
		[]byte(strings.Repeat("[", 100_000)), []byte(strings.Repeat(`{"a":`, 40_000)), bytes.Repeat([]byte(" "), 900_000),
		bytes.Replace(event(1), []byte(`{`), []byte(`{"deep":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,`), 1),
		bytes.Replace(event(2), []byte(`"createdDate":`), []byte(`"createdDate":1e400,"x":`), 1),
		bytes.Replace(event(3), []byte(`"createdDate":`), []byte(`"createdDate":99999999999999999999999,"x":`), 1),
	}
	examples, err := fs.Glob(schemas.FS, "audit/v1/examples/*/*.json")
	if err != nil || len(examples) < 80 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	for _, name := range examples {
		value, err := fs.ReadFile(schemas.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		value := event(1000 + i)
		for range 1 + random.IntN(3) {
			value[random.IntN(len(value))] = byte(' ' + random.IntN(95))
		}
		values = append(values, value[:len(value)-random.IntN(2)*random.IntN(len(value))])
	}
	values = append(values, event(9999))
	p.produce(pm, 0, values...)
	p.committed()
	var rows, last uint64
	if err := p.conn.QueryRow(t.Context(), "SELECT uniqExact(kafka_offset), countIf(audit_comment = 'event 9999') FROM audit_events").Scan(&rows, &last); err != nil || last != 1 {
		t.Fatalf("%v; the record behind all others has %d rows", err, last)
	}
	dead := p.deadLetters(len(values) - int(rows) - int(p.gauge("auditrail_ingest_duplicates_total")))
	for offset, r := range dead {
		n, err := strconv.Atoi(offset)
		if err != nil || !bytes.Equal(r.Value, values[n]) || headerOf(r, topic.HeaderReason) == "other" {
			t.Errorf("offset %s: the dead letter is not the record, or has no reason: %v", offset, r.Headers)
		}
	}
	if rows < 50 || len(dead) < 50 { // the random ones are of both kinds
		t.Errorf("%d rows and %d dead letters", rows, len(dead))
	}
}

func TestABatchThatUnpacksToTooMuchIsPassedOver(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	p.produce(pm, 0, event(1))
	bomber, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Second),
		kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer bomber.Close()
	zeros := bytes.Repeat([]byte("0"), int(decompressBytes)/3)
	for range 2 { // two of them, of four records each
		if err := bomber.ProduceSync(t.Context(), &kgo.Record{Topic: pm, Value: zeros}, &kgo.Record{Topic: pm, Value: zeros}, &kgo.Record{Topic: pm, Value: zeros}, &kgo.Record{Topic: pm, Value: zeros}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p.produce(pm, 0, event(2))
	p.stored(2)
	p.committed()
	dead := p.deadLetters(2)
	for last, span := range map[string]string{"4": "1-4", "8": "5-8"} {
		r := dead[last]
		if r == nil || headerOf(r, topic.HeaderReason) != topic.ReasonPacked || headerOf(r, topic.HeaderBatch) != span {
			t.Fatalf("offset %s: got %v", last, dead)
		}
		var batch kmsg.RecordBatch
		if err := batch.ReadFrom(r.Value); err != nil || batch.NumRecords != 4 || len(r.Value) != int(batch.Length)+batchHeader {
			t.Errorf("the value is no whole batch of four: %d records in %d bytes, %v", batch.NumRecords, len(r.Value), err)
		}
	}
	if said := p.readyz(); strings.Contains(said, "failing") {
		t.Errorf("/readyz says %q", said)
	}
}

// Partitions that are paused for their memory come across such batches, too.
func TestBatchesThatUnpackToTooMuchAmongMany(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.cfg.Limits.Memory = 1 << 20
	bomber, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer bomber.Close()
	const rounds, each = 4, 2000
	zeros := bytes.Repeat([]byte("0"), int(decompressBytes)+1)
	n := 0
	for range rounds {
		values := make([][]byte, each)
		for i := range values {
			values[i] = event(n)
			n++
		}
		p.produce(pm, 0, values...)
		if err := bomber.ProduceSync(t.Context(), &kgo.Record{Topic: pm, Value: zeros}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p.start()
	p.stored(rounds * each)
	p.committed()
	if dead := p.deadLetters(rounds); len(dead) != rounds {
		t.Errorf("%d dead letters, want %d", len(dead), rounds)
	}
}

func TestAGroupWithoutOffsetsGoesOnAfterWhatIsStored(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	stop := p.start()
	for i := range 50 {
		p.produce(pm, int32(i%2), event(i))
	}
	p.stored(50)
	p.committed()
	stop()
	p.cfg.Group = "another-group"
	p.produce(pm, 0, event(50))
	p.start()
	p.stored(51)
	p.committed()
}

func TestATopicMadeAnewIsStoredFromItsBeginning(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.start()
	for i := range 20 {
		p.produce(pm, 0, event(i))
	}
	p.stored(20)
	before := p.topicID(pm)
	if _, err := p.admin.DeleteTopic(t.Context(), pm); err != nil {
		t.Fatal(err)
	}
	p.until("the topic to go", func() (bool, string) {
		ids, err := topic.IDs(t.Context(), p.kafka)
		_, there := ids[pm]
		return err == nil && !there, fmt.Sprint(err)
	})
	p.until("the topic to be made anew", func() (bool, string) {
		_, err := topic.Ensure(t.Context(), p.kafka, topic.Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: 1000 * time.Hour}.Specs())
		return err == nil && p.topicID(pm) != before, fmt.Sprint(err)
	})
	fresh, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	p.kafka = fresh
	for i := range 10 {
		p.produce(pm, 0, event(100+i))
	}
	p.produce("audit.events.vm.v1", 0, event(200, func(e *audit.Event) { e.ModuleCode = "VM" }))
	p.stored(31)
}

func TestTopicsOfOthersDoNotStopTheService(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	if _, err := p.admin.CreateTopic(t.Context(), 1, 1, nil, "audit.events."+strings.Repeat("a", 40)+".v1"); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.produce(pm, 0, event(1))
	p.stored(1)
	// A module's topic that is found later and is configured wrongly stands
	// still, visibly, and nobody's event is misjudged.
	wrong := "audit.events.zz.v1"
	if _, err := p.admin.CreateTopic(t.Context(), 1, 1, nil, wrong); err != nil {
		t.Fatal(err)
	}
	p.produce(wrong, 0, event(2, func(e *audit.Event) { e.ModuleCode = "ZZ" }))
	p.until("/readyz to name the topic", func() (bool, string) {
		said := p.readyz()
		return strings.Contains(said, wrong+"/0") && strings.Contains(said, "LogAppendTime"), said
	})
	p.produce(pm, 0, event(3))
	p.stored(2)
}

func TestForeignCommitMetadataStopsItsPartitionAlone(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: pm, Partition: 0, At: 0, LeaderEpoch: -1, Metadata: "somebody's note"})
	if err := p.admin.CommitAllOffsets(t.Context(), p.cfg.Group, os); err != nil {
		t.Fatal(err)
	}
	p.produce(pm, 0, event(1))
	p.produce(pm, 1, event(2))
	p.start()
	p.stored(1)
	p.until("/readyz to name the partition", func() (bool, string) {
		said := p.readyz()
		return strings.Contains(said, pm+"/0") && strings.Contains(said, "somebody's note"), said
	})
}

func TestSeveralServersAreRefused(t *testing.T) {
	t.Parallel()
	cfg := Config{Store: store.Config{Addr: []string{"127.0.0.1:1", "127.0.0.1:2"}}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "2 servers") {
		t.Errorf("got %v", err)
	}
}
