// Package ingest carries audit events, and the states of API calls, from Kafka
// into ClickHouse: every one once. One lane a partition decodes, validates and batches; a batch is named
// in Kafka before it is inserted, and inserted under a token made of that
// name, so that no crash, retry or rebalance loses a record or stores it
// twice. The argument stands, step by step, in lane.store.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/bytesize"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Config of the ingest service. Its tags are flags; see auditrail --help.
type Config struct {
	Kafka         kafka.Config `embed:""`
	Store         store.Config `embed:""`
	Limits        Limits       `embed:""`
	Group         string       `name:"ingest-group" help:"Kafka consumer group." default:"auditrail-ingest"`
	RetentionDays uint16       `help:"Days an event is kept after it happened, unless its subscription chose otherwise; older ones are refused, whatever it chose." default:"400"`
	// RetentionDelay of zero acts on a choice at once: what is deleted does not come back.
	RetentionDelay time.Duration `help:"How long a subscription's choice of days must have stood before it counts: until then a wrong one can be taken back." default:"10m"`
	// SessionTimeout is how long the group waits for a replica that went silent
	// before it hands its partitions to others. Zero means 10 s. Brokers refuse
	// less than 6 s unless they are told otherwise.
	SessionTimeout time.Duration `name:"ingest-session-timeout" help:"Silence after which a replica's partitions go to others; Kafka takes 6s at least." default:"10s"`
}

// Limits trade memory, freshness and the number of parts against each other.
type Limits struct {
	BatchRows        int            `help:"Records in a batch, at most." default:"100000"`
	BatchBytes       bytesize.Bytes `help:"Bytes of records in a batch, at most." default:"8MiB"`
	FlushAge         time.Duration  `help:"Age at which a batch is inserted even if it is small." default:"250ms"`
	InsertsPerSecond float64        `help:"Inserts a second, all partitions together. When more are due, small batches wait and grow." default:"40"`
	Memory           bytesize.Bytes `name:"ingest-memory" help:"Bytes of records held at a time, from fetch to insert." default:"96MiB"`
	Connections      int            `name:"insert-connections" help:"Inserts under way at a time." default:"4"`
	LookUpFirst      int            `help:"Records of a partition that are all compared with the table when a process takes it over, because it has not seen what came before. Later ones are when their id was seen lately, or when a header says that they are sent again." default:"2000"`
}

// HeapLimit is what the Go heap of a process should stay below that does nothing
// but ingest, in bytes: beside the records there are the columns made of them,
// what is being sent, and what the garbage collector has not found yet. For
// debug.SetMemoryLimit.
func (l Limits) HeapLimit() int64 { return 2*int64(l.Memory) + 160<<20 }

// Validate names the first wrong value.
func (c Config) Validate() error {
	switch l := c.Limits; {
	case len(c.Store.Addr) > 1:
		// An insert whose answer was lost would be repeated on a server that
		// knows no token.
		return fmt.Errorf("--clickhouse-addr names %d servers; ingest writes to one: name one", len(c.Store.Addr))
	case l.BatchRows < 1:
		return fmt.Errorf("--batch-rows must be at least 1, not %d", l.BatchRows)
	case l.BatchBytes < audit.MaxRecordBytes:
		return fmt.Errorf("--batch-bytes must hold a record of %s, not %s", bytesize.Bytes(audit.MaxRecordBytes), l.BatchBytes)
	case l.FlushAge <= 0:
		return fmt.Errorf("--flush-age must be above 0, not %s", l.FlushAge)
	case l.InsertsPerSecond <= 0:
		return fmt.Errorf("--inserts-per-second must be above 0, not %g", l.InsertsPerSecond)
	case l.Memory < 1<<20:
		return fmt.Errorf("--ingest-memory must be at least 1MiB, not %s", l.Memory)
	case l.Connections < 1:
		return fmt.Errorf("--insert-connections must be at least 1, not %d", l.Connections)
	case l.LookUpFirst < 0:
		return fmt.Errorf("--look-up-first must be 0 or more, not %d", l.LookUpFirst)
	case c.RetentionDays < settings.MinRetentionDays || c.RetentionDays > settings.MaxRetentionDays:
		return fmt.Errorf("--retention-days must be between %d and %d, not %d", settings.MinRetentionDays, settings.MaxRetentionDays, c.RetentionDays)
	case c.RetentionDelay < 0:
		return fmt.Errorf("--retention-delay must be 0 or more, not %s", c.RetentionDelay)
	case c.SessionTimeout < 0:
		return fmt.Errorf("--ingest-session-timeout must be above 0, not %s", c.SessionTimeout)
	}
	return nil
}

func (c Config) session() time.Duration {
	if c.SessionTimeout == 0 {
		return sessionTimeout
	}
	return c.SessionTimeout
}

// Deps of the ingest service.
type Deps struct {
	Log *zap.Logger
	Ops *ops.Ops
}

const (
	// sessionTimeout is Config.SessionTimeout's default.
	sessionTimeout = 10 * time.Second
	// heartbeats is how many a replica sends in a session.
	heartbeats = 3
	// drainTimeout bounds the last writes of a lane when it is stopped or its
	// partition moves.
	drainTimeout = 10 * time.Second
	// rebalanceTimeout is how long a rebalance waits for a replica to join: for
	// its drain, and as long again. Meanwhile nobody ingests.
	rebalanceTimeout = 2 * drainTimeout
	// pollRecords bounds what one poll hands out, so that the memory budget is
	// looked at often.
	pollRecords = 20_000
	// recoveryRecords is what a poll may take for a recovery without regard to
	// the memory budget.
	recoveryRecords = 1000
	// fetchBytes and fetchPartitionBytes bound what the client buffers ahead
	// of the budget.
	fetchBytes          = 4 << 20
	fetchPartitionBytes = 1 << 20
	// fetchWait is how long a broker may hold a fetch that finds nothing. A
	// partition that is resumed meanwhile waits for its end.
	fetchWait = 100 * time.Millisecond
	// repeatEvery is how often a failure that goes on is logged; it is counted
	// every time.
	repeatEvery = 10 * time.Second
	// decompressBytes bounds one batch of Kafka unpacked: a bomb becomes a dead
	// letter. Producers fill batches to a megabyte or so before they pack them.
	decompressBytes bytesize.Bytes = 16 << 20
	// topicRefresh is how soon the topic of a new module is noticed.
	topicRefresh = 10 * time.Second
)

// ingest is the state of one running service.
type ingest struct {
	cfg      Config
	maxAge   time.Duration
	log      *zap.Logger
	repeats  *zap.Logger // for what goes wrong again and again: one line in repeatEvery
	store    driver.Conn // for reads; rows go through inserter
	client   *kgo.Client
	admin    *kadm.Client
	settings settings.Table
	inserter *inserter
	commits  *committer
	herald   *announcer
	budget   *budget
	inserts  *rate.Limiter
	metrics  *metrics
	health   *health
	recent   *recent
	events   *stream
	calls    *stream
	ready    chan struct{}           // closed once all of this is filled in: the client's callbacks come early
	running  context.Context         // ends when the service begins to stop
	fail     context.CancelCauseFunc // ends running with an error

	recovering atomic.Int32 // lanes that make an insert in doubt again

	mu      sync.Mutex
	lanes   map[partitionID]*lane     // guarded by mu
	stood   map[partitionID]*ages     // of lanes that stopped by themselves, for the metrics; guarded by mu
	paused  map[partitionID]bool      // guarded by mu
	resumed map[partitionID]time.Time // since when, and silent since; guarded by mu
	starts  map[partitionID]int64     // where to begin without a usable commit; guarded by mu
}

// partitionID names a partition of a topic.
type partitionID struct {
	topic     string
	partition int32
}

func (p partitionID) String() string { return p.topic + "/" + strconv.Itoa(int(p.partition)) }

// Run ingests until ctx ends, then writes and commits what is at hand, 10 s at
// most, and returns nil. It refuses to start on a schema that is too old.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	err := run(ctx, cfg, deps)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil // asked to stop while still starting
	}
	return err
}

func run(ctx context.Context, cfg Config, deps Deps) error {
	conn, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only reads went through it
	if err := store.CheckSchema(ctx, conn); err != nil {
		return err
	}
	chosen, err := settings.Open(ctx, cfg.Kafka, deps.Log)
	if err != nil {
		return err
	}
	defer chosen.Close()

	in := newIngest(cfg, deps, conn)
	for _, s := range []*stream{in.events, in.calls} {
		if err := s.dropProbes(ctx, conn); err != nil {
			return err
		}
	}
	in.settings = chosen
	in.running, in.fail = context.WithCancelCause(ctx)
	defer in.fail(nil)
	in.client, err = kafka.Open(ctx, cfg.Kafka, deps.Log,
		kgo.ConsumerGroup(cfg.Group),
		kgo.ConsumeTopics(topic.EventsPattern, topic.APICallsPattern), kgo.ConsumeRegex(), kgo.MetadataMaxAge(topicRefresh),
		// Eager and classic: only there does a captured generation fence.
		kgo.Balancers(kgo.StickyBalancer()), kgo.SessionTimeout(cfg.session()), kgo.HeartbeatInterval(cfg.session()/heartbeats), kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.DisableAutoCommit(),
		// Records are handed to lanes within the assignment they were fetched
		// in: a late hand-over could give a new lane records out of order.
		kgo.BlockRebalanceOnPoll(),
		// A new group begins at the beginning. An offset that Kafka no longer
		// has is a loss to shout about, never a silent jump.
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartitionBytes), kgo.MaxConcurrentFetches(2),
		kgo.FetchMaxWait(fetchWait),
		kgo.MaxDecompressBatchBytes(int(decompressBytes)), kgo.WithPools(new(fetchPool)),
		kgo.AdjustFetchOffsetsFn(in.adjust),
		kgo.OnPartitionsAssigned(in.assigned), kgo.OnPartitionsRevoked(in.revoked), kgo.OnPartitionsLost(in.lostPartitions),
		// Dead letters may be written twice; a stop must not wait for Kafka.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProducerBatchMaxBytes(topic.MaxDeadLetterBytes), kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
	)
	if err != nil {
		return err
	}
	in.admin = kadm.NewClient(in.client)
	in.commits = newCommitter(in.client, cfg.Group)
	in.herald.client = in.client
	if err := topic.Check(ctx, in.client); err != nil {
		in.fail(err)
		in.client.CloseAllowingRebalance()
		return err
	}
	close(in.ready)
	deps.Ops.Ready("ingest", in.health.check)

	// The commit loop outlives ctx: the drain commits through it.
	commits, stopCommits := context.WithCancel(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	loops.Go(func() { in.commits.run(commits) })
	loops.Go(func() { in.keepRetention(in.running) })
	loops.Go(func() { in.herald.run(commits) })
	loops.Go(func() { in.watchKafka(in.running) })
	deps.Log.Info("ingest is ready", zap.String("group", cfg.Group))
	in.poll(in.running)
	in.endAll()
	in.client.CloseAllowingRebalance()
	stopCommits()
	loops.Wait()
	in.inserter.close()
	deps.Log.Info("ingest has stopped")
	if err := context.Cause(in.running); ctx.Err() == nil {
		return err
	}
	return nil
}

// newIngest makes the parts that need no broker.
func newIngest(cfg Config, deps Deps, conn driver.Conn) *ingest {
	b := newBudget(int64(cfg.Limits.Memory))
	in := &ingest{
		cfg: cfg, log: deps.Log, store: conn,
		repeats: deps.Log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(c, repeatEvery, 1, 0)
		})),
		maxAge:   time.Duration(cfg.RetentionDays) * 24 * time.Hour,
		inserter: newInserter(cfg.Store, cfg.Limits.Connections),
		budget:   b,
		inserts:  rate.NewLimiter(rate.Limit(cfg.Limits.InsertsPerSecond), max(1, int(cfg.Limits.InsertsPerSecond))),
		metrics:  newMetrics(deps.Ops.Registry, b),
		health:   newHealth(),
		recent:   newRecent(),
		events:   newEvents(),
		calls:    newCalls(),
		ready:    make(chan struct{}),
		lanes:    map[partitionID]*lane{},
		stood:    map[partitionID]*ages{},
		paused:   map[partitionID]bool{},
		resumed:  map[partitionID]time.Time{},
		starts:   map[partitionID]int64{},
	}
	in.herald = newAnnouncer(in.repeats, in.metrics.unannounced)
	deps.Ops.Registry.MustRegister(in)
	return in
}

// pollSize is how many records to take next: no more than fit the memory budget
// if they are as small as they can be, but for a recovery's.
func (in *ingest) pollSize() int {
	least := int64(1)
	if in.recovering.Load() > 0 {
		least = recoveryRecords
	}
	return int(min(pollRecords, max(least, in.budget.room()/recordOverhead)))
}

// poll hands fetched records to their lanes until ctx ends. While a lane
// recovers it goes on beyond the memory budget: that lane gives nothing back
// before it has its whole range.
func (in *ingest) poll(ctx context.Context) {
	stops, attend := stops{}, false
	for in.budget.wait(ctx, func() bool { return in.recovering.Load() > 0 }) == nil {
		fetches := in.fetch(ctx, attend)
		if ctx.Err() != nil {
			return
		}
		var anew []string
		fetches.EachError(func(t string, p int32, err error) {
			if batch, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
				stops.add(in, batch)
				return
			}
			if !errors.Is(err, context.DeadlineExceeded) && in.fetchError(partitionID{t, p}, err) {
				anew = append(anew, t)
			}
		})
		fetches.EachPartition(in.dispatch)
		attend = stops.attend(ctx, in)
		in.client.AllowRebalance()
		if len(anew) > 0 {
			// The client finds the topic again under its new id.
			in.client.PurgeTopicsFromConsuming(anew...)
		}
	}
}

const (
	// kafkaEvery is how often Kafka is asked whether it is there: nothing else
	// tells while no records come.
	kafkaEvery = 5 * time.Second
	// kafkaTimeout bounds its answer.
	kafkaTimeout = 5 * time.Second
)

// watchKafka shows in the health whether Kafka answers, until ctx ends.
func (in *ingest) watchKafka(ctx context.Context) {
	every := time.NewTicker(kafkaEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		ask, cancel := context.WithTimeout(ctx, kafkaTimeout)
		err := in.client.Ping(ask)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			in.health.failed("kafka", "", err)
		default:
			in.health.ok("kafka", "")
		}
	}
}

// fetch waits for records, and not for long when there is something to attend to.
func (in *ingest) fetch(ctx context.Context, attend bool) kgo.Fetches {
	if attend {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attendEvery)
		defer cancel()
	}
	return in.client.PollRecords(ctx, in.pollSize())
}
