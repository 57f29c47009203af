package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/topic"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// layout is how events are spread over topics.
type layout struct {
	name       string
	modules    []string // one topic each
	partitions int32    // of each topic
}

// layouts are those that the product promises its speed for: one busy topic,
// and all modules of the workload with the default partitions.
func layouts() []layout {
	return []layout{
		{name: "1 topic", modules: []string{"VM"}, partitions: 8},
		{name: "20 topics", modules: workload.Modules(), partitions: 2},
	}
}

// topics of the layout, by name.
func (l layout) topics() []string {
	var names []string
	for _, m := range l.modules {
		names = append(names, audit.Topic(m))
	}
	return names
}

// adapt makes an event one of the layout's.
func (l layout) adapt(e *audit.Event) {
	if len(l.modules) == 1 {
		e.ModuleCode = l.modules[0]
	}
}

// keepAll is a retention that drops nothing, whatever the events' clock.
const keepAll = 100 * 365 * 24 * time.Hour

// startBroker runs a broker with the layout's topics in it.
func startBroker(ctx context.Context, dir string, l layout) (*child, error) {
	c, err := startChild(childSpec{Broker: &broker.Config{Addr: anyPort, DataDir: dir, RetentionBytes: 1 << 40, Retention: keepAll}})
	if err != nil {
		return nil, err
	}
	cl, err := kafka.Open(ctx, kafkaAt(c), zap.NewNop())
	if err == nil {
		defer cl.Close()
		cfg := topic.Config{Modules: l.modules, Partitions: l.partitions, Replication: 1, Retention: keepAll}
		_, err = topic.Ensure(ctx, cl, cfg.Specs())
	}
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

func kafkaAt(broker *child) kafka.Config { return kafka.Config{Addr: []string{broker.addr}} }

// preload writes n events of the workload to the layout's topics: keyed by
// customer, in LZ4 batches of up to 1 MB.
func preload(ctx context.Context, at kafka.Config, l layout, w workload.Config, n int) error {
	gen, err := workload.New(w)
	if err != nil {
		return err
	}
	cl, err := kafka.Open(ctx, at, zap.NewNop(),
		kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(50_000), kgo.ProducerBatchMaxBytes(1<<20),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var e audit.Event
	for range n {
		gen.Next(&e)
		l.adapt(&e)
		value, err := e.AppendJSON(nil)
		if err != nil {
			return err
		}
		r := &kgo.Record{Topic: audit.Topic(e.ModuleCode), Key: []byte(e.CustomerUUID), Value: value}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				fail(fmt.Errorf("write the events: %w", err))
			}
		})
	}
	return errors.Join(cl.Flush(ctx), context.Cause(ctx))
}
