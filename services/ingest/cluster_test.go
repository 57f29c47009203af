package ingest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestClusterLosesABrokerAndAnotherSleeps: three brokers, topics with three
// replicas. The leader of a partition is killed in the middle of the flow; when
// it is back, another broker sleeps for longer than the cluster waits for it.
// Producers and ingest move to the new leaders, and what was acknowledged is
// stored once.
func TestClusterLosesABrokerAndAnotherSleeps(t *testing.T) {
	t.Parallel()
	cluster := testenv.KafkaCluster(t, 3)
	p := newPipelineOn(t, cluster.Config(), 3, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.start()

	f := p.flow()
	f.atLeast(1000)
	killed := p.leader(cluster, pm, 0)
	cluster.Kill(killed)
	f.more(1000) // by the others
	if err := cluster.Start(killed); err != nil {
		t.Fatal(err)
	}
	p.inSync(pm, 3)

	asleep := p.leader(cluster, pm, 1)
	cluster.Pause(asleep)
	p.until("another leader than the broker that sleeps", func() (bool, string) {
		now := p.leader(cluster, pm, 1)
		return now != asleep, fmt.Sprintf("broker %d", now)
	})
	f.more(1000)
	cluster.Resume(asleep)
	f.more(1000)

	p.stored(uint64(f.end()))
	p.committed()
	p.until("/readyz", func() (bool, string) {
		said := p.readyz()
		return said == "ingest: ok\n", said
	})
}

// brokerPatience is how long the producer waits for a broker before it asks for
// another leader.
const brokerPatience = 2 * time.Second

// flow is a producer that sends event after event, and never gives one up.
type flow struct {
	p     *pipeline
	acked atomic.Int64
	stop  context.CancelFunc
	sent  sync.WaitGroup
	err   atomic.Pointer[error]
}

// flow starts one, over both partitions.
func (p *pipeline) flow() *flow {
	p.t.Helper()
	cl, err := kafka.Open(p.t.Context(), p.cfg.Kafka, zaptest.NewLogger(p.t), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1),
		kgo.ProduceRequestTimeout(brokerPatience), kgo.RequestTimeoutOverhead(brokerPatience)) // a broker that sleeps answers nobody
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cl.Close)
	ctx, stop := context.WithCancel(p.t.Context())
	f := &flow{p: p, stop: stop}
	f.sent.Go(func() {
		every := time.NewTicker(time.Millisecond)
		defer every.Stop()
		for n := 0; ; n++ {
			select {
			case <-every.C:
			case <-ctx.Done():
				return
			}
			f.sent.Add(1)
			cl.Produce(context.Background(), &kgo.Record{Topic: pm, Partition: int32(n % 2), Value: event(n)}, func(_ *kgo.Record, err error) {
				defer f.sent.Done()
				if err != nil {
					f.err.CompareAndSwap(nil, &err)
					return
				}
				f.acked.Add(1)
			})
		}
	})
	return f
}

// more waits until n more events are acknowledged.
func (f *flow) more(n int64) { f.atLeast(f.acked.Load() + n) }

// atLeast waits until n events are acknowledged.
func (f *flow) atLeast(n int64) {
	f.p.t.Helper()
	f.p.until(fmt.Sprintf("%d acknowledged events", n), func() (bool, string) {
		got := f.acked.Load()
		return got >= n, fmt.Sprint(got)
	})
}

// end stops it, and returns how many events were acknowledged: all.
func (f *flow) end() int64 {
	f.p.t.Helper()
	f.stop()
	f.sent.Wait()
	if err := f.err.Load(); err != nil {
		f.p.t.Fatalf("the producer gave an event up: %v", *err)
	}
	return f.acked.Load()
}

// leader is the number of the broker that leads a partition, -1 for none.
func (p *pipeline) leader(c *testenv.Cluster, name string, partition int32) int {
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	topics, err := p.admin.ListTopics(ctx, name)
	if err != nil {
		return -1
	}
	return c.Broker(topics[name].Partitions[partition].Leader)
}

// inSync waits until n replicas of each partition of a topic are.
func (p *pipeline) inSync(name string, n int) {
	p.t.Helper()
	p.until(fmt.Sprintf("%d replicas in sync", n), func() (bool, string) {
		topics, err := p.admin.ListTopics(p.t.Context(), name)
		if err != nil {
			return false, err.Error()
		}
		for _, d := range topics[name].Partitions {
			if len(d.ISR) < n {
				return false, fmt.Sprintf("%v of partition %d", d.ISR, d.Partition)
			}
		}
		return true, ""
	})
}
