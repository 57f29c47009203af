// Package ktable keeps control state in compacted Kafka topics: settings,
// limits, jobs. A table is a topic of one partition whose newest record of a
// key is that key's value, as JSON; a record without a value deletes the key.
// Every process holds the whole table in memory and follows the topic, so
// reads are cheap, and all replicas see a write within a second. The last
// writer wins.
package ktable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// openTimeout bounds the first reading of the whole table.
	openTimeout = 30 * time.Second
	// putTimeout bounds a write until it is read back.
	putTimeout = 10 * time.Second
	// freshTimeout bounds the wait for what the topic holds now.
	freshTimeout = 5 * time.Second
	// missWait bounds what a Get waits for a key that is not there.
	missWait = time.Second
	// sampleEvery is how often what goes on failing is logged.
	sampleEvery = 10 * time.Second
)

var (
	// ErrUnconfirmed tells that a write was not read back in time: it may have
	// taken effect, or still take it. Whoever repeats it looks first.
	ErrUnconfirmed = errors.New("the write is not confirmed: it may or may not take effect")
	// ErrBehind tells that a key is not in memory, and that Kafka does not say
	// whether the table has it.
	ErrBehind = errors.New("the table could not be read to its end")
)

// Entry is a key's value, and when it was written: by the record's timestamp,
// and by its place among all records of the table.
type Entry[V any] struct {
	Value  V
	At     time.Time
	Offset int64
}

// KeptUnread is a type of values of which one that cannot be read, of a newer
// version or damaged, is in the table as the zero value. Without it, its key
// counts as absent.
type KeptUnread interface{ KeptUnread() }

// Table is a topic's state. V's JSON form is what the topic holds. Values are
// shared: whoever gets one does not change what it points to. Safe for
// concurrent use.
type Table[V any] struct {
	name  string
	cfg   kafka.Config
	log   *zap.Logger
	write *kgo.Client
	admin *kadm.Client
	stop  context.CancelFunc
	ended chan struct{} // closed when the reader is over

	mu       sync.Mutex
	values   map[string]Entry[V]        // guarded by mu
	fresh    time.Time                  // memory has all that was written before; guarded by mu
	id       uuid.UUID                  // of the topic that values are of; guarded by mu
	next     int64                      // offset up to which values are current; guarded by mu
	advanced chan struct{}              // closed and made anew when next moves; guarded by mu
	watchers map[chan struct{}]struct{} // guarded by mu
	taken    []*Changes[V]              // guarded by mu
}

func sampled(c zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(c, sampleEvery, 1, 0)
}

// Open reads the table to its end as of now, and follows it until Close. It
// returns an error that says what to do when the topic is missing or not
// configured as a table, and when it cannot be read within 30 s.
func Open[V any](ctx context.Context, cfg kafka.Config, name string, log *zap.Logger) (*Table[V], error) {
	cl, err := kafka.Open(ctx, cfg, log,
		kgo.DefaultProduceTopic(name), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		// A Put ends in time, whatever Kafka does; its fate is then unknown.
		kgo.RecordDeliveryTimeout(putTimeout), kgo.AllowIdempotentProduceCancellation(),
	)
	if err != nil {
		return nil, err
	}
	if err := topic.CheckOne(ctx, cl, name); err != nil {
		cl.Close()
		return nil, err
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // Close cancels it
	t := &Table[V]{
		name: name, cfg: cfg, log: log.With(zap.String("topic", name)).WithOptions(zap.WrapCore(sampled)), write: cl, admin: kadm.NewClient(cl),
		stop: stop, ended: make(chan struct{}),
		advanced: make(chan struct{}), watchers: map[chan struct{}]struct{}{},
	}
	go t.follow(following)
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := t.catchUp(ctx); err != nil {
		t.Close()
		return nil, fmt.Errorf("read table %s: %w", name, err)
	}
	return t, nil
}

// Close ends the reader. A Put under way fails.
func (t *Table[V]) Close() {
	t.stop()
	<-t.ended
	t.write.Close()
}

// Peek returns what memory holds of a key. It never waits.
func (t *Table[V]) Peek(key string) (V, bool) {
	e, ok := t.PeekEntry(key)
	return e.Value, ok
}

// PeekEntry is Peek, with the time of the value.
func (t *Table[V]) PeekEntry(key string) (Entry[V], bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.values[key]
	return e, ok
}

// Get returns the value of a key. When memory has none it waits, 1 s at most,
// until it has read what the topic holds by now, and only then says that there
// is none. The error wraps ErrBehind when that could not be told.
func (t *Table[V]) Get(ctx context.Context, key string) (value V, ok bool, err error) {
	if v, ok := t.Peek(key); ok {
		return v, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, missWait)
	defer cancel()
	if err := t.catchUp(ctx); err != nil {
		return value, false, fmt.Errorf("look up %q in %s: %w: %w", key, t.name, ErrBehind, err)
	}
	value, ok = t.Peek(key)
	return value, ok, nil
}

// List copies what memory holds: every key and its value.
func (t *Table[V]) List() map[string]Entry[V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.values)
}

// Watch returns a channel that has a signal whenever the table changed since
// the last one was taken; changes in between are one signal. The caller calls
// stop when it looks no more.
func (t *Table[V]) Watch() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers[c] = struct{}{}
	return c, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watchers, c)
	}
}

// Put writes a key's value and returns once this table has read it back, 10 s
// at most. An error that wraps ErrUnconfirmed leaves open whether it was
// written; any other says that it was not.
func (t *Table[V]) Put(ctx context.Context, key string, value V) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("put %q into %s: %w", key, t.name, err)
	}
	return t.put(ctx, key, raw)
}

// Delete removes a key, as Put writes one.
func (t *Table[V]) Delete(ctx context.Context, key string) error { return t.put(ctx, key, nil) }

func (t *Table[V]) put(ctx context.Context, key string, raw []byte) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	r, err := t.write.ProduceSync(ctx, &kgo.Record{Key: []byte(key), Value: raw}).First()
	if refused(err) {
		return fmt.Errorf("put %q into %s: %w", key, t.name, err)
	}
	if err == nil {
		// If we die before it is read back, the record stays: whoever opens
		// the table finds it.
		err = t.readBack(ctx, r.Offset)
	}
	if err != nil {
		return fmt.Errorf("put %q into %s: %w, look before you repeat it: %w", key, t.name, ErrUnconfirmed, err)
	}
	return nil
}

// refused says that a record was not written and never will be: any other
// failure leaves that open.
func refused(err error) bool {
	for _, never := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.PolicyViolation,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	} {
		if errors.Is(err, never) {
			return true
		}
	}
	return false
}

func (t *Table[V]) readBack(ctx context.Context, offset int64) error {
	id, err := t.topicID(ctx)
	if err != nil {
		return err
	}
	return t.await(ctx, id, offset+1)
}

// await returns nil once memory has what the topic of that id holds before
// offset.
func (t *Table[V]) await(ctx context.Context, id uuid.UUID, offset int64) error {
	for {
		t.mu.Lock()
		there, advanced := t.id == id && t.next >= offset, t.advanced
		t.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-advanced:
		case <-t.ended:
			return errors.New("the table is closed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Fresh returns nil once memory has all that the topic held at some moment
// within the last age: at once when it is known to, else as soon as it has read
// what the topic holds now, or with the error that kept it from that.
func (t *Table[V]) Fresh(ctx context.Context, age time.Duration) error {
	t.mu.Lock()
	fresh := age > 0 && time.Since(t.fresh) < age
	t.mu.Unlock()
	if fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	if err := t.catchUp(ctx); err != nil {
		return fmt.Errorf("read %s: %w: %w", t.name, ErrBehind, err)
	}
	return nil
}

// catchUp waits until memory has what the topic holds at the time of the call.
func (t *Table[V]) catchUp(ctx context.Context) error {
	began := time.Now() // before the topic is asked for its end
	id, err := t.topicID(ctx)
	if err != nil {
		return err
	}
	end, err := t.end(ctx)
	if err != nil {
		return err
	}
	if err := t.await(ctx, id, end); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if began.After(t.fresh) {
		t.fresh = began
	}
	return nil
}
