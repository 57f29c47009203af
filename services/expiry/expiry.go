// Package expiry ends API calls whose process died: a call of which nothing was
// heard for apicall.LeaseTimeout becomes Expired. It is a consumer group on the
// topic of API calls; whoever owns a partition knows the calls of it that go on.
//
// Nothing is kept but an offset. Records are self-contained, and the group's
// committed offset is that of the oldest record that is some call's last, so
// whoever takes over reads from there what the owner before knew. Heartbeats
// keep it close to the end, and a durable call, which may be silent for days, is
// none that anybody waits for. The commit names the topic that the offset is of: one
// that was made anew is read from its start. What an Expired record says follows from the call's
// last record and the time at which the broker appended that: whoever writes it,
// however often, writes the same, and ingest stores it once.
package expiry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Config of the expirer. Its tags are flags; see auditrail --help.
type Config struct {
	Kafka kafka.Config `kong:"-"` // the process's own
	Group string       `name:"expiry-group" help:"Kafka consumer group that ends API calls whose process died." default:"auditrail-expiry"`
	// SessionTimeout is how long the group waits for a replica that went silent
	// before it hands its partitions to others. Zero means 10 s, the most that is
	// allowed: calls that died meanwhile wait for it.
	SessionTimeout time.Duration `name:"expiry-session-timeout" help:"Silence after which a replica's partitions go to others, 10s at most; Kafka takes 6s at least." default:"10s"`
	// Lease is the silence after which a call counts as dead. Zero means
	// apicall.LeaseTimeout, by which everybody goes; only tests say otherwise.
	Lease time.Duration `kong:"-"`
}

// Validate names the first wrong value.
func (c Config) Validate() error {
	switch {
	case c.Group == "":
		return errors.New("--expiry-group must not be empty")
	case c.SessionTimeout < 0 || c.SessionTimeout > maxSession:
		return fmt.Errorf("--expiry-session-timeout must be above 0 and at most %s, not %s", maxSession, c.SessionTimeout)
	}
	return nil
}

// maxSession is Config.SessionTimeout's default and its most.
const maxSession = 10 * time.Second

func (c Config) session() time.Duration {
	if c.SessionTimeout == 0 {
		return maxSession
	}
	return c.SessionTimeout
}

func (c Config) lease() time.Duration {
	if c.Lease == 0 {
		return apicall.LeaseTimeout
	}
	return c.Lease
}

// Deps of the expirer.
type Deps struct {
	Log *zap.Logger
	Ops *ops.Ops
}

const (
	// heartbeats is how many a replica sends in a session.
	heartbeats = 3
	// rebalanceTimeout bounds how long a rebalance waits for a replica.
	rebalanceTimeout = 20 * time.Second
	// looksInLease is how often in a lease the ends of partitions are asked for
	// and silent calls ended; contactsInLease of them missing is an outage.
	looksInLease    = 30
	contactsInLease = 3
	// requestTimeout bounds one request; meanwhile nothing is read.
	requestTimeout = 5 * time.Second
	// commitEvery is how often offsets are committed. An older one costs the next
	// owner some reading.
	commitEvery = 5 * time.Second
	// pollRecords bounds what one poll hands out.
	pollRecords = 10_000
	// fetchBytes and unpackBytes bound what the client holds of records that were
	// not looked at yet.
	fetchBytes  = 4 << 20
	unpackBytes = 16 << 20
	// topicRefresh is how often the topic is looked up: it may be made anew some
	// time after it was deleted.
	topicRefresh = 10 * time.Second
	// repeatEvery is how often a failure that goes on is logged.
	repeatEvery = 10 * time.Second
)

// expirer is the state of one running service. Its loop reads, looks and
// writes; the client's callbacks come and go with partitions.
type expirer struct {
	cfg     Config
	log     *zap.Logger
	repeats *zap.Logger // for what goes wrong again and again: one line in repeatEvery
	client  *kgo.Client
	admin   *kadm.Client
	metrics *metrics

	mu         sync.Mutex
	partitions map[int32]*partition // that are ours; guarded by mu
	failing    map[string]failure   // what fails now, for /readyz; guarded by mu
}

// failure is what went wrong last, and since when.
type failure struct {
	since time.Time
	err   error
}

// Run ends calls until ctx ends, and returns nil. What is under way then is done
// by whoever comes next.
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
	e := &expirer{
		cfg: cfg, log: deps.Log, partitions: map[int32]*partition{}, failing: map[string]failure{},
		repeats: deps.Log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(c, repeatEvery, 1, 0)
		})),
	}
	e.metrics = newMetrics(deps.Ops.Registry, e)
	client, err := kafka.Open(ctx, cfg.Kafka, deps.Log,
		kgo.ConsumerGroup(cfg.Group), kgo.ConsumeTopics(topic.APICallsPattern), kgo.ConsumeRegex(), kgo.MetadataMaxAge(topicRefresh),
		kgo.SessionTimeout(cfg.session()), kgo.HeartbeatInterval(cfg.session()/heartbeats), kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		// A call whose last record Kafka has dropped is long over.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// The end of a transaction counts for where the partition ends.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes), kgo.MaxDecompressBatchBytes(unpackBytes),
		kgo.OnOffsetsFetched(e.fetched), kgo.AdjustFetchOffsetsFn(e.begin), kgo.OnPartitionsAssigned(e.assigned), kgo.OnPartitionsRevoked(e.gone), kgo.OnPartitionsLost(e.gone),
		// An Expired record goes where the call's others are; written twice it is
		// the same.
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowIdempotentProduceCancellation(),
	)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	if err := topic.CheckOne(ctx, client, audit.APICallsTopic); err != nil {
		return err
	}
	e.client, e.admin = client, kadm.NewClient(client)
	deps.Ops.Ready("expiry", e.ready)
	deps.Log.Info("expiry is ready", zap.String("group", cfg.Group))
	e.loop(ctx)
	deps.Log.Info("expiry has stopped")
	return nil
}

// loop reads records, and looks for silent calls between them, until ctx ends.
func (e *expirer) loop(ctx context.Context) {
	every := e.cfg.lease() / looksInLease
	var looked, committed time.Time
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, every)
		fetches := e.client.PollRecords(poll, pollRecords)
		cancel()
		var anew bool
		fetches.EachError(func(_ string, p int32, err error) { anew = e.fetchFailed(ctx, p, err) || anew })
		fetches.EachPartition(e.read)
		if now := time.Now(); now.Sub(looked) >= every && ctx.Err() == nil {
			looked = now
			e.look(ctx)
			e.expire(ctx)
			if now.Sub(committed) >= min(commitEvery, e.cfg.lease()) {
				committed = now
				e.commit(ctx)
			}
		}
		e.client.AllowRebalance()
		if anew {
			// The client finds the topic again under its new id: that which it
			// reads, and that which it writes.
			e.client.PurgeTopicsFromClient(audit.APICallsTopic)
			e.client.ForceMetadataRefresh()
		}
	}
}

// fetchFailed says that the topic was made anew and must be looked up again.
func (e *expirer) fetchFailed(ctx context.Context, p int32, err error) (anew bool) {
	if batch, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
		// Ingest makes a dead letter of it; no call is told by it.
		e.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{batch.Topic: {batch.Partition: {Epoch: -1, Offset: batch.NextOffset}}})
		e.at(p, func(s *partition) { s.next = batch.NextOffset })
		return false
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	e.repeats.Warn("fetch failed", zap.Int32("partition", p), zap.Error(err))
	return errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
}

// assigned begins to know partitions.
func (e *expirer) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range parts[audit.APICallsTopic] {
		e.partitions[p] = newPartition()
	}
}

// fetched notes which topic is read, and which committed offsets are of another
// that had its name. One without metadata was set by an operator.
func (e *expirer) fetched(ctx context.Context, cl *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	ids, err := topic.IDs(ctx, cl)
	if err != nil {
		return err
	}
	id := ids[audit.APICallsTopic]
	if id == uuid.Nil {
		return fmt.Errorf("the broker gives topic %s no id: it is being deleted, or Kafka is older than 2.8", audit.APICallsTopic)
	}
	for _, group := range resp.Groups {
		for _, t := range group.Topics {
			for _, p := range t.Partitions {
				e.at(p.Partition, func(s *partition) {
					s.topicID = id
					s.anew = p.Metadata != nil && *p.Metadata != "" && *p.Metadata != id.String()
				})
			}
		}
	}
	return nil
}

// begin notes where reading begins: the committed offsets, as far as they are of
// this topic.
func (e *expirer) begin(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	of := offsets[audit.APICallsTopic]
	for p := range of {
		e.at(p, func(s *partition) {
			if s.anew {
				e.log.Warn("the topic was made anew; reading it from its start", zap.Int32("partition", p))
				of[p] = kgo.NewOffset().AtStart()
			}
			s.next = max(0, of[p].EpochOffset().Offset)
		})
	}
	return offsets, nil
}

// gone forgets partitions that others own.
func (e *expirer) gone(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range parts[audit.APICallsTopic] {
		delete(e.partitions, p)
	}
}

// at calls do with a partition, if it is ours.
func (e *expirer) at(p int32, do func(*partition)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.partitions[p]; s != nil {
		do(s)
	}
}

// read takes records in.
func (e *expirer) read(fetched kgo.FetchTopicPartition) {
	now := time.Now()
	e.at(fetched.Partition, func(s *partition) {
		for _, r := range fetched.Records {
			s.read(r, now)
		}
	})
}

// look asks where our partitions end. Whoever has read up to there has read all
// that was appended before the question.
func (e *expirer) look(ctx context.Context) {
	e.mu.Lock()
	none := len(e.partitions) == 0
	e.mu.Unlock()
	if none {
		e.settle("contact", nil)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	asked := time.Now()
	starts, err := e.admin.ListStartOffsets(ctx, audit.APICallsTopic)
	if err == nil {
		var ends kadm.ListedOffsets
		if ends, err = e.admin.ListEndOffsets(ctx, audit.APICallsTopic); err == nil {
			err = e.looked(asked, starts, ends)
		}
	}
	e.settle("contact", err)
}

func (e *expirer) looked(asked time.Time, starts, ends kadm.ListedOffsets) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for p, s := range e.partitions {
		start, ok := starts.Lookup(audit.APICallsTopic, p)
		end, ok2 := ends.Lookup(audit.APICallsTopic, p)
		if err := errors.Join(start.Err, end.Err); err != nil || !ok || !ok2 {
			errs = append(errs, fmt.Errorf("end of partition %d is not known: %w", p, err))
			continue
		}
		s.looked(asked, start.Offset, end.Offset, e.cfg.lease()/contactsInLease)
	}
	return errors.Join(errs...)
}

// expire writes Expired records for calls that are silent. The calls stay open
// until the records are read back: if we die before or after, or are told that a
// write failed that landed, the same records are written again at the most.
func (e *expirer) expire(ctx context.Context) {
	lease, now := e.cfg.lease(), time.Now()
	calls := map[*kgo.Record]*openCall{}
	var records []*kgo.Record
	e.mu.Lock()
	for p, s := range e.partitions {
		for _, c := range s.silent(now, lease) {
			r, err := c.ended(p, lease, now)
			if err != nil { // or it would be told, and refused, in every lease
				e.log.Error("an API call cannot be ended", zap.Int32("partition", p), zap.Int64("offset", c.offset), zap.Error(err))
				c.expired, c.value = true, nil
				continue
			}
			calls[r] = c
			records = append(records, r)
		}
	}
	e.mu.Unlock()
	var failed error
	if len(records) > 0 {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		results := e.client.ProduceSync(ctx, records...)
		e.mu.Lock()
		for _, r := range results {
			if r.Err == nil {
				calls[r.Record].told = now
				e.metrics.expired.Inc()
			}
		}
		e.mu.Unlock()
		failed = results.FirstErr()
	}
	e.settle("expire", failed)
}

// commit tells the group from where whoever takes over must read. A failure is
// no harm: an older offset serves, too.
func (e *expirer) commit(ctx context.Context) {
	offsets, topics := map[int32]kgo.EpochOffset{}, map[int32]string{}
	e.mu.Lock()
	for p, s := range e.partitions {
		if at := s.oldest(); at > 0 && at != s.committed && s.topicID != uuid.Nil {
			offsets[p], topics[p] = kgo.EpochOffset{Epoch: -1, Offset: at}, s.topicID.String()
		}
	}
	e.mu.Unlock()
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	named := kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for _, t := range req.Topics {
			for i := range t.Partitions {
				of := topics[t.Partitions[i].Partition]
				t.Partitions[i].Metadata = &of
			}
		}
		return nil
	})
	var failed error
	e.client.CommitOffsetsSync(named, map[string]map[int32]kgo.EpochOffset{audit.APICallsTopic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err != nil {
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						failed = err
						continue
					}
					e.at(p.Partition, func(s *partition) { s.committed = offsets[p.Partition].Offset })
				}
			}
		})
	if failed != nil && ctx.Err() == nil {
		e.repeats.Warn("commit failed, will be repeated", zap.Error(failed))
	}
}

// settle notes for /readyz whether something works.
func (e *expirer) settle(what string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		delete(e.failing, what)
		return
	}
	f, ok := e.failing[what]
	if !ok {
		f.since = time.Now()
	}
	f.err = err
	e.failing[what] = f
	e.metrics.failures.WithLabelValues(what).Inc()
	e.repeats.Warn(what+" failed, will be repeated", zap.Error(err))
}

// ready says what fails and since when.
func (e *expirer) ready(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(e.failing)) {
		f := e.failing[what]
		errs = append(errs, fmt.Errorf("%s has been failing for %s: %w", what, time.Since(f.since).Round(time.Second), f.err))
	}
	return errors.Join(errs...)
}
