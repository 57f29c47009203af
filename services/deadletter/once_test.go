package deadletter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// However often a dead letter is redriven, its event is stored once: when we
// died between the record and its marker, when a run is repeated, and when the
// event has no id of its own.
func TestRedrivenTwiceStoredOnce(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	stop := e.ingest(b, 1)
	noID := func(e *audit.Event) { e.ID = "" }
	e.produce(
		&kgo.Record{Topic: pm, Key: []byte("customer-1"), Value: event(1, daysAgo(3))},
		&kgo.Record{Topic: pm, Key: []byte("customer-2"), Value: event(2, daysAgo(3), noID)},
		&kgo.Record{Topic: pm, Partition: 1, Key: []byte("customer-3"), Value: event(3, daysAgo(3), noID)},
	)
	e.open(3)
	e.settled()
	stop()
	stop = e.ingest(b, 400)

	// A run that died before it could write its markers.
	for _, r := range e.deadLetters() {
		l, _ := parse(r)
		e.produce(l.record())
	}
	b.stored(3)
	// The next run, and one that sends again what was sent.
	for _, again := range []bool{false, true} {
		if said, err := e.redrive(func(c *RedriveConfig) { c.All, c.IncludeRedriven = true, again }); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	// A record behind them shows when they are through.
	e.produce(&kgo.Record{Topic: pm, Value: event(4)}, &kgo.Record{Topic: pm, Partition: 1, Value: event(5)})
	b.stored(5)
	e.settled()
	stop()
	b.stored(5)
}

// Copies of a record without a key, produced one by one by several runs, wait
// for ingest together: they stand on one partition, so that one lane sees all.
func TestCopiesWithoutAKeyAreStoredOnce(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	const n, copies = 20, 3
	stop := e.ingest(b, 1)
	for i := range n {
		e.produce(&kgo.Record{Topic: pm, Partition: int32(i % 2), Value: event(i, daysAgo(3), func(e *audit.Event) {
			if i%4 < 2 {
				e.ID = ""
			}
		})})
	}
	e.open(n)
	e.settled()
	stop()
	for range copies {
		if said, err := e.redrive(func(c *RedriveConfig) { c.All, c.IncludeRedriven = true, true }); err != nil || !strings.Contains(said, fmt.Sprintf("%d sent", n)) {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	at := map[string]map[int32]int{}
	used := map[int32]bool{}
	for _, r := range e.records(pm) {
		if first := headerOf(r, audit.HeaderRedriven); first != "" {
			if at[first] == nil {
				at[first] = map[int32]int{}
			}
			at[first][r.Partition]++
			used[r.Partition] = true
		}
	}
	if len(at) != n || len(used) != 2 {
		t.Errorf("%d records were redriven to %d partitions, want %d to 2", len(at), len(used), n)
	}
	for first, partitions := range at {
		if len(partitions) != 1 {
			t.Errorf("the copies of %s are on partitions %v", first, partitions)
		}
	}
	stop = e.ingest(b, 400)
	b.stored(n)
	e.settled()
	stop()
	b.stored(n)
}

// A redriven record with a key goes where the SDK sends that customer's events.
func TestKeysGoWhereTheSDKSendsThem(t *testing.T) {
	t.Parallel()
	const partitions = 7
	sdk, ours := kgo.StickyKeyPartitioner(nil).ForTopic(pm), samePlace().ForTopic(pm)
	for i := range 100 {
		r := &kgo.Record{Topic: pm, Key: []byte(strings.Repeat("k", i))}
		if got, want := ours.Partition(r, partitions), sdk.Partition(r, partitions); got != want {
			t.Errorf("key %q goes to %d, the SDK's to %d", r.Key, got, want)
		}
	}
}

// deadLetters reads the letters of the dead-letter topic, without its markers.
func (e *env) deadLetters() (letters []*kgo.Record) {
	e.t.Helper()
	for _, r := range e.records(topic.DeadLetter) {
		if l, _ := parse(r); l != nil {
			letters = append(letters, r)
		}
	}
	return letters
}
