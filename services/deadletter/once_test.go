package deadletter

import (
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
