package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// seedsEnv is how many seeds are run, firstEnv the first of them, else 1.
	seedsEnv = "AUDITRAIL_FAULT_SEEDS"
	firstEnv = "AUDITRAIL_FAULT_FIRST"
	// seedEnv is one seed to run, alone.
	seedEnv = "AUDITRAIL_FAULT_SEED"
	// defaultSeeds fit into go test ./...
	defaultSeeds = 3
)

// corpus are seeds that once found something. They run first, always. To add
// one: run it until it fails (make faults SEED=n), mend, run it some ten times,
// and put it here with a word on what it found. TestAPlanStays holds what a
// seed means.
var corpus = []uint64{}

// planOfSeed1 is for TestAPlanStays.
const planOfSeed1 = "2 replicas, 17 steps, first commit landed, reported lost at 643ms"

// TestCampaign: whatever is killed, paused, cut or refused, and whenever, every
// acknowledged event is stored once, and every acknowledged invalid record is a
// dead letter.
func TestCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("takes about a minute; runs without -short")
	}
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			newCampaign(t, planOf(seed)).run()
		})
	}
}

func seeds(t *testing.T) []uint64 {
	if os.Getenv(seedEnv) != "" {
		return []uint64{number(t, seedEnv, 0)}
	}
	if number(t, seedsEnv, defaultSeeds) == 0 {
		t.Fatalf("%s is 0: at least one seed is needed", seedsEnv)
	}
	all := slices.Clone(corpus)
	first := number(t, firstEnv, 1)
	for seed := first; seed < first+number(t, seedsEnv, defaultSeeds); seed++ {
		if !slices.Contains(all, seed) {
			all = append(all, seed)
		}
	}
	return all
}

// number reads an environment variable, which may be unset or empty.
func number(t *testing.T, env string, otherwise uint64) uint64 {
	s := os.Getenv(env)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// campaign is one seed under way.
type campaign struct {
	t      *testing.T
	plan   plan
	binary string
	dir    string
	began  time.Time

	broker   part
	kafka    *proxy
	engine   engine
	engines  []*proxy   // by replica
	replicas []*replica // and one more, which is held but for replicaJoins
	producer *producer
	conn     driver.Conn // to the engine, past the proxies
	client   *kgo.Client
	admin    *kadm.Client

	mu       sync.Mutex
	timeline []string // guarded by mu
}

const (
	// drainLimit bounds the wait until all is stored once the faults are over.
	drainLimit = 2 * time.Minute
	// slow is how long a campaign takes that is worth a look at its timeline.
	slow  = 45 * time.Second
	group = "auditrail-ingest"
)

// newCampaign starts all parts, with nothing to do yet.
func newCampaign(t *testing.T, p plan) *campaign {
	path, err := auditrail()
	if err != nil {
		t.Fatal(err)
	}
	c := &campaign{t: t, plan: p, binary: path, dir: t.TempDir(), began: time.Now()}
	t.Cleanup(func() {
		if t.Failed() || os.Getenv(seedEnv) != "" || time.Since(c.began) > slow {
			c.tell()
		}
	})
	c.kafka = newProxy(t, kafkaWire{})
	c.startBroker()
	c.engine = engine{testenv.NewEngine(t)}
	if _, err := store.Migrate(t.Context(), c.engine.Config(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if c.conn, err = store.Open(t.Context(), c.engine.Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.conn.Close() })
	at := kafka.Config{Addr: []string{c.kafka.addr()}}
	if c.client, err = kafka.Open(t.Context(), at, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.Close)
	c.admin = kadm.NewClient(c.client)
	topics := topic.Config{Modules: modules, Partitions: 2, Replication: 1, Retention: 365 * 24 * time.Hour}
	if _, err := topic.Ensure(t.Context(), c.client, topics.Specs()); err != nil {
		t.Fatal(err)
	}
	for i := range p.replicas + 1 { // the last one joins for a while, if the plan says so
		c.newReplica(i, i == p.replicas)
	}
	if c.producer, err = newProducer(at, p.eventsSeed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.producer.close)
	return c
}

func (c *campaign) startBroker() {
	if testenv.OnApacheKafka() {
		cluster := testenv.KafkaCluster(c.t, 1, c.kafka.addr())
		c.kafka.aim(cluster.Addr(0))
		c.broker = apacheBroker{cluster}
		return
	}
	b := &embeddedBroker{binary: c.binary, data: filepath.Join(c.dir, "broker"), proxy: c.kafka}
	b.cmd.Log = filepath.Join(c.dir, "broker.log")
	c.t.Cleanup(b.kill)
	if err := b.start(); err != nil {
		c.t.Fatal(err)
	}
	c.broker = b
}

// newReplica makes ingest number i, which is ended with the test. It runs unless
// it is held.
func (c *campaign) newReplica(i int, held bool) {
	p := newProxy(c.t, engineWire{})
	p.aim(c.engine.Addr)
	name := fmt.Sprintf("replica %d", i)
	r := newReplica(name, c.binary, filepath.Join(c.dir, fmt.Sprintf("ingest-%d.log", i)), []string{
		"ingest", "--kafka-addr", c.kafka.addr(), "--clickhouse-addr", p.addr(), "--ingest-group", group,
		"--batch-rows", strconv.Itoa(c.plan.batchRows), "--flush-age", c.plan.flushAge.String(), "--ingest-session-timeout", sessionTimeout.String(),
	}, func(r *replica) { c.note("%s ended by itself and is started again", r.name) })
	if held {
		r.hold()
	}
	ctx, stop := context.WithCancel(context.Background())
	go r.run(ctx)
	c.t.Cleanup(func() { stop(); <-r.done })
	c.replicas, c.engines = append(c.replicas, r), append(c.engines, p)
}

// note writes a line of the timeline.
func (c *campaign) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeline = append(c.timeline, fmt.Sprintf("%8.3fs  ", time.Since(c.began).Seconds())+fmt.Sprintf(format, args...))
}

// tell shows what a campaign leaves to look at that failed, was slow or alone.
func (c *campaign) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Logf("seed %d; again: make faults SEED=%d\n%s", c.plan.seed, c.plan.seed, strings.Join(c.timeline, "\n"))
	for _, r := range c.replicas {
		c.t.Logf("the end of the log of %s:\n%s", r.name, words(c.t, r.cmd.Log, 40))
	}
}

// run goes through the plan, lets everything settle, and checks.
func (c *campaign) run() {
	c.began = time.Now()
	c.note("%d replicas, --batch-rows %d, --flush-age %s, %d records a second", c.plan.replicas, c.plan.batchRows, c.plan.flushAge, c.plan.perSecond)
	ctx, stop := context.WithCancel(c.t.Context())
	defer stop()
	producing := make(chan struct{})
	go func() {
		defer close(producing)
		sending, cancel := context.WithTimeout(ctx, beginsBefore+time.Second)
		defer cancel()
		c.producer.run(sending, c.plan.perSecond)
	}()
	type victim struct {
		target  target
		replica int
	}
	steps := map[victim][]step{} // a victim meets its steps one after the other
	for _, s := range c.plan.steps {
		v := victim{s.befalls(), s.replica}
		steps[v] = append(steps[v], s)
	}
	var wg sync.WaitGroup
	for _, list := range steps {
		wg.Go(func() {
			for _, s := range list {
				c.wait(s.at - time.Since(c.began))
				c.meet(s)
			}
		})
	}
	wg.Wait()
	<-producing
	c.kafka.calm()
	for _, p := range c.engines {
		p.calm()
	}
	c.note("the faults are over")
	c.check()
}

// wait waits; a negative time is over.
func (c *campaign) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

// meet does one step and returns when it is over.
func (c *campaign) meet(s step) {
	c.note("%s", s)
	var err error
	switch s.fault {
	case ingestKilled:
		c.stopReplica(s, syscall.SIGKILL)
	case ingestRestarted:
		c.stopReplica(s, syscall.SIGTERM)
	case ingestPaused, ingestZombie:
		cmd := &c.replicas[s.replica].cmd
		cmd.Pause()
		c.wait(s.lasts)
		cmd.Resume()
	case engineKilled:
		err = c.restart(c.engine, s)
	case enginePaused:
		c.pause(c.engine, s)
	case brokerKilled:
		err = c.restart(c.broker, s)
	case brokerPaused:
		c.pause(c.broker, s)
	case producerKilled:
		err = c.producer.kill()
	case engineReset:
		c.engines[s.replica].reset()
	case kafkaReset:
		c.kafka.reset()
	case engineStalled:
		c.during(c.engines[s.replica].stall(), s)
	case kafkaStalled:
		c.during(c.kafka.stall(), s)
	case engineCut:
		c.during(c.engines[s.replica].refuse(), s)
	case kafkaCut:
		c.during(c.kafka.refuse(), s)
	case insertLost:
		c.engines[s.replica].arm(blow{"insert", lost})
	case insertLanded:
		c.engines[s.replica].arm(blow{"insert", landed})
	case refusedNoMemory:
		c.engines[s.replica].arm(blow{"insert", starved})
	case commitLost:
		c.kafka.arm(blow{"commit", lost})
	case commitLanded:
		c.kafka.arm(blow{"commit", landed})
	case produceLost:
		c.kafka.arm(blow{"produce", lost})
	case produceLanded:
		c.kafka.arm(blow{"produce", landed})
	case refusedParts:
		c.refuseInserts(s, "ALTER TABLE audit_events MODIFY SETTING parts_to_throw_insert = 1", "ALTER TABLE audit_events RESET SETTING parts_to_throw_insert")
	case refusedReadOnly:
		c.refuseInserts(s, "ALTER TABLE audit_events MODIFY SETTING table_readonly = 1", "ALTER TABLE audit_events RESET SETTING table_readonly")
	case refusedNoTable:
		c.refuseInserts(s, "DETACH TABLE audit_events", "ATTACH TABLE IF NOT EXISTS audit_events")
	case replicaJoins:
		c.joinAndLeave(s)
	default:
		err = fmt.Errorf("nobody knows how to do %q", s.fault)
	}
	if err != nil {
		c.t.Errorf("%s: %v", s, err)
	}
	if s.lasts > 0 {
		c.note("over: %s", s)
	}
}

func (c *campaign) during(end func(), s step) {
	c.wait(s.lasts)
	end()
}

func (c *campaign) pause(p part, s step) {
	p.pause()
	c.wait(s.lasts)
	p.resume()
}

func (c *campaign) restart(p part, s step) error {
	p.kill()
	c.wait(s.lasts)
	return p.start()
}

// stopReplica ends a replica with a signal and lets it start again.
func (c *campaign) stopReplica(s step, sig syscall.Signal) {
	r := c.replicas[s.replica]
	r.hold()
	r.cmd.Signal(sig)
	<-r.cmd.Ended()
	c.wait(s.lasts)
	r.release()
}

// joinAndLeave has one more replica for a while.
func (c *campaign) joinAndLeave(s step) {
	r := c.replicas[c.plan.replicas]
	r.release()
	c.wait(s.lasts)
	r.hold()
	r.cmd.Signal(syscall.SIGTERM)
	<-r.cmd.Ended()
}

// refuseInserts has the engine refuse inserts, in its own words. What does not
// work, since the engine is away, is repeated.
func (c *campaign) refuseInserts(s step, begin, end string) {
	c.execUntilDone(begin)
	c.wait(s.lasts)
	c.execUntilDone(end)
}

func (c *campaign) execUntilDone(sql string) {
	for limit := time.Now().Add(startLimit); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := c.conn.Exec(ctx, sql)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			c.t.Errorf("%s: %v", sql, err)
			return
		}
		c.wait(lookEvery)
	}
}
