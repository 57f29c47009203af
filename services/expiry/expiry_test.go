package expiry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	// deadline bounds every wait; it is only met by a failure.
	deadline = 90 * time.Second
	// lease of the tests.
	lease = 3 * time.Second
)

// calls is a broker of a test's own with the topic of API calls.
type calls struct {
	t     *testing.T
	cfg   Config
	kafka *kgo.Client
	admin *kadm.Client
}

func newCalls(t *testing.T) *calls {
	t.Helper()
	return newCallsOn(t, testenv.Kafka(t))
}

// topics of the tests.
var topics = topic.Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: 365 * 24 * time.Hour}

func newCallsOn(t *testing.T, brokers kafka.Config) *calls {
	t.Helper()
	c := &calls{t: t, cfg: Config{Kafka: brokers, Group: "auditrail-expiry", SessionTimeout: 6 * time.Second, Lease: lease}}
	c.open()
	if _, err := topic.Ensure(t.Context(), c.kafka, topics.Specs()); err != nil {
		t.Fatal(err)
	}
	return c
}

// open makes the clients of the test.
func (c *calls) open() {
	c.t.Helper()
	cl, err := kafka.Open(c.t.Context(), c.cfg.Kafka, zaptest.NewLogger(c.t), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	c.kafka, c.admin = cl, kadm.NewClient(cl)
}

// start runs a replica until stop is called.
func (c *calls) start() (o *ops.Ops, stop func()) {
	c.t.Helper()
	log := zaptest.NewLogger(c.t)
	o = ops.New(log)
	return o, testenv.Run(c.t, deadline, func(ctx context.Context) error { return Run(ctx, c.cfg, Deps{Log: log, Ops: o}) })
}

// record of call n in a state, valid and good for any partition.
func record(n int, state string, edit ...func(*audit.APICall)) *kgo.Record {
	now := time.Now().UnixMilli()
	call := audit.APICall{CallID: callID(n), CustomerUUID: "c", ModuleCode: "PM", API: "api/v1/jobs", State: state, SubmittedDate: now - 1000, UpdatedDate: now, UserUUID: "u", RequestID: fmt.Sprint(n)}
	for _, f := range edit {
		f(&call)
	}
	value, err := call.AppendJSON(nil)
	if err != nil {
		panic(err) // the test's own record
	}
	return &kgo.Record{Topic: audit.APICallsTopic, Partition: int32(n % 2), Key: []byte(call.CallID), Value: value}
}

func callID(n int) string { return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)).String() }

func heartbeat(c *audit.APICall) { c.Heartbeat = true }

func (c *calls) produce(records ...*kgo.Record) {
	c.t.Helper()
	if err := c.kafka.ProduceSync(c.t.Context(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

// told is a record of the topic, decoded.
type told struct {
	audit.APICall
	appended time.Time
	value    []byte
	headers  []kgo.RecordHeader
	at       int32
}

// tells lists what the topic holds, by call, in order.
func (c *calls) tells() map[string][]told {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	all := map[string][]told{}
	for _, r := range testenv.Records(ctx, c.t, c.cfg.Kafka, audit.APICallsTopic) {
		var call audit.APICall
		if err := audit.DecodeAPICall(r.Value, &call); err != nil {
			continue // what a test produced to be refused
		}
		if err := call.Validate(r.Timestamp, 0); err != nil && call.State == audit.StateExpired {
			c.t.Errorf("record %d/%d breaks the contract: %v", r.Partition, r.Offset, err)
		}
		all[call.CallID] = append(all[call.CallID], told{call, r.Timestamp, r.Value, r.Headers, r.Partition})
	}
	return all
}

// expired waits until exactly the calls have Expired records, once each.
func (c *calls) expired(numbers ...int) map[string][]told {
	c.t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, callID(n))
	}
	slices.Sort(want)
	var all map[string][]told
	testenv.Until(c.t, deadline, nil, fmt.Sprintf("calls %v to expire", numbers), func() (bool, string) {
		all = c.tells()
		var got []string
		for id, records := range all {
			for _, r := range records {
				if r.State == audit.StateExpired {
					got = append(got, id)
				}
			}
		}
		slices.Sort(got)
		return len(got) >= len(want), cmp.Diff(got, want)
	})
	c.exactly(all, want)
	return all
}

func (c *calls) exactly(all map[string][]told, want []string) {
	c.t.Helper()
	var got []string
	for id, records := range all {
		for _, r := range records {
			if r.State == audit.StateExpired {
				got = append(got, id)
			}
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(got, want); diff != "" {
		c.t.Fatalf("expired: -got +want:\n%s", diff)
	}
}

// alive sends heartbeats of calls until stop is called. Each call of it says how
// many there were.
func (c *calls) alive(numbers ...int) (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var beating sync.WaitGroup
	beating.Go(func() {
		for ctx.Err() == nil {
			for _, n := range numbers {
				if err := c.kafka.ProduceSync(ctx, record(n, audit.StateRunning, heartbeat)).FirstErr(); err != nil && ctx.Err() == nil {
					c.t.Error(err)
				}
			}
			select {
			case <-time.After(lease / 5):
			case <-ctx.Done():
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); beating.Wait() })
	c.t.Cleanup(stop)
	return stop
}

// TestWhoseProcessDiedExpires: once, at the time that follows from its last sign
// of life. Those that go on, have ended or were never begun do not.
func TestWhoseProcessDiedExpires(t *testing.T) {
	t.Parallel()
	c := newCalls(t)
	o, _ := c.start()
	c.alive(1, 2)
	c.produce(record(1, audit.StateRunning), record(2, audit.StateQueued),
		record(3, audit.StateRunning), record(3, audit.StateRunning, heartbeat),
		record(4, audit.StateQueued, func(c *audit.APICall) { c.SubmittedDate += 12 * 3600_000; c.UpdatedDate = c.SubmittedDate }), // a clock that is ahead
		record(5, audit.StateRunning), record(5, audit.StateFinished), record(6, audit.StateBlockedRate),
		&kgo.Record{Topic: audit.APICallsTopic, Partition: 1, Value: []byte(`no call`)},
		record(7, audit.StateRunning, func(c *audit.APICall) { c.SubmittedDate = 1 }), // refused by ingest
		func() *kgo.Record { // by an operator
			r := record(8, audit.StateRunning)
			r.Headers = []kgo.RecordHeader{{Key: audit.HeaderRedriven, Value: []byte("x/0/0")}}
			return r
		}())
	all := c.expired(3, 4)
	for _, n := range []int{3, 4} {
		rs := all[callID(n)]
		last, got := rs[len(rs)-2], rs[len(rs)-1]
		want := last.APICall
		want.Heartbeat, want.State, want.Reason = false, audit.StateExpired, "nothing was heard of it for 3s: its process may have died"
		want.UpdatedDate = max(last.SubmittedDate, last.appended.Add(lease).UnixMilli())
		if n == 3 {
			want.DurationMs = uint32(want.UpdatedDate - want.SubmittedDate)
		}
		if diff := cmp.Diff(got.APICall, want); diff != "" || got.at != last.at {
			t.Errorf("call %d on partition %d: -got +want:\n%s", n, got.at, diff)
		}
		if early := got.appended.Sub(last.appended); early < lease {
			t.Errorf("call %d expired %s after its last sign of life", n, early)
		}
		if !slices.ContainsFunc(got.headers, func(h kgo.RecordHeader) bool { return h.Key == audit.HeaderResent }) {
			t.Errorf("call %d: ingest will not look whether it has the record", n)
		}
	}
	// They are closed by their own records: the living ones alone are left.
	testenv.Until(t, deadline, nil, "two open calls", func() (bool, string) {
		err := testutil.GatherAndCompare(o.Registry, strings.NewReader(`
# HELP auditrail_expiry_expired_total API calls that became Expired: nothing was heard of them for too long.
# TYPE auditrail_expiry_expired_total counter
auditrail_expiry_expired_total 2
# HELP auditrail_expiry_open_calls API calls of the partition that go on as far as is known.
# TYPE auditrail_expiry_open_calls gauge
auditrail_expiry_open_calls{partition="0"} 1
auditrail_expiry_open_calls{partition="1"} 1
`), "auditrail_expiry_expired_total", "auditrail_expiry_open_calls")
		return err == nil, fmt.Sprint(err)
	})
}

// TestALateEndCorrects: a process that only slept goes on. Its call is not open
// again, does not expire twice, and ends.
func TestALateEndCorrects(t *testing.T) {
	t.Parallel()
	c := newCalls(t)
	_, stop := c.start()
	c.produce(record(1, audit.StateRunning))
	c.expired(1)
	c.produce(record(1, audit.StateRunning, heartbeat))
	stop()
	c.start()                                // another replica knows it, too
	c.produce(record(2, audit.StateRunning)) // expires after the heartbeat would
	c.produce(record(4, audit.StateRunning), record(3, audit.StateRunning), record(3, audit.StateFinished))
	c.expired(1, 2, 4)
	c.produce(record(1, audit.StateFinished))
	c.produce(record(6, audit.StateRunning), record(5, audit.StateRunning))
	all := c.expired(1, 2, 4, 5, 6)
	states := func(n int) (states []string) {
		for _, r := range all[callID(n)] {
			states = append(states, r.State)
		}
		return states
	}
	if diff := cmp.Diff(states(1), []string{audit.StateRunning, audit.StateExpired, audit.StateRunning, audit.StateFinished}); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

// replicaEnv makes the test binary a replica on the brokers that it names.
const replicaEnv = "AUDITRAIL_TEST_EXPIRY"

// TestReplica is no test: it is what TestTakeover kills.
func TestReplica(t *testing.T) {
	addr := os.Getenv(replicaEnv)
	if addr == "" {
		t.Skip("run by TestTakeover")
	}
	log := zaptest.NewLogger(t)
	_ = Run(context.Background(), Config{Kafka: kafka.Config{Addr: strings.Split(addr, ",")}, Group: "auditrail-expiry", SessionTimeout: 6 * time.Second, Lease: lease}, Deps{Log: log, Ops: ops.New(log)})
}

// members waits until the group has so many, and is at rest.
func (c *calls) members(n int) {
	c.t.Helper()
	testenv.Until(c.t, deadline, nil, fmt.Sprintf("%d members", n), func() (bool, string) {
		groups, err := c.admin.DescribeGroups(c.t.Context(), c.cfg.Group)
		if err != nil {
			return false, err.Error()
		}
		g := groups[c.cfg.Group]
		return g.State == "Stable" && len(g.Members) == n, fmt.Sprint(g.State, len(g.Members))
	})
}

// TestTakeover: the first replica is killed while calls are open, in the middle
// of whatever it does. The second misses none and repeats none.
func TestTakeover(t *testing.T) {
	c := newCalls(t)
	t.Setenv(replicaEnv, strings.Join(c.cfg.Kafka.Addr, ","))
	first := &testenv.Command{Log: t.TempDir() + "/replica.log"}
	if err := first.Start(os.Args[0], "-test.run=^TestReplica$"); err != nil {
		t.Fatal(err)
	}
	c.members(1)
	c.alive(100, 101)
	c.produce(record(0, audit.StateRunning), record(1, audit.StateRunning))
	c.expired(0, 1) // it works
	var numbers []int
	for n := 2; n < 40; n++ {
		numbers = append(numbers, n)
		c.produce(record(n, audit.StateRunning))
		if n == 20 { // those before are silent for long by the time others are
			first.Pause()
		}
	}
	first.Kill()
	c.start()
	all := c.expired(append([]int{0, 1}, numbers...)...)
	for _, n := range numbers {
		rs := all[callID(n)]
		if got, want := rs[1].UpdatedDate, rs[0].appended.Add(lease).UnixMilli(); got != want {
			t.Errorf("call %d expired at %d, want %d, whoever writes it", n, got, want)
		}
	}
}

// TestWrittenTwiceIsTheSame: a record that landed and was reported lost, or that
// a replica wrote before it died.
func TestWrittenTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(time.Now().UnixMilli())
	r := record(1, audit.StateRunning)
	r.Timestamp = at
	var values [][]byte
	for i := range 2 {
		s := newPartition()
		s.read(r, at.Add(time.Duration(i)*time.Minute)) // whenever it is read
		end := at.Add(time.Hour + lease)
		for now := at.Add(time.Hour); !now.After(end); now = now.Add(time.Second) {
			s.looked(now, 0, 1, time.Second)
		}
		silent := s.silent(end, lease)
		if len(silent) != 1 {
			t.Fatalf("got %d silent calls, want 1", len(silent))
		}
		written, err := silent[0].ended(1, lease, end)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, written.Value)
		// Read back, it closes the call, and again it changes nothing.
		for offset := int64(1); offset < 3; offset++ {
			written.Offset, written.Timestamp = offset, at
			s.read(written, at.Add(time.Hour))
			if s.silent(at.Add(time.Hour+time.Minute), lease) != nil || len(s.calls) != 1 {
				t.Error("the call is open after its end")
			}
		}
	}
	if !bytes.Equal(values[0], values[1]) {
		t.Errorf("%s\nis not\n%s", values[0], values[1])
	}
}

// TestNothingExpiresWithoutContact, nor right after: heartbeats that waited for
// Kafka get their chance.
func TestNothingExpiresWithoutContact(t *testing.T) {
	t.Parallel()
	at := time.Now()
	s := newPartition()
	const gap = lease / contactsInLease
	sec := func(n float64) time.Time { return at.Add(time.Duration(n * float64(time.Second))) }
	r := record(1, audit.StateRunning)
	r.Timestamp = at
	s.looked(sec(0), 0, 0, gap)
	s.read(r, sec(0.1))
	expect := func(when float64, want int) {
		t.Helper()
		if got := len(s.silent(sec(when), lease)); got != want {
			t.Errorf("at %g s: %d silent calls, want %d", when, got, want)
		}
	}
	for n := 0.5; n <= 1.5; n += 0.5 {
		s.looked(sec(n), 0, 1, gap)
		expect(n, 0)
	}
	// Nothing for a while: the silence is Kafka's.
	expect(60, 0)
	s.looked(sec(60), 0, 1, gap)
	expect(60, 0)
	for n := 60.5; n < 63; n += 0.5 {
		s.looked(sec(n), 0, 1, gap)
		expect(n, 0)
	}
	s.looked(sec(63), 0, 1, gap)
	expect(63, 1)
	// As long as there is more to read, nobody knows.
	s = newPartition()
	s.read(r, sec(0))
	for n := 0.0; n < 60; n += 0.5 {
		s.looked(sec(n), 0, 5, gap)
		expect(n, 0)
	}
}

// TestABrokerThatWasAway for longer than a lease costs no living call its state:
// its heartbeats come with the contact.
func TestABrokerThatWasAway(t *testing.T) {
	t.Parallel()
	if testenv.OnApacheKafka() {
		t.Skip("the outage is made with the embedded broker")
	}
	addr, err := testenv.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	at := broker.Config{Addr: addr, DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: 1000 * time.Hour}
	start := func() *broker.Broker {
		t.Helper()
		b, err := broker.Start(context.Background(), at, broker.Deps{Log: zaptest.NewLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start()
	defer func() { b.Close() }()
	c := newCallsOn(t, kafka.Config{Addr: []string{at.Addr}})
	o, _ := c.start()
	c.members(1)
	stop := c.alive(1, 2)
	defer stop()
	c.produce(record(3, audit.StateRunning)) // dies during the outage
	ready := func() string {
		mux := http.NewServeMux()
		o.Mount(mux)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Body.String()
	}
	b.Close()
	testenv.Until(t, deadline, nil, "/readyz to say so", func() (bool, string) {
		said := ready()
		return strings.Contains(said, "expiry: contact has been failing"), said
	})
	<-time.After(2 * lease) // the outage itself
	b = start()
	testenv.Until(t, deadline, nil, "/readyz to be well", func() (bool, string) {
		said := ready()
		return said == "expiry: ok\n", said
	})
	c.expired(3)
}
