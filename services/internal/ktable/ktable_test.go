package ktable

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const deadline = 60 * time.Second

type object struct {
	Number int    `json:"number"`
	Word   string `json:"word,omitempty"`
}

// newTopic makes the table's topic and returns a client of the test's own.
func newTopic(t *testing.T, at kafka.Config) *kgo.Client {
	t.Helper()
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t), kgo.DefaultProduceTopic(topic.Settings))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ensure(t, cl)
	return cl
}

func ensure(t *testing.T, cl *kgo.Client) {
	t.Helper()
	specs := topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()
	if _, err := topic.Ensure(t.Context(), cl, specs); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, at kafka.Config) *Table[object] {
	t.Helper()
	table, err := Open[object](t.Context(), at, topic.Settings, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(table.Close))
	return table
}

func put(t *testing.T, table *Table[object], key string, n int) {
	t.Helper()
	if err := table.Put(t.Context(), key, object{Number: n}); err != nil {
		t.Fatal(err)
	}
}

// holds fails the test unless a Get finds want, nil for nothing.
func holds(t *testing.T, table *Table[object], key string, want *object) {
	t.Helper()
	got, ok, err := table.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ok != (want != nil) || ok && got != *want {
		t.Errorf("%s: got %v, %v, want %v", key, got, ok, want)
	}
}

func TestTwoTablesSeeEachOther(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	newTopic(t, at)
	a, b := open(t, at), open(t, at)
	holds(t, a, "k", nil)
	changed, stop := b.Watch()
	defer stop()
	for n := range 20 {
		put(t, a, "k", n)
		if got, ok := a.Peek("k"); !ok || got.Number != n {
			t.Fatalf("a Put that returned is not read back: %v, %v", got, ok)
		}
		testenv.Until(t, deadline, nil, "the other table to have it", func() (bool, string) {
			got, ok := b.Peek("k")
			return ok && got.Number == n, fmt.Sprint(got, ok)
		})
		select {
		case <-changed:
		default:
			t.Fatal("the other table changed without a signal")
		}
	}
	// A key that memory does not have is waited for.
	for n := range 20 {
		key := fmt.Sprint("new-", n)
		put(t, b, key, n)
		holds(t, a, key, &object{Number: n})
	}
	if err := a.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	holds(t, a, "k", nil)
	testenv.Until(t, deadline, nil, "the deletion", func() (bool, string) {
		got, ok := b.Peek("k")
		return !ok, fmt.Sprint(got)
	})
	if n := len(b.List()); n != 20 {
		t.Errorf("List has %d keys, want 20", n)
	}
}

func TestANewTableReadsAll(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl := newTopic(t, at)
	const keys = 5000
	want := map[string]object{}
	for round := range 3 { // the first two are replaced
		records := make([]*kgo.Record, keys)
		for i := range records {
			o := object{Number: round*keys + i, Word: strings.Repeat("x", i%100)}
			key := fmt.Sprint("key-", i)
			want[key] = o
			records[i] = &kgo.Record{Key: []byte(key), Value: fmt.Appendf(nil, `{"number":%d,"word":%q,"unknown":1}`, o.Number, o.Word)}
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	// Neither a deletion nor what cannot be read leaves the value before.
	for _, r := range []*kgo.Record{{Key: []byte("key-0")}, {Key: []byte("key-1"), Value: []byte("not JSON")}} {
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	delete(want, "key-0")
	delete(want, "key-1")
	got := map[string]object{}
	for key, e := range open(t, at).List() {
		got[key] = e.Value
		if age := time.Since(e.At); age < -time.Minute || age > deadline {
			t.Fatalf("%s is %s old", key, age)
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%.2000s", diff)
	}
}

// TestWhatCannotBeReadIsAbsent in a table that had the value before, too: one
// that starts after compaction has nothing to keep.
func TestWhatCannotBeReadIsAbsent(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl := newTopic(t, at)
	table := open(t, at)
	put(t, table, "k", 1)
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte(`{"number":"one"}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	put(t, table, "after", 1)
	holds(t, table, "k", nil)
	holds(t, open(t, at), "k", nil)
}

// TestTransactionsOfOthers: their markers are records, too, what they aborted is
// none, and one under way holds nobody up who opens the table.
func TestTransactionsOfOthers(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	newTopic(t, at)
	running := open(t, at)
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t), kgo.DefaultProduceTopic(topic.Settings), kgo.TransactionalID("another"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	write := func(n int) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: fmt.Appendf(nil, `{"number":%d}`, n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(commit kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	end(kgo.TryCommit)
	holds(t, open(t, at), "k", &object{Number: 1})
	write(2)
	holds(t, open(t, at), "k", &object{Number: 1})
	end(kgo.TryAbort)
	put(t, running, "after", 1)
	for _, table := range []*Table[object]{running, open(t, at)} {
		holds(t, table, "k", &object{Number: 1})
	}
}

func TestATopicMadeAnewIsAnEmptyTable(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl := newTopic(t, at)
	table := open(t, at)
	for n := range 10 {
		put(t, table, "old", n)
	}
	if _, err := kadm.NewClient(cl).DeleteTopics(t.Context(), topic.Settings); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, deadline, nil, "the topic to go", func() (bool, string) {
		ids, err := topic.IDs(t.Context(), cl)
		_, there := ids[topic.Settings]
		return err == nil && !there, fmt.Sprint(err)
	})
	// What was read stays; what is not known is not denied.
	if got, ok := table.Peek("old"); !ok || got.Number != 9 {
		t.Errorf("got %v, %v while the topic is gone, want what was read", got, ok)
	}
	if _, _, err := table.Get(t.Context(), "other"); !errors.Is(err, ErrBehind) {
		t.Errorf("got %v, want %v", err, ErrBehind)
	}
	ensure(t, cl)
	testenv.Until(t, deadline, nil, "the table to be empty", func() (bool, string) {
		list := table.List()
		return len(list) == 0, fmt.Sprint(list)
	})
	put(t, table, "new", 1)
	holds(t, open(t, at), "new", &object{Number: 1})
	holds(t, table, "old", nil)
}

// TestATopicThatWasAwayForLongTakesWrites: the reader has given it up meanwhile,
// so nothing but its id tells that it is another one.
func TestATopicThatWasAwayForLongTakesWrites(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl := newTopic(t, at)
	core, logs := observer.New(zap.WarnLevel)
	table, err := Open[object](t.Context(), at, topic.Settings, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	put(t, table, "old", 1) // the producer knows the topic
	if _, err := kadm.NewClient(cl).DeleteTopics(t.Context(), topic.Settings); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, deadline, nil, "the reader to miss the topic", func() (bool, string) {
		for _, e := range logs.All() {
			if err, ok := e.ContextMap()["error"].(string); ok && strings.Contains(err, "is missing") {
				return true, ""
			}
		}
		return false, fmt.Sprint(logs.Len(), " warnings")
	})
	ensure(t, cl)
	testenv.Until(t, deadline, nil, "a Put to work again", func() (bool, string) {
		err := table.Put(t.Context(), "new", object{Number: 1})
		return err == nil, fmt.Sprint(err)
	})
	holds(t, open(t, at), "new", &object{Number: 1})
}

// stoppable is a broker that the test ends and starts again at its address.
type stoppable struct {
	t   *testing.T
	cfg broker.Config
	b   *broker.Broker
}

func newStoppable(t *testing.T) *stoppable {
	t.Helper()
	if testenv.OnApacheKafka() {
		t.Skip("ends its broker in the middle, which only the embedded one can")
	}
	s := &stoppable{t: t, cfg: broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: time.Hour}}
	s.start()
	s.cfg.Addr = s.b.Addr()
	t.Cleanup(func() { s.b.Close() })
	return s
}

func (s *stoppable) start() {
	s.t.Helper()
	var err error
	if s.b, err = broker.Start(context.Background(), s.cfg, broker.Deps{Log: zaptest.NewLogger(s.t)}); err != nil {
		s.t.Fatal(err)
	}
}

func TestWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	s := newStoppable(t)
	at := kafka.Config{Addr: []string{s.cfg.Addr}}
	newTopic(t, at)
	table := open(t, at)
	put(t, table, "k", 1)
	s.b.Close()

	if got, ok, err := table.Get(t.Context(), "k"); !ok || err != nil || got.Number != 1 {
		t.Errorf("got %v, %v, %v, want what memory holds", got, ok, err)
	}
	if _, _, err := table.Get(t.Context(), "other"); !errors.Is(err, ErrBehind) {
		t.Errorf("a key that is not in memory: got %v, want %v", err, ErrBehind)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // putTimeout would do, later
	defer cancel()
	if err := table.Put(ctx, "k", object{Number: 2}); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("a Put: got %v, want %v", err, ErrUnconfirmed)
	}

	s.start()
	testenv.Until(t, deadline, nil, "a Put to work again", func() (bool, string) {
		err := table.Put(t.Context(), "k", object{Number: 3})
		return err == nil, fmt.Sprint(err)
	})
	holds(t, open(t, at), "k", &object{Number: 3})
}

// TestPutsWhileTheBrokerRestarts: what was confirmed is there, and what is there
// was put.
func TestPutsWhileTheBrokerRestarts(t *testing.T) {
	t.Parallel()
	s := newStoppable(t)
	at := kafka.Config{Addr: []string{s.cfg.Addr}}
	newTopic(t, at)
	table := open(t, at)
	confirmed, tried := make(chan int, 1), 0
	restarted := make(chan struct{})
	go func() {
		defer close(confirmed)
		last := 0
		for after := 0; after < 20; {
			select {
			case <-restarted:
				after++
			default:
			}
			tried++
			err := table.Put(t.Context(), "k", object{Number: tried})
			switch {
			case err == nil:
				last = tried
			case !errors.Is(err, ErrUnconfirmed):
				t.Errorf("put %d: got %v, want a confirmation or %v", tried, err, ErrUnconfirmed)
			}
		}
		confirmed <- last
	}()
	for range 3 {
		before, _ := table.Peek("k")
		testenv.Until(t, deadline, nil, "a Put to land", func() (bool, string) {
			now, _ := table.Peek("k")
			return now.Number > before.Number, fmt.Sprint(now)
		})
		s.b.Close()
		s.start()
	}
	close(restarted)
	last := <-confirmed
	got, ok, err := open(t, at).Get(t.Context(), "k")
	if err != nil || !ok || got.Number < last || got.Number > tried {
		t.Errorf("got %v, %v, %v; want %d, which was confirmed, to %d, which was tried", got, ok, err, last, tried)
	}
}

// TestAPutThatLandedAndIsReportedLost: the record is in Kafka, and its writer
// was told nothing. Every table finds it, and the repetition changes nothing.
func TestAPutThatLandedAndIsReportedLost(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	newTopic(t, at)
	a, b := open(t, at), open(t, at)
	// The reader has ended, so that nothing is ever read back.
	a.stop()
	<-a.ended
	if err := a.Put(t.Context(), "k", object{Number: 1}); !errors.Is(err, ErrUnconfirmed) {
		t.Fatalf("got %v, want %v", err, ErrUnconfirmed)
	}
	holds(t, b, "k", &object{Number: 1})
	put(t, b, "k", 1)
	holds(t, open(t, at), "k", &object{Number: 1})
}

func TestWhatIsRefusedIsNotInDoubt(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	newTopic(t, at)
	table := open(t, at)
	if err := table.Put(t.Context(), "k", object{Word: strings.Repeat("x", 4<<20)}); err == nil || errors.Is(err, ErrUnconfirmed) {
		t.Errorf("got %v, want a refusal", err)
	}
	holds(t, table, "k", nil)
}

func TestOpenSaysWhatToDo(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	fails := func(want string) {
		t.Helper()
		if _, err := Open[object](t.Context(), at, topic.Settings, zaptest.NewLogger(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	fails("run auditrail migrate")
	cl := newTopic(t, at)
	for _, c := range []struct{ key, wrong, right string }{{"message.timestamp.type", "CreateTime", "LogAppendTime"}, {"cleanup.policy", "delete", "compact"}} {
		alter := func(value string) {
			if _, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: c.key, Value: &value}}, topic.Settings); err != nil {
				t.Fatal(err)
			}
		}
		alter(c.wrong)
		fails("it must be " + c.right)
		alter(c.right)
	}
}

// TestRecordsThatAreGoneAreNotWaitedFor: an operator deleted all records.
func TestRecordsThatAreGoneAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl := newTopic(t, at)
	put(t, open(t, at), "k", 1)
	var all kadm.Offsets
	all.Add(kadm.Offset{Topic: topic.Settings, Partition: 0, At: -1})
	adm := kadm.NewClient(cl)
	if testenv.OnApacheKafka() { // it deletes records of topics with cleanup.policy=delete only
		t.Skip("Apache Kafka deletes no records of compacted topics")
	}
	if _, err := adm.DeleteRecords(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if n := len(open(t, at).List()); n != 0 {
		t.Errorf("got %d keys, want none", n)
	}
}
