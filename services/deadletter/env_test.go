package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// deadline bounds every wait of these tests; it is only met by a failure.
const deadline = 90 * time.Second

const (
	pm = "audit.events.pm.v1"
	vm = "audit.events.vm.v1"
)

// env is a broker of a test's own, with topics.
type env struct {
	t     *testing.T
	kafka kafka.Config
	cl    *kgo.Client
}

func newEnv(t *testing.T) *env {
	t.Helper()
	return newEnvOn(t, testenv.Kafka(t))
}

func newEnvOn(t *testing.T, brokers kafka.Config) *env {
	t.Helper()
	e := &env{t: t, kafka: brokers}
	var err error
	if e.cl, err = kafka.Open(t.Context(), e.kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1<<20)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.cl.Close)
	topics := topic.Config{Modules: []string{"PM", "VM"}, Partitions: 2, Replication: 1, Retention: 365 * 24 * time.Hour}
	if _, err := topic.Ensure(t.Context(), e.cl, topics.Specs()); err != nil {
		t.Fatal(err)
	}
	return e
}

// produce writes records and waits for the broker.
func (e *env) produce(rs ...*kgo.Record) {
	e.t.Helper()
	if err := e.cl.ProduceSync(e.t.Context(), rs...).FirstErr(); err != nil {
		e.t.Fatal(err)
	}
}

// records reads a topic up to its end.
func (e *env) records(name string) []*kgo.Record {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), deadline)
	defer cancel()
	return testenv.Records(ctx, e.t, e.kafka, name)
}

// table is a database with the product's tables.
type table struct {
	t    *testing.T
	cfg  store.Config
	conn driver.Conn
}

func newTable(t *testing.T) *table {
	t.Helper()
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &table{t: t, cfg: cfg, conn: conn}
}

// stored waits until the table has want rows, and fails when it has more.
func (b *table) stored(want uint64) {
	b.t.Helper()
	var rows uint64
	testenv.Until(b.t, deadline, nil, fmt.Sprintf("%d rows", want), func() (bool, string) {
		if err := b.conn.QueryRow(b.t.Context(), "SELECT count() FROM audit_events").Scan(&rows); err != nil {
			return false, err.Error()
		}
		return rows >= want, fmt.Sprintf("%d rows", rows)
	})
	if rows != want {
		b.t.Fatalf("got %d rows, want %d", rows, want)
	}
}

// ingest runs until the returned function is called.
func (e *env) ingest(b *table, retentionDays uint16) (stop func()) {
	e.t.Helper()
	log := zaptest.NewLogger(e.t)
	cfg := ingest.Config{
		Kafka: e.kafka, Store: b.cfg, Group: "auditrail-ingest", RetentionDays: retentionDays,
		Limits: ingest.Limits{BatchRows: 10_000, BatchBytes: 8 << 20, FlushAge: 20 * time.Millisecond, InsertsPerSecond: 1000, Memory: 64 << 20, Connections: 2},
	}
	return testenv.Run(e.t, deadline, func(ctx context.Context) error {
		return ingest.Run(ctx, cfg, ingest.Deps{Log: log, Ops: ops.New(log)})
	})
}

// settled waits until ingest, which must have begun, has committed the end of
// every partition.
func (e *env) settled() {
	e.t.Helper()
	adm := kadm.NewClient(e.cl)
	testenv.Until(e.t, deadline, nil, "offsets to reach the end", func() (bool, string) {
		lags, err := adm.Lag(e.t.Context(), "auditrail-ingest")
		if err != nil {
			return false, err.Error()
		}
		n := lags["auditrail-ingest"].Lag.Total()
		return n == 0, fmt.Sprintf("lag %d", n)
	})
}

// event is a valid event of module PM; edit changes it.
func event(n int, edit ...func(*audit.Event)) []byte {
	e := audit.Event{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)).String(), CustomerUUID: fmt.Sprintf("customer-%d", n), ModuleCode: "PM",
		UserName: "Jack", UserUUID: "u1", Action: "Add", CreatedDate: time.Now().UnixMilli(),
	}
	for _, f := range edit {
		f(&e)
	}
	b, err := e.AppendJSON(nil)
	if err != nil {
		panic(err) // the test's own event
	}
	return b
}

// daysAgo makes an event that old.
func daysAgo(n int) func(*audit.Event) {
	return func(e *audit.Event) { e.CreatedDate = time.Now().AddDate(0, 0, -n).UnixMilli() }
}

// madeLetter is a dead letter as ingest would write it, of a topic that was.
func madeLetter(offset int64, value []byte, more ...kgo.RecordHeader) *kgo.Record {
	id := topic.Position{TopicID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("topic")), Offset: offset}
	headers := []kgo.RecordHeader{
		{Key: topic.HeaderReason, Value: []byte("made-up")}, {Key: topic.HeaderProblem, Value: []byte("a problem")},
		{Key: topic.HeaderTopic, Value: []byte(pm)}, {Key: topic.HeaderTopicID, Value: []byte(id.TopicID.String())},
		{Key: topic.HeaderPartition, Value: []byte("0")}, {Key: topic.HeaderOffset, Value: fmt.Append(nil, offset)},
		{Key: topic.HeaderAppendedAt, Value: fmt.Append(nil, 1_700_000_000_000+offset)},
	}
	return &kgo.Record{Topic: topic.DeadLetter, Key: []byte(id.String()), Value: value, Headers: append(headers, more...)}
}

func (e *env) deps(out, notes *bytes.Buffer) Deps {
	return Deps{Log: zaptest.NewLogger(e.t), Out: out, Notes: notes}
}

// list runs the command and returns its lines, decoded, and what it notes.
func (e *env) list(edit ...func(*ListConfig)) ([]row, string) {
	e.t.Helper()
	cfg := ListConfig{Kafka: e.kafka, Order: "oldest", Limit: 100, Output: "json"}
	for _, f := range edit {
		f(&cfg)
	}
	var out, notes bytes.Buffer
	if err := List(e.t.Context(), cfg, e.deps(&out, &notes)); err != nil {
		e.t.Fatal(err)
	}
	var rows []row
	for d := json.NewDecoder(&out); d.More(); {
		var r row
		if err := d.Decode(&r); err != nil {
			e.t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows, notes.String()
}

// open waits until n dead letters are listed.
func (e *env) open(n int) (rows []row) {
	e.t.Helper()
	testenv.Until(e.t, deadline, nil, fmt.Sprintf("%d open dead letters", n), func() (bool, string) {
		rows, _ = e.list()
		return len(rows) == n, fmt.Sprintf("%+v", rows)
	})
	return rows
}

// reasons of rows, sorted.
func reasons(rows []row) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, r.Reason)
	}
	slices.Sort(out)
	return out
}

// redrive runs the command and returns its summary.
func (e *env) redrive(edit func(*RedriveConfig)) (string, error) {
	e.t.Helper()
	cfg := RedriveConfig{Kafka: e.kafka, RetentionDays: 400}
	edit(&cfg)
	var out, notes bytes.Buffer
	err := Redrive(e.t.Context(), cfg, e.deps(&out, &notes))
	return out.String(), err
}

func all(c *RedriveConfig) { c.All = true }

func headerOf(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
