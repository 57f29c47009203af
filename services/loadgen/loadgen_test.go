package loadgen

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// output is a writer that a test may read while it is written.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// brokers starts a cluster with the topics of those modules.
func brokers(t *testing.T, modules ...string) *kfake.Cluster {
	t.Helper()
	var topics []string
	for _, m := range modules {
		topics = append(topics, audit.Topic(m))
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// consume reads n records of all event topics.
func consume(t *testing.T, cluster *kfake.Cluster, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeRegex(),
		kgo.ConsumeTopics(`^audit\.events\.`), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestRunDeliversEveryEvent(t *testing.T) {
	const count = 3000
	cluster := brokers(t, workload.Modules()...)
	out := &output{}
	before := time.Now().UnixMilli()
	err := Run(t.Context(), Config{
		Kafka: kafka.Config{Addr: cluster.ListenAddrs()}, Count: count, Seed: 1, Tenants: 20, Users: 100, Full: true,
	}, Deps{Log: zaptest.NewLogger(t), Out: out})
	if err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	ids := map[string]bool{}
	for _, r := range consume(t, cluster, count) {
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if err := e.Validate(after, 0); err != nil {
			t.Fatal(err)
		}
		if e.CreatedDate < before || e.CreatedDate > after.UnixMilli() {
			t.Errorf("createdDate %d is not the time of sending", e.CreatedDate)
		}
		if r.Topic != audit.Topic(e.ModuleCode) || string(r.Key) != e.CustomerUUID {
			t.Errorf("topic %s and key %s for module %s and customer %s", r.Topic, r.Key, e.ModuleCode, e.CustomerUUID)
		}
		ids[e.ID] = true
	}
	if len(ids) != count {
		t.Errorf("%d ids, want %d", len(ids), count)
	}
	want := regexp.MustCompile(`(?m)^emitted 3000, delivered 3000, failed 0, took \S+, \d+ events/s$`)
	if !want.MatchString(out.String()) {
		t.Errorf("summary is %q", out.String())
	}
}

func TestRunAsOneModule(t *testing.T) {
	cluster := brokers(t, "VM")
	err := Run(t.Context(), Config{
		Kafka: kafka.Config{Addr: cluster.ListenAddrs()}, Count: 100, Seed: 1, Tenants: 20, Users: 100, Module: "VM",
	}, Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range consume(t, cluster, 100) {
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if e.ModuleCode != "VM" {
			t.Errorf("module %s", e.ModuleCode)
		}
	}
}

func TestRunUntilStopped(t *testing.T) {
	cluster := brokers(t, workload.Modules()...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &output{}
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Kafka: kafka.Config{Addr: cluster.ListenAddrs()}, Rate: 5000, Seed: 1, Tenants: 20, Users: 100,
		}, Deps{Log: zaptest.NewLogger(t), Out: out})
	}()
	consume(t, cluster, 200)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`emitted (\d+), delivered (\d+), failed 0`).FindStringSubmatch(out.String())
	if m == nil || m[1] != m[2] {
		t.Errorf("summary is %q", out.String())
	}
}

func TestRunStopsWhenATopicIsMissing(t *testing.T) {
	cluster := brokers(t, "PM")
	out := &output{}
	err := Run(t.Context(), Config{
		Kafka: kafka.Config{Addr: cluster.ListenAddrs()}, Rate: 100, Seed: 1, Tenants: 20, Users: 100,
	}, Deps{Log: zaptest.NewLogger(t), Out: out})
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Fatalf("got %v, want an error that names the missing topic", err)
	}
	if !strings.Contains(out.String(), "emitted ") {
		t.Errorf("no summary in %q", out.String())
	}
}

func TestRunRefusesABadConfig(t *testing.T) {
	err := Run(t.Context(), Config{Rate: -1}, Deps{Log: zaptest.NewLogger(t)})
	if err == nil || !strings.Contains(err.Error(), "--rate") {
		t.Errorf("got %v, want an error with --rate", err)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{}
		start := time.Now()
		r := newReporter(out, func() emit.Stats {
			n := 500 * int64(time.Since(start)/time.Second)
			return emit.Stats{Emitted: n, Delivered: n - 7, Failed: 0, BufferedEvents: 7}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r.run(ctx)
		r.summary()
		want := strings.Join([]string{
			"1000 events, 500 events/s, 7 buffered",
			"2000 events, 500 events/s, 7 buffered",
			"emitted 2500, delivered 2493, failed 0, took 5s, 499 events/s",
			"",
		}, "\n")
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
