// Package query serves the read API: what analysts and scripts ask about
// stored audit events. Every read path goes the same way:
//
//	request -> identity -> visibility.Predicate -> sqlgen.Statement -> engine -> answer
//
// routes.go lists the endpoints, engine.go runs statements within the limits,
// and each endpoint has a file of its own, such as search.go.
package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/bytesize"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/stored"
)

// Config of the query service. Its tags are flags; see auditrail --help.
type Config struct {
	HTTPAddr string          `name:"http-addr" help:"Address that HTTP is served on, host:port." default:"127.0.0.1:8080"`
	Store    store.Config    `embed:""`
	Kafka    kafka.Config    `embed:""`
	Identity identity.Config `embed:""`

	IngestGroup string `name:"ingest-group" help:"Kafka consumer group of ingest: what it has committed is stored, and searches say up to when." default:"auditrail-ingest"`

	Reports report.FilesConfig `embed:""`

	RetentionDays   uint16        `help:"Days an event is kept after it happened, unless its subscription chose otherwise: that of ingest. Reports say since when events are kept for certain; they are not cut there." default:"400"`
	ReportRetention time.Duration `help:"How long a report's file is kept after it ended: that of reporter. Reports say when they expire." default:"720h"`

	Limits  `embed:""`
	Proxies `embed:""`
}

// Limits of the service. Zero means the default.
type Limits struct {
	Timeout     time.Duration  `name:"query-timeout" help:"Longest time a statement may run in ClickHouse; then the request is refused with advice to narrow it." default:"30s"`
	Memory      bytesize.Bytes `name:"query-memory" help:"Most memory a statement may use in ClickHouse, such as 512MiB. A request runs up to two statements at once." default:"2GiB"`
	Rows        int64          `name:"query-rows" help:"Most rows that a statement may have to read in ClickHouse where it must look at all that match: counts, facets, histograms, other orders than newest first." default:"1000000000"`
	Concurrency int            `name:"query-concurrency" help:"Requests that may use ClickHouse at the same time, at most half of them for one subscription; the others wait." default:"8"`
	QueueWait   time.Duration  `name:"query-queue-wait" help:"Longest time a request waits for its turn (--query-concurrency) before it is refused with 503." default:"5s"`

	ExportTimeout     time.Duration `name:"export-timeout" help:"Longest time an export may take in ClickHouse and on its way to the client; then it ends with a row that says so." default:"15m"`
	ExportRows        int64         `name:"export-rows" help:"Most events of one export; one that would have more is refused with advice to narrow it. -1: no limit." default:"1000000"`
	ExportConcurrency int           `name:"export-concurrency" help:"Exports that may run at the same time, at most half of them for one subscription; the others wait. Searches have places of their own." default:"2"`

	ReportQueued int `name:"report-queued" help:"Reports of one subscription that may be queued at a time; one more is blocked." default:"10"`

	RedisURL         string        `name:"redis-url" help:"Redis that counts the API calls of all replicas, such as redis://host:6379/0. Empty: each replica counts its own, which is right for one." default:""`
	LimitsFailClosed bool          `name:"limits-fail-closed" help:"Answer calls 503 while their limits cannot be enforced, because Redis is away. Without it they run, and are counted in auditrail_query_api_calls_unenforced_total."`
	APICallWait      time.Duration `name:"api-call-wait" help:"Longest time an API call waits, as Queued, while as many of its subscription run as may; then it is Blocked (Concurrency). 20s at most; 0: it does not wait." default:"0s"`
	LimitsConflict   bool          `name:"limits-conflict" help:"Answer blocked API calls 409 with code 1960 (concurrency) or 1965 (rate) in place of 429, for clients that look for these."`
}

// Defaults of Config, as in its tags.
const (
	defaultTimeout     = 30 * time.Second
	defaultMemory      = 2 << 30
	defaultRows        = 1_000_000_000
	defaultConcurrency = 8
	defaultQueueWait   = 5 * time.Second

	defaultExportTimeout     = 15 * time.Minute
	defaultExportRows        = 1_000_000
	defaultExportConcurrency = 2

	defaultRetentionDays   = 400
	defaultReportRetention = 720 * time.Hour
	defaultReportQueued    = 10
	defaultReportStore     = "./reports"
)

// mostCallWait leaves time to read the body of a call that waited, of the 30 s
// that package ops gives from the beginning of its request.
const mostCallWait = 20 * time.Second

// drainGrace is for sending answers at the end of the drain.
const drainGrace = 3 * time.Second

// withDefaults fills in zero limits and refuses impossible ones.
func (c Config) withDefaults() (Config, error) {
	if c.Timeout < 0 || c.Memory < 0 || c.Rows < 0 || c.Concurrency < 0 || c.QueueWait < 0 {
		return c, errors.New("--query-timeout, --query-memory, --query-rows, --query-concurrency and --query-queue-wait must not be negative")
	}
	if c.ExportTimeout < 0 || c.ExportRows < -1 || c.ExportConcurrency < 0 {
		return c, errors.New("--export-timeout and --export-concurrency must not be negative, nor --export-rows but for -1, no limit")
	}
	if c.ReportQueued < 0 || c.ReportRetention < 0 {
		return c, errors.New("--report-queued and --report-retention must not be negative")
	}
	if c.APICallWait < 0 || c.APICallWait > mostCallWait {
		return c, fmt.Errorf("--api-call-wait must be 0 to %s, not %s: a call that waits for longer has no time left to send its body", mostCallWait, c.APICallWait)
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Rows == 0 {
		c.Rows = defaultRows
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.QueueWait == 0 {
		c.QueueWait = defaultQueueWait
	}
	if c.ExportTimeout == 0 {
		c.ExportTimeout = defaultExportTimeout
	}
	if c.ExportRows == 0 {
		c.ExportRows = defaultExportRows
	}
	if c.ExportConcurrency == 0 {
		c.ExportConcurrency = defaultExportConcurrency
	}
	if c.RetentionDays == 0 {
		c.RetentionDays = defaultRetentionDays
	}
	if c.ReportRetention == 0 {
		c.ReportRetention = defaultReportRetention
	}
	if c.ReportQueued == 0 {
		c.ReportQueued = defaultReportQueued
	}
	if c.Reports.URL == "" {
		c.Reports.URL = defaultReportStore
	}
	return c, nil
}

// Deps of the query service.
type Deps struct {
	Log *zap.Logger
	// Ops receives the metrics and the readiness checks "clickhouse",
	// "settings" and "token-keys". Reports have none: while they cannot be read,
	// searches go on, and requests about reports are answered 503. The caller
	// serves it, or Run does.
	Ops *ops.Ops
	// CallLimits is asked for the limits of API calls in place of those that were
	// set for subscriptions. Nil, the default, means those. For tests
	// and measurements.
	CallLimits apicall.Limits
}

// Service is the query service without a listener. Safe for concurrent use.
type Service struct {
	cfg      Config
	log      *zap.Logger
	engine   *engine
	exports  *engine // the same ClickHouse, within the limits of exports
	stored   *stored.Tracker
	horizon  horizon
	settings *chosen
	reports  *reports
	emitter  *emit.Emitter // of the product's own audit events
	metrics  *metrics
	verifier *identity.Verifier
	calls    *calls // of the API itself
	handler  http.Handler

	stopping chan struct{} // closed by Drain
	stop     sync.Once
}

// New makes a Service. It connects to ClickHouse, Kafka and the token keys when
// they are first needed, so that it starts while they are away: readiness
// says so. The caller closes it once its handler has no requests left.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	verifier, err := identity.NewVerifier(cfg.Identity, deps.Log)
	if err != nil {
		return nil, err
	}
	m := newMetrics(deps.Ops.Registry)
	eng, err := openEngine(cfg, m)
	if err != nil {
		return nil, err
	}
	tracker, err := stored.Open(stored.Config{Kafka: cfg.Kafka, Group: cfg.IngestGroup, Slack: stored.DefaultSlack}, deps.Log)
	if err != nil {
		return nil, errors.Join(err, eng.close())
	}
	emitter, err := openEmitter(cfg.Kafka, deps.Log)
	if err != nil {
		tracker.Close()
		return nil, errors.Join(err, eng.close())
	}
	s := &Service{cfg: cfg, log: deps.Log, engine: eng, stored: tracker, settings: openChosen(cfg.Kafka, deps.Log), emitter: emitter, metrics: m, verifier: verifier}
	s.exports, s.stopping = eng.forExports(), make(chan struct{})
	s.reports = openReports(cfg.Kafka, cfg.Reports, deps.Log)
	if s.calls, err = s.openCalls(cfg, deps); err != nil {
		s.settings.close()
		tracker.Close()
		return nil, errors.Join(err, s.reports.close(), closeEmitter(emitter), eng.close())
	}
	s.horizon.follow(tracker, deps.Log)
	s.handler = s.routes()
	deps.Ops.Ready("clickhouse", eng.ready)
	deps.Ops.Ready("settings", s.settings.ready)
	deps.Ops.Ready("token-keys", verifier.Ready)
	return s, nil
}

// Handler answers the read API, and every other path with 404: mount it at
// "/" beside more exact patterns.
func (s *Service) Handler() http.Handler { return s.handler }

// drain is how long a request in hand may need to its end: to wait for its
// place and its turn, to run into the time limit, to wait with its answer, to record it, and
// to send it.
func (s *Service) drain() time.Duration {
	return s.cfg.APICallWait + 2*s.cfg.QueueWait + s.cfg.Timeout + timeoutGrace + auditTimeout + drainGrace
}

// Drain ends exports, which may take longer than anybody waits for the end of a
// process: each tells its client that it is not complete. Searches go on.
func (s *Service) Drain() { s.stop.Do(func() { close(s.stopping) }) }

// Close closes the connections to ClickHouse and Kafka.
func (s *Service) Close() error {
	s.horizon.close()
	s.stored.Close()
	s.settings.close()
	return errors.Join(s.calls.close(), s.reports.close(), closeEmitter(s.emitter), s.engine.close())
}

// Run serves the read API and the operators' endpoints until ctx ends, then
// drains: readiness says no, requests in hand finish, connections close.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if deps.Ops == nil {
		deps.Ops = ops.New(deps.Log)
	}
	s, err := New(cfg, deps) //nolint:contextcheck // what it opens lives until Close
	if err != nil {
		return err
	}
	err = s.serve(ctx, deps.Ops)
	if err := errors.Join(err, s.Close()); err != nil { //nolint:contextcheck // what it waits for outlives ctx
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

// serve is Run but for the opening and closing.
func (s *Service) serve(ctx context.Context, o *ops.Ops) error {
	// An older schema would fail every request: better not to start. While
	// ClickHouse is away nobody knows; then readiness tells.
	if err := s.engine.ready(ctx); errors.Is(err, store.ErrSchema) {
		return err
	}
	ln, err := ops.Listen(ctx, s.cfg.HTTPAddr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	o.Mount(mux)
	mux.Handle("/", s.Handler())
	defer context.AfterFunc(ctx, o.Drain)()
	defer context.AfterFunc(ctx, s.Drain)()
	s.log.Info("query service listens", zap.String("addr", ln.Addr().String()))
	return ops.Serve(ctx, ln, mux, s.drain(), s.log)
}
