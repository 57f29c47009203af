// Package reporter makes reports: jobs of the table in package report, which
// end as files in an object store. Several replicas may run. Whoever claims a
// job owns it, chunk after chunk, until it is over or another one finds the
// owner silent:
//
//	claim -> plan -> chunk, chunk, ... -> manifest -> end
//
// Each step is a record of the table, so whoever comes next goes on with the
// first that is missing. A step is repeated until it is known to have taken
// effect; objects have names of their own for every attempt, so that what landed
// though it was reported lost is never overwritten, and never read.
//
// schedule.go says whose turn it is, run.go what a turn does, plan.go, chunk.go
// and publish.go are its steps, retention.go is what happens afterwards.
package reporter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/bytesize"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Config of the reporter. Its tags are flags; see auditrail --help. Zero means
// the default.
type Config struct {
	Kafka kafka.Config       `embed:""`
	Store store.Config       `embed:""`
	HTTP  store.HTTPConfig   `embed:""`
	Files report.FilesConfig `embed:""`

	Limits `embed:""`

	// Lease is the silence after which another replica takes a report over. Zero
	// means 30 s, by which everybody goes; only tests say otherwise.
	Lease time.Duration `kong:"-"`
	// Pause is before the second attempt at what failed; later ones wait for
	// longer. Zero means 1 s.
	Pause time.Duration `kong:"-"`
	// OrphanAge is how old an object must be that nobody wants before it is
	// deleted, and how often such are looked for. Zero means an hour.
	OrphanAge time.Duration `kong:"-"`
}

// Limits of the reporter. Zero means the default.
type Limits struct {
	Workers   int   `name:"report-workers" help:"Chunks of reports that a replica makes at the same time. Subscriptions take turns." default:"2"`
	ChunkRows int64 `name:"report-chunk-rows" help:"Rows of a report that are made at once, about: how long another subscription may have to wait, and what is made again after a crash." default:"1000000"`
	Running   int   `name:"report-running" help:"Reports of a subscription that run at the same time, over all replicas; the others are Queued." default:"2"`

	Threads int            `name:"report-threads" help:"Threads that ClickHouse may use for a chunk of a report. Searches go first in any case." default:"2"`
	Memory  bytesize.Bytes `name:"report-memory" help:"Most memory that ClickHouse may use for a chunk of a report." default:"2GiB"`

	GiveUp         time.Duration `name:"report-give-up" help:"How long a report may get no chunk done, because ClickHouse or the object store is away, before it is Failed. What it has stays: it can be resumed." default:"10m"`
	Retention      time.Duration `name:"report-retention" help:"How long the file of a report is kept after its end; then it is Expired." default:"720h"`
	EntryRetention time.Duration `name:"report-entry-retention" help:"How long an Expired report is still listed." default:"9600h"`
}

// Defaults of Limits, as in its tags, and of Config.
const (
	defaultWorkers        = 2
	defaultChunkRows      = 1_000_000
	defaultRunning        = 2
	defaultThreads        = 2
	defaultMemory         = 2 << 30
	defaultGiveUp         = 10 * time.Minute
	defaultRetention      = 720 * time.Hour
	defaultEntryRetention = 9600 * time.Hour
	defaultLease          = 30 * time.Second
	defaultPause          = time.Second
	defaultOrphanAge      = time.Hour
)

// Validate names the first wrong value.
func (l Limits) Validate() error {
	_, err := l.withDefaults()
	return err
}

// withDefaults fills in what is zero and refuses what is impossible.
func (l Limits) withDefaults() (Limits, error) {
	if l.Workers < 0 || l.ChunkRows < 0 || l.Running < 0 || l.Threads < 0 || l.Memory < 0 {
		return l, errors.New("--report-workers, --report-chunk-rows, --report-running, --report-threads and --report-memory must be above 0")
	}
	if l.GiveUp < 0 || l.Retention < 0 || l.EntryRetention < 0 {
		return l, errors.New("--report-give-up, --report-retention and --report-entry-retention must be above 0")
	}
	l.Workers = cmp.Or(l.Workers, defaultWorkers)
	l.ChunkRows = cmp.Or(l.ChunkRows, defaultChunkRows)
	l.Running = cmp.Or(l.Running, defaultRunning)
	l.Threads = cmp.Or(l.Threads, defaultThreads)
	l.Memory = cmp.Or(l.Memory, defaultMemory)
	l.GiveUp = cmp.Or(l.GiveUp, defaultGiveUp)
	l.Retention = cmp.Or(l.Retention, defaultRetention)
	l.EntryRetention = cmp.Or(l.EntryRetention, defaultEntryRetention)
	return l, nil
}

func (c Config) withDefaults() (_ Config, err error) {
	c.Limits, err = c.Limits.withDefaults()
	c.Lease = cmp.Or(c.Lease, defaultLease)
	c.Pause = cmp.Or(c.Pause, defaultPause)
	c.OrphanAge = cmp.Or(c.OrphanAge, defaultOrphanAge)
	return c, err
}

// Deps of the reporter.
type Deps struct {
	Log *zap.Logger
	// Ops receives the metrics and the readiness checks "reporter", "reporter-store"
	// and "reporter-clickhouse".
	Ops *ops.Ops
}

const (
	// openAgain is the pause before Kafka or the object store is tried anew at the
	// start.
	openAgain = time.Second
	// repeatEvery is how often a failure that goes on is logged.
	repeatEvery = 10 * time.Second
	// stopGrace is how long chunks in hand may take when the reporter stops; then
	// they are given up, and whoever claims the report makes them again.
	stopGrace = 5 * time.Second
	// stopTimeout bounds each write of the stop: the releases, the states of calls.
	stopTimeout = 3 * time.Second
)

// service is a running reporter.
type service struct {
	cfg     Config
	log     *zap.Logger
	repeats *zap.Logger // for what goes wrong again and again: one line in repeatEvery
	metrics *metrics
	worker  string // what this replica calls itself

	table   *report.Table
	files   *report.Files
	conn    driver.Conn
	events  *clickHouse
	emitter *emit.Emitter

	turned chan struct{} // a turn is over
	deaf   atomic.Int64  // when the table could not be read last, Unix nanoseconds
	turns  sync.WaitGroup

	mu   sync.Mutex
	runs map[int64]*run // that are ours; guarded by mu
}

// Run makes reports until ctx ends, and returns nil: it gives back what it owns,
// and whoever comes next goes on. It starts while Kafka, ClickHouse and the
// object store are away: readiness says so.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	s := &service{
		cfg: cfg, log: deps.Log, worker: workerName(), runs: map[int64]*run{}, turned: make(chan struct{}, 1),
		repeats: deps.Log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(c, repeatEvery, 1, 0)
		})),
	}
	s.metrics = newMetrics(deps.Ops.Registry)
	if s.conn, err = clickhouse.Open(cfg.Store.Options()); err != nil {
		return fmt.Errorf("clickhouse %v: %w", cfg.Store.Addr, err)
	}
	defer s.conn.Close() //nolint:errcheck // nothing is buffered in it
	if s.events, err = newClickHouse(cfg.Store, cfg.HTTP, cfg.Threads, int64(cfg.Memory)); err != nil {
		return err
	}
	defer s.events.close()
	s.events.log = deps.Log
	if s.emitter, err = emit.New(emit.Config{Brokers: cfg.Kafka.Addr, ClientID: "auditrail-reporter", Logger: deps.Log}); err != nil {
		return err
	}
	defer s.closeEmitter() //nolint:contextcheck // what it waits for outlives ctx

	opening := &opening{err: errors.New("not read yet")}
	deps.Ops.Ready("reporter-clickhouse", func(ctx context.Context) error {
		if err := s.conn.Ping(ctx); err != nil {
			return err
		}
		return store.CheckSchema(ctx, s.conn)
	})
	deps.Ops.Ready("reporter", opening.ready)
	deps.Ops.Ready("reporter-store", func(ctx context.Context) error {
		if err := opening.ready(ctx); err != nil {
			return err
		}
		switch ok, err := s.files.Bucket().IsAccessible(ctx); {
		case err != nil:
			return err
		case !ok:
			return errors.New("the object store is not there, or refuses the credentials")
		}
		return nil
	})
	if !s.open(ctx, opening) {
		return nil
	}
	defer s.table.Close()
	defer s.files.Close() //nolint:errcheck // nothing is buffered in it
	s.serve(ctx)
	return nil
}

// serve makes reports until ctx ends.
func (s *service) serve(ctx context.Context) {
	s.log.Info("reporter is ready", zap.String("worker", s.worker))
	var background sync.WaitGroup
	background.Go(func() { s.keepHouse(ctx) })
	background.Go(func() { s.keepTelling(ctx) })
	s.schedule(ctx)
	s.stop() //nolint:contextcheck // ctx is over
	background.Wait()
	s.log.Info("reporter has stopped")
}

// workerName tells replicas apart, for people.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%s", host, uuid.NewString()[:8])
}

// opening is why the table and the object store are not open yet.
type opening struct {
	mu  sync.Mutex
	err error // guarded by mu
}

func (o *opening) set(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *opening) ready(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// open opens the table and the object store, again and again until that works;
// false when ctx ends before.
func (s *service) open(ctx context.Context, o *opening) bool {
	for {
		err := s.openOnce(ctx)
		if err == nil {
			o.set(nil)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.repeats.Warn("reports cannot be made yet", zap.Error(err))
		o.set(err)
		select {
		case <-time.After(openAgain):
		case <-ctx.Done():
			return false
		}
	}
}

func (s *service) openOnce(ctx context.Context) error {
	// Who tells of calls needs their topic.
	cl, err := kafka.Open(ctx, s.cfg.Kafka, s.log)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := topic.CheckOne(ctx, cl, audit.APICallsTopic); err != nil {
		return err
	}
	files, err := report.OpenFiles(ctx, s.cfg.Files)
	if err != nil {
		return err
	}
	table, err := report.Open(ctx, s.cfg.Kafka, s.log)
	if err != nil {
		return errors.Join(err, files.Close())
	}
	s.files, s.table = files, table
	return nil
}
