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
		if errors.Is(err, errAnew) {
			// A producer that knows the topic by its old id would fail for ever.
			t.write.PurgeTopicsFromProducing(t.name)
		}
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

	values, next := map[string]V{}, int64(0)
	if end == 0 { // nothing to wait for
		t.publish(id, values, next)
	}
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		t.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			t.apply(values, r)
			next = r.Offset + 1
		})
		t.mu.Unlock()
		if next >= end {
			t.publish(id, values, next)
		}
	}
}

// apply changes one key; t.mu is held, since values may be published. A value
// that cannot be read leaves the one before.
func (t *Table[V]) apply(values map[string]V, r *kgo.Record) {
	if len(r.Value) == 0 {
		delete(values, string(r.Key))
		return
	}
	var v V
	if err := json.Unmarshal(r.Value, &v); err != nil {
		t.log.Error("a record of the table cannot be read; the key keeps the value before it", zap.Int64("offset", r.Offset), zap.Error(err))
		return
	}
	values[string(r.Key)] = v
}

// publish makes values what readers see, current up to next.
func (t *Table[V]) publish(id uuid.UUID, values map[string]V, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values, t.id, t.next = values, id, next
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

// end is the offset after the last record, 0 when there is none. Compaction
// never takes the last record, so whoever reads all gets there.
func (t *Table[V]) end(ctx context.Context) (int64, error) {
	ends, err := t.offset(ctx, t.admin.ListEndOffsets)
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
