package ingest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// deadline bounds every wait of these tests; it is only met by a failure.
const deadline = 90 * time.Second

// pipeline is a broker and a database of a test's own, with topics and tables.
type pipeline struct {
	t     testing.TB
	cfg   Config
	ops   *ops.Ops // of the ingest started last
	kafka *kgo.Client
	admin *kadm.Client
	conn  driver.Conn
	topic string // that the crash tests are about
}

// newPipeline prepares broker and database. The config flushes fast.
func newPipeline(t testing.TB, at store.Config, modules ...string) *pipeline {
	t.Helper()
	return newPipelineOn(t, testenv.Kafka(t), 1, at, modules...)
}

// newPipelineOn prepares brokers, whose topics have so many replicas, and database.
func newPipelineOn(t testing.TB, brokers kafka.Config, replication int16, at store.Config, modules ...string) *pipeline {
	t.Helper()
	if _, err := store.Migrate(t.Context(), at, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	cl, err := kafka.Open(t.Context(), brokers, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	topics := topic.Config{Modules: modules, Partitions: 2, Replication: replication, Retention: 365 * 24 * time.Hour}
	if _, err := topic.Ensure(t.Context(), cl, topics.Specs()); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &pipeline{t: t, topic: pm, kafka: cl, admin: kadm.NewClient(cl), conn: conn, cfg: Config{
		Kafka: brokers, Store: at, Group: "auditrail-ingest", RetentionDays: 400,
		Limits: Limits{BatchRows: 10_000, BatchBytes: 8 << 20, FlushAge: 20 * time.Millisecond, InsertsPerSecond: 1000, Memory: 64 << 20, Connections: 2, LookUpFirst: 5000},
	}}
}

// start runs ingest until the returned function is called, which waits for the
// end and fails the test when Run returned an error.
func (p *pipeline) start() (stop func()) {
	p.t.Helper()
	log := zaptest.NewLogger(p.t)
	o := ops.New(log)
	p.ops = o
	return testenv.Run(p.t, deadline, func(ctx context.Context) error { return Run(ctx, p.cfg, Deps{Log: log, Ops: o}) })
}

// event is a valid event of module PM; edit changes it.
func event(n int, edit ...func(*audit.Event)) []byte {
	e := audit.Event{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)).String(), CustomerUUID: fmt.Sprintf("customer-%d", n%3), ModuleCode: "PM",
		UserName: "Jack", UserUUID: "u1", Action: "Add", CreatedDate: time.Now().UnixMilli(), SourceIP: "191.160.45.90", AuditComment: fmt.Sprintf("event %d", n),
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

// produce writes values to a partition and waits for the broker.
func (p *pipeline) produce(topic string, partition int32, values ...[]byte) {
	p.t.Helper()
	rs := make([]*kgo.Record, len(values))
	for i, v := range values {
		rs[i] = &kgo.Record{Topic: topic, Partition: partition, Value: v}
	}
	if err := p.kafka.ProduceSync(p.t.Context(), rs...).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

// stream of p.topic.
func (p *pipeline) stream() *stream { return p.bare().streamOf(p.topic) }

// bare is an ingest without lanes.
func (p *pipeline) bare() *ingest {
	log := zaptest.NewLogger(p.t)
	return newIngest(p.cfg, Deps{Log: log, Ops: ops.New(log)}, p.conn)
}

// stored waits until the table has want rows and fails when their ids are not
// all different.
func (p *pipeline) stored(want uint64) {
	p.t.Helper()
	var rows, ids uint64
	p.until(fmt.Sprintf("%d rows", want), func() (bool, string) {
		if err := p.conn.QueryRow(p.t.Context(), "SELECT count(), uniqExact(customer_uuid, id) FROM "+p.stream().table).Scan(&rows, &ids); err != nil {
			return false, err.Error()
		}
		return rows >= want, fmt.Sprintf("%d rows", rows)
	})
	if rows != want || ids != want {
		p.t.Fatalf("got %d rows with %d ids, want %d of both", rows, ids, want)
	}
}

// committed waits until the group has committed the end of every partition.
func (p *pipeline) committed() {
	p.t.Helper()
	p.until("offsets to reach the end", func() (bool, string) {
		lags, err := p.admin.Lag(p.t.Context(), p.cfg.Group)
		if err != nil {
			return false, err.Error()
		}
		lag := lags[p.cfg.Group].Lag
		return len(lag) > 0 && lag.Total() == 0, fmt.Sprintf("lag %d", lag.Total()) // none before the group has a member
	})
}

func (p *pipeline) until(what string, done func() (bool, string)) {
	p.t.Helper()
	testenv.Until(p.t, deadline, nil, what, done)
}

// readyz is what /readyz of the ingest started last says.
func (p *pipeline) readyz() string {
	mux := http.NewServeMux()
	p.ops.Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	return w.Body.String()
}

// topicID of an event topic.
func (p *pipeline) topicID(name string) uuid.UUID {
	p.t.Helper()
	ids, err := topic.IDs(p.t.Context(), p.kafka)
	if err != nil {
		p.t.Fatal(err)
	}
	return ids[name]
}

// deadLetters reads n records of the dead-letter topic, by source offset.
func (p *pipeline) deadLetters(n int) map[string]*kgo.Record {
	p.t.Helper()
	cl, err := kafka.Open(p.t.Context(), p.cfg.Kafka, zaptest.NewLogger(p.t), kgo.ConsumeTopics(topic.DeadLetter), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	out := map[string]*kgo.Record{}
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			p.t.Fatalf("got %d dead letters, want %d: %v", len(out), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			key := string(r.Key)
			out[key[strings.LastIndex(key, "/")+1:]] = r
		})
	}
	return out
}

func headerOf(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func named(name, value string) driver.NamedValue { return clickhouse.Named(name, value) }
