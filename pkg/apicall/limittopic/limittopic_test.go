package limittopic_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/limittopic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

func newCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func newClient(t *testing.T, cluster *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic(apicall.LimitsTopic), kgo.DisableClientMetrics())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func open(t *testing.T, cluster *kfake.Cluster, log *zap.Logger) *limittopic.Limits {
	t.Helper()
	l, err := limittopic.Open(t.Context(), limittopic.Config{Brokers: cluster.ListenAddrs(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(l.Close))
	return l
}

// set writes a record; an empty value deletes the key.
func set(t *testing.T, client *kgo.Client, customer, value string) {
	t.Helper()
	r := &kgo.Record{Key: []byte(customer)}
	if value != "" {
		r.Value = []byte(value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// concurrency is what was set for a customer's calls to "api"; -1 for nothing.
func concurrency(l *limittopic.Limits, customer string) int {
	limit, ok := l.Limit(customer, "api")
	if !ok {
		return -1
	}
	return limit.Concurrency
}

func becomes(t *testing.T, l *limittopic.Limits, customer string, want int) {
	t.Helper()
	for end := time.Now().Add(patience); concurrency(l, customer) != want; {
		if time.Now().After(end) {
			t.Fatalf("customer %q has %d, waited for %d", customer, concurrency(l, customer), want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func is(t *testing.T, l *limittopic.Limits, customer string, want int) {
	t.Helper()
	if got := concurrency(l, customer); got != want {
		t.Errorf("customer %q has %d, want %d", customer, got, want)
	}
}

func TestLimitsAreReadAndFollowed(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, kfake.SeedTopics(1, apicall.LimitsTopic))
	empty := open(t, cluster, nil)
	is(t, empty, "a", -1)
	client := newClient(t, cluster)
	set(t, client, "a", `{"default":{"concurrency":1}}`)
	set(t, client, "a", `{"default":{"concurrency":2},"apis":{"other/*":{"unlimited":true}}}`)
	set(t, client, "b", `{"apis":{"ap*":{"concurrency":3}}}`)
	set(t, client, "c", `{"default":{"concurrency":4}}`)
	set(t, client, "c", "")
	l := open(t, cluster, nil)
	for customer, want := range map[string]int{"a": 2, "b": 3, "c": -1, "d": -1, "": -1} {
		is(t, l, customer, want)
		becomes(t, empty, customer, want)
	}
	if limit, ok := l.Limit("a", "other/1"); !ok || limit != (apicall.Limit{}) {
		t.Errorf("unlimited: %+v, %t", limit, ok)
	}
	set(t, client, "a", "")
	becomes(t, l, "a", -1)
	set(t, client, "b", `{}`)
	becomes(t, l, "b", -1)
	set(t, client, "d", `{"default":{"concurrency":5}}`)
	becomes(t, l, "d", 5)
	l.Close()
	is(t, l, "d", 5)
}

// What one reads that had the value before, and one that starts after compaction
// has dropped it, must be the same.
func TestWhatCannotBeReadIsAbsent(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, kfake.SeedTopics(1, apicall.LimitsTopic))
	client := newClient(t, cluster)
	core, logs := observer.New(zap.ErrorLevel)
	l := open(t, cluster, zap.New(core))
	set(t, client, "a", `{"default":{"concurrency":1}}`)
	becomes(t, l, "a", 1)
	set(t, client, "a", `{"default":{"concurrency":-1}}`)
	becomes(t, l, "a", -1)
	is(t, open(t, cluster, nil), "a", -1)
	if logs.Len() != 1 || logs.All()[0].ContextMap()["offset"] != int64(1) || !strings.Contains(logs.All()[0].ContextMap()["error"].(string), "default.concurrency must be") {
		t.Errorf("logged: %+v", logs.All())
	}
	for _, broken := range []string{`{`, `null`, `[]`, `{"tier":1}`, "\xff"} {
		set(t, client, "b", `{"default":{"concurrency":1}}`)
		becomes(t, l, "b", 1)
		set(t, client, "b", broken)
		becomes(t, l, "b", -1)
	}
}

func TestMarkersOfTransactionsAreNoChange(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, kfake.SeedTopics(1, apicall.LimitsTopic))
	client := newClient(t, cluster, kgo.TransactionalID("another"))
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		value := `{"default":{"concurrency":1}}`
		if end == kgo.TryAbort {
			value = `{"default":{"concurrency":2}}`
		}
		set(t, client, "a", value)
		if err := client.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		is(t, open(t, cluster, nil), "a", 1)
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	t.Parallel()
	bare := newCluster(t)
	two := newCluster(t, kfake.SeedTopics(2, apicall.LimitsTopic))
	for want, brokers := range map[string][]string{
		"no brokers: set Config.Brokers":                                  nil,
		"topic audit.api-limits.v1 is missing: run auditrail migrate":     bare.ListenAddrs(),
		"has 2 partitions and must have one: delete it and run auditrail": two.ListenAddrs(),
	} {
		l, err := limittopic.Open(t.Context(), limittopic.Config{Brokers: brokers})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// Nobody is there.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	l, err := limittopic.Open(ctx, limittopic.Config{Brokers: []string{addr}})
	if err == nil {
		l.Close()
	}
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v, want that %s does not answer", err, addr)
	}
}

func TestATopicMadeAnewIsReadAnew(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, kfake.SeedTopics(1, apicall.LimitsTopic))
	client := newClient(t, cluster)
	core, logs := observer.New(zap.WarnLevel)
	l := open(t, cluster, zap.New(core))
	for range 5 {
		set(t, client, "old", `{"default":{"concurrency":1}}`)
	}
	becomes(t, l, "old", 1)
	admin := kadm.NewClient(client)
	if _, err := admin.DeleteTopics(t.Context(), apicall.LimitsTopic); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); logs.Len() == 0; {
		if time.Now().After(end) {
			t.Fatal("nobody missed the topic")
		}
		<-time.After(5 * time.Millisecond)
	}
	is(t, l, "old", 1)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, apicall.LimitsTopic); err != nil {
		t.Fatal(err)
	}
	fresh := newClient(t, cluster)
	set(t, fresh, "new", `{"default":{"concurrency":2}}`)
	becomes(t, l, "new", 2)
	is(t, l, "old", -1)
}

func TestWhileKafkaIsAwayWhatWasReadCounts(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := newCluster(t, kfake.SeedTopics(1, apicall.LimitsTopic), kfake.DataDir(data))
	_, port, err := net.SplitHostPort(first.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	l := open(t, first, zap.New(core))
	set(t, newClient(t, first), "a", `{"default":{"concurrency":1}}`)
	becomes(t, l, "a", 1)
	first.Close()
	for end := time.Now().Add(patience); logs.Len() == 0; {
		if time.Now().After(end) {
			t.Fatal("nobody missed Kafka")
		}
		<-time.After(5 * time.Millisecond)
	}
	is(t, l, "a", 1)
	second := newCluster(t, kfake.Ports(number), kfake.DataDir(data))
	set(t, newClient(t, second), "b", `{"default":{"concurrency":2}}`)
	becomes(t, l, "b", 2)
	is(t, l, "a", 1)
}

func TestReadersAndChangesAtOnce(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, kfake.SeedTopics(1, apicall.LimitsTopic))
	client := newClient(t, cluster)
	l := open(t, cluster, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := -1; ctx.Err() == nil; {
				now := concurrency(l, "a")
				if now < last {
					t.Errorf("%d after %d", now, last)
					return
				}
				last = now
			}
		})
	}
	for i := 1; i <= 20; i++ {
		set(t, client, "a", `{"default":{"concurrency":`+strings.Repeat("1", 1+i/10)+`}}`)
	}
	becomes(t, l, "a", 111)
	cancel()
	readers.Wait()
}
