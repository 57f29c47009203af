package ktable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// again is the pause before the topic is read anew after a failure.
	again = time.Second
	// identify is how often the topic is compared with the one that is read:
	// one made anew has another id.
	identify = 5 * time.Second
)

// errAnew tells that the topic that was read is no more.
var errAnew = errors.New("the topic was made anew")

// follow reads the topic from its beginning, again and again should that fail,
// until ctx ends. Meanwhile reads go on from what was read before.
func (t *Table[V]) follow(ctx context.Context) {
	defer close(t.ended)
	for {
		err := t.read(ctx)
		if ctx.Err() != nil {
			return
		}
		t.log.Warn("table is read from its beginning again", zap.Error(err))
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

// read makes the state out of the topic: first apart, until it is as of now,
// then in place, record by record. It returns only with an error.
func (t *Table[V]) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	id, err := t.topicID(ctx)
	if err != nil {
		return err
	}
	end, err := t.end(ctx)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(t.cfg.Options(t.log),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.name: {0: kgo.NewOffset().AtStart()}}),
		// Records that went missing under us: begin again, never skip.
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()),
		// Should somebody write in a transaction: what is aborted is no change,
		// and the marker of its end may be the last record.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	watching := make(chan struct{})
	defer func() { cancel(nil); <-watching }()
	go func() {
		defer close(watching)
		cancel(t.watchID(ctx, id))
	}()

	values, published := map[string]Entry[V]{}, false
	if end == 0 { // nothing to wait for
		t.publish(id, values, 0)
		published = true
	}
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		changes, next := t.decode(fetches)
		switch {
		case next == 0: // no record
		case published:
			t.advance(changes, next)
		default:
			apply(values, changes)
			if next >= end {
				t.publish(id, values, next)
				published = true
			}
		}
	}
}

// change is what one record says of a key: its value, or that it has none.
type change[V any] struct {
	key   string
	entry *Entry[V] // nil: none
}

// decode lists what the fetched records change, and the offset after the last
// of them, 0 when there is none. A value that cannot be read is none: to keep
// the one before would make this process differ from those that start after
// compaction has dropped that. Of a KeptUnread it is the zero value.
func (t *Table[V]) decode(fetches kgo.Fetches) (changes []change[V], next int64) {
	fetches.EachRecord(func(r *kgo.Record) {
		next = r.Offset + 1
		if r.Attrs.IsControl() {
			return
		}
		c := change[V]{key: string(r.Key)}
		if len(r.Value) > 0 {
			e := &Entry[V]{At: r.Timestamp, Offset: r.Offset}
			err := json.Unmarshal(r.Value, &e.Value)
			_, kept := any(e.Value).(KeptUnread)
			switch {
			case err == nil:
				c.entry = e
			case kept:
				e.Value = *new(V) // not half of it
				c.entry = e
				t.log.Error("a record of the table cannot be read; it is kept as it is: update this program, or write the key again", zap.String("key", c.key), zap.Int64("offset", r.Offset), zap.Error(err))
			default:
				t.log.Error("a record of the table cannot be read; its key counts as absent: write the key again", zap.Int64("offset", r.Offset), zap.Error(err))
			}
		}
		changes = append(changes, c)
	})
	return changes, next
}

// apply makes the changes, in their order.
func apply[V any](values map[string]Entry[V], changes []change[V]) {
	for _, c := range changes {
		if c.entry == nil {
			delete(values, c.key)
		} else {
			values[c.key] = *c.entry
		}
	}
}

// publish makes values what readers see, current up to next.
func (t *Table[V]) publish(id uuid.UUID, values map[string]Entry[V], next int64) {
	t.mu.Lock()
	anew := t.id != uuid.Nil && t.id != id
	t.mu.Unlock() // follow alone changes the id
	if anew {
		// A producer that knows the topic by its old id would fail for ever.
		t.write.PurgeTopicsFromProducing(t.name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values, t.id = values, id
	for _, c := range t.taken {
		clear(c.keys)
		c.anew = true
	}
	t.signal(next)
}

// advance makes the changes visible, and tells of them, in one step: who sees
// one has its signal.
func (t *Table[V]) advance(changes []change[V], next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	apply(t.values, changes)
	t.note(changes)
	t.signal(next)
}

// signal tells that values are current up to next; t.mu is held.
func (t *Table[V]) signal(next int64) {
	t.next = next
	close(t.advanced)
	t.advanced = make(chan struct{})
	for c := range t.watchers {
		select {
		case c <- struct{}{}:
		default: // it has a signal that it did not take yet
		}
	}
}

// topicID asks the brokers for the topic's id.
func (t *Table[V]) topicID(ctx context.Context) (uuid.UUID, error) {
	ids, err := topic.IDs(ctx, t.write)
	if err != nil {
		return uuid.Nil, err
	}
	id, ok := ids[t.name]
	if !ok {
		return uuid.Nil, fmt.Errorf("topic %s is missing: run auditrail migrate", t.name)
	}
	return id, nil
}

// watchID returns errAnew once the topic has another id, or ctx's cause. A
// topic that is gone is not another one: what was read stays.
func (t *Table[V]) watchID(ctx context.Context, id uuid.UUID) error {
	every := time.NewTicker(identify)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if now, err := t.topicID(ctx); err == nil && now != id {
			return errAnew
		}
	}
}

// end is the offset after the last record that can be read, 0 when there is
// none: a transaction under way hides those behind its first. Compaction never
// takes the last record, so whoever reads all gets there.
func (t *Table[V]) end(ctx context.Context) (int64, error) {
	ends, err := t.offset(ctx, t.admin.ListCommittedOffsets)
	if err != nil {
		return 0, err
	}
	start, err := t.offset(ctx, t.admin.ListStartOffsets)
	if err != nil || start == ends {
		return 0, err
	}
	return ends, nil
}

func (t *Table[V]) offset(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (int64, error) {
	listed, err := list(ctx, t.name)
	if err != nil {
		return 0, fmt.Errorf("offsets of %s: %w", t.name, err)
	}
	o, ok := listed.Lookup(t.name, 0)
	if !ok {
		return 0, fmt.Errorf("offsets of %s: the broker names none", t.name)
	}
	return o.Offset, o.Err
}
