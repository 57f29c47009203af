package ingest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// member joins the ingest group and consumes nothing. It returns the ownership
// captured at its first assignment, and leaves when leave is called.
func (p *pipeline) member() (owner ownership, leave func()) {
	p.t.Helper()
	assigned := make(chan ownership, 100)
	cl, err := kafka.Open(p.t.Context(), p.cfg.Kafka, zaptest.NewLogger(p.t),
		kgo.ConsumerGroup(p.cfg.Group), kgo.ConsumeTopics(pm), kgo.Balancers(kgo.StickyBalancer()), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, cl *kgo.Client, _ map[string][]int32) {
			m, g := cl.GroupMetadata()
			assigned <- ownership{m, g}
		}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cl.Close)
	select {
	case owner = <-assigned:
	case <-time.After(deadline):
		p.t.Fatal("the member was assigned nothing")
	}
	return owner, cl.Close
}

// TestAZombieLaneCanNeitherCommitNorInsert: a lane goes on after its partition
// moved, because its process slept through the rebalance. The generation it
// captured has passed, so the broker refuses the commit that names its range,
// and without that it does not insert.
func TestAZombieLaneCanNeitherCommitNorInsert(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		gone  bool
		topic string
		value []byte
	}{
		"its generation passed":               {false, pm, event(1)},
		"its member is gone":                  {true, pm, event(1)},
		"its generation passed, of API calls": {false, audit.APICallsTopic, call(1, audit.StateRunning)},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p, gone := newPipeline(t, testenv.ClickHouse(t).Config(), "PM"), c.gone
			p.topic = c.topic
			owner, leave := p.member()
			if gone {
				leave()
			}
			p.start() // the new owner; its joining begins a new generation
			p.until("a new generation", func() (bool, string) {
				g, err := p.admin.DescribeGroups(t.Context(), p.cfg.Group)
				if err != nil {
					return false, err.Error()
				}
				d := g[p.cfg.Group]
				members := 2
				if gone {
					members = 1
				}
				return d.State == "Stable" && len(d.Members) == members, d.State
			})

			log := zaptest.NewLogger(t)
			in := newIngest(p.cfg, Deps{Log: log, Ops: ops.New(log)}, p.conn)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			in.client, in.commits = p.kafka, newCommitter(p.kafka, p.cfg.Group)
			go in.commits.run(ctx)
			zombie := newLane(in, partitionID{p.topic, 0}, in.streamOf(p.topic), p.topicID(p.topic), owner)
			zombie.start(ctx)
			zombie.push([]*kgo.Record{{Topic: p.topic, Partition: 0, Offset: 7, Value: c.value, Timestamp: time.Now()}})
			select {
			case <-zombie.ended:
			case <-time.After(deadline):
				t.Fatal("the zombie goes on")
			}
			if got := testutil.ToFloat64(in.metrics.laneStops.WithLabelValues("moved")); got != 1 {
				t.Errorf("got %v lanes stopped, want 1", got)
			}
			if in.budget.inUse() != 0 {
				t.Errorf("%d bytes of the memory budget are lost", in.budget.inUse())
			}
			var rows uint64
			if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM "+p.stream().table).Scan(&rows); err != nil || rows != 0 {
				t.Errorf("got %d rows, %v; the zombie inserted", rows, err)
			}
			if err := in.commits.commit(ctx, owner, partitionID{p.topic, 0}, 3, marker{topicID: p.topicID(p.topic)}); !errors.Is(err, errNotOwner) {
				t.Errorf("its commit got %v, want a refusal", err)
			}
			offsets, err := p.admin.FetchOffsets(t.Context(), p.cfg.Group)
			if err != nil {
				t.Fatal(err)
			}
			if o, ok := offsets.Lookup(p.topic, 0); ok && o.At > 0 {
				t.Errorf("the zombie's commit moved the offset to %d", o.At)
			}
		})
	}
}
