package emit_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// impatient makes the client look again soon, so that tests of outages are
// short.
var impatient = []kgo.Opt{
	kgo.MetadataMinAge(10 * time.Millisecond),
	kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func newCluster(tb testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	tb.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(2, audit.Topic("UM"), audit.Topic("PM"), audit.APICallsTopic)}, opts...)
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cluster.Close)
	return cluster
}

// newEmitter closes with the test, whatever state it is in.
func newEmitter(t *testing.T, cfg emit.Config) *emit.Emitter {
	t.Helper()
	cfg.KafkaOptions = append(impatient[:len(impatient):len(impatient)], cfg.KafkaOptions...)
	em, err := emit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = em.Close(ctx)
	})
	return em
}

func mustEmit(tb testing.TB, sink emit.Sink, e audit.Event) {
	tb.Helper()
	if err := sink.Emit(e); err != nil {
		tb.Fatal(err)
	}
}

func mustEmitCall(tb testing.TB, sink apicall.Sink, c audit.APICall) {
	tb.Helper()
	if err := sink.EmitCall(c); err != nil {
		tb.Fatal(err)
	}
}

func mustFlush(t *testing.T, em *emit.Emitter) {
	t.Helper()
	if err := em.Flush(within(t, patience)); err != nil {
		t.Fatalf("%v; %+v", err, em.Stats())
	}
}

// stored reads everything that the topics hold, without names the modules'.
func stored(t *testing.T, cluster *kfake.Cluster, topics ...string) []*kgo.Record {
	t.Helper()
	if len(topics) == 0 {
		topics = []string{audit.Topic("UM"), audit.Topic("PM")}
	}
	var want int64
	for _, topic := range topics {
		for _, p := range cluster.PartitionInfos(topic) {
			want += p.HighWatermark
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	ctx := within(t, patience)
	for int64(len(records)) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(records), want, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// storedOnce checks that exactly the events with these comments are stored.
func storedOnce(t *testing.T, cluster *kfake.Cluster, comments []string) {
	t.Helper()
	count := map[string]int{}
	for _, r := range stored(t, cluster) {
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		count[e.AuditComment]++
	}
	for _, c := range comments {
		if count[c] != 1 {
			t.Errorf("%q is stored %d times, want once", c, count[c])
		}
		delete(count, c)
	}
	for c, n := range count {
		t.Errorf("%q is stored %d times, and was not emitted", c, n)
	}
}

// emitNumbered emits n events and returns their comments.
func emitNumbered(t *testing.T, sink emit.Sink, prefix string, n int) []string {
	t.Helper()
	comments := make([]string, n)
	for i := range comments {
		e := workload()
		e.AuditComment = fmt.Sprintf("%s %d", prefix, i)
		e.CustomerUUID = fmt.Sprintf("customer-%d", i%7)
		mustEmit(t, sink, e)
		comments[i] = e.AuditComment
	}
	return comments
}

// freeAddress is where nothing listens; a broker may start there later.
func freeAddress(t *testing.T) (addr string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return tcp.String(), tcp.Port
}

// cutting listens like the network and, once armed, cuts a connection in place
// of the next answer to it: the broker has done the work and the client does
// not learn of it.
type cutting struct {
	armed  atomic.Bool
	always atomic.Bool // cuts every answer
	cuts   atomic.Int32
}

func (c *cutting) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return cutListener{l, c}, nil
}

type cutListener struct {
	net.Listener
	c *cutting
}

func (l cutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return cutConn{conn, l.c}, nil
}

type cutConn struct {
	net.Conn
	c *cutting
}

func (conn cutConn) Write(p []byte) (int, error) {
	if conn.c.always.Load() || conn.c.armed.CompareAndSwap(true, false) {
		conn.c.cuts.Add(1)
		_ = conn.Close()
		return 0, net.ErrClosed
	}
	return conn.Conn.Write(p)
}
