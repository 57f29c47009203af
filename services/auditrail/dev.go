package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/expiry"
	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/migrate"
	"github.com/auditrail/auditrail/services/query"
	"github.com/auditrail/auditrail/services/reporter"
)

type devCmd struct {
	HTTPAddr           string  `name:"http-addr" help:"Address of the API, /healthz, /readyz and /metrics." default:"127.0.0.1:8080"`
	KafkaAddr          string  `name:"kafka-addr" help:"Address of the Kafka broker." default:"127.0.0.1:9092"`
	ClickHouseAddr     string  `name:"clickhouse-addr" help:"Address of the embedded ClickHouse engine, native protocol." default:"127.0.0.1:9000"`
	ClickHouseHTTPAddr string  `name:"clickhouse-http-addr" help:"Address of the embedded ClickHouse engine, HTTP." default:"127.0.0.1:8123"`
	ClickHousePassword string  `name:"clickhouse-password" help:"Password of the embedded engine. Prefer the environment variable: a flag shows in the process list." default:""`
	EmbeddedBroker     bool    `help:"Run the embedded Kafka broker; --no-embedded-broker uses the Kafka at --kafka-addr instead." default:"true" negatable:""`
	DataDir            string  `name:"data-dir" help:"Folder for all data. A second start goes on with what is there." default:"./data" type:"path"`
	DemoRate           float64 `name:"demo-rate" help:"Demo events a second; 0 for no demo events at all, past ones neither." default:"2"`

	ReportStore string `help:"Where the files of reports are, a folder or an S3 bucket (see auditrail reporter --help). Empty: the folder reports of --data-dir." default:""`

	ExitWithParent bool `hidden:"" help:"End when standard input does."`

	// The services' own limits are dev's flags too.
	Ingest  ingest.Limits   `embed:""`
	Query   query.Limits    `embed:""`
	Reports reporter.Limits `embed:""`
	Expiry  expiry.Config   `embed:""`
	Proxies query.Proxies   `embed:""`

	RetentionDays  uint16        `help:"Days an event is kept after it happened, unless its subscription chose otherwise." default:"400"`
	RetentionDelay time.Duration `help:"How long a subscription's choice of days must have stood before it counts." default:"10m"`
}

// Run runs everything until a signal. Parts are opened in the order of their
// need, so that the deferred closes drain them: services, engine, broker.
func (c *devCmd) Run(ctx context.Context, log *zap.Logger) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.ExitWithParent {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // its end is all that matters
			stop()
		}()
	}
	brokerCfg, err := configured[broker.Config]()
	if err != nil {
		return err
	}
	migrateCfg, err := configured[migrate.Config]()
	if err != nil {
		return err
	}
	ingestCfg, err := configured[ingest.Config]()
	if err != nil {
		return err
	}
	queryCfg, err := configured[query.Config]()
	if err != nil {
		return err
	}
	reporterCfg, err := configured[reporter.Config]()
	if err != nil {
		return err
	}
	ingestCfg.Limits, ingestCfg.RetentionDays, ingestCfg.RetentionDelay = c.Ingest, c.RetentionDays, c.RetentionDelay
	if err := errors.Join(ingestCfg.Validate(), c.Expiry.Validate(), c.Reports.Validate()); err != nil {
		return err
	}
	ln, err := ops.Listen(ctx, c.HTTPAddr)
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }() // served or not, it is ours
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}

	if c.EmbeddedBroker {
		brokerCfg.Addr, brokerCfg.DataDir = c.KafkaAddr, c.DataDir
		b, err := broker.Start(ctx, brokerCfg, broker.Deps{Log: log})
		if err != nil {
			return err
		}
		defer b.Close()
		c.KafkaAddr = b.Addr()
	}
	migrateCfg.Kafka = kafka.Config{Addr: []string{c.KafkaAddr}}

	migrateCfg.Store.Addr, migrateCfg.Store.Password = []string{c.ClickHouseAddr}, c.ClickHousePassword
	engine, err := startEngine(ctx, *c, migrateCfg.Store, log)
	if err != nil {
		return err
	}
	defer engine.close()

	if err := migrate.Run(ctx, migrateCfg, migrate.Deps{Log: log}); err != nil {
		return err
	}
	if err := freeDemo(ctx, migrateCfg.Kafka, log); err != nil {
		return err
	}
	issuer, err := identity.OpenIssuer(c.DataDir)
	if err != nil {
		return err
	}
	queryCfg.Store, queryCfg.Kafka, queryCfg.Identity = migrateCfg.Store, migrateCfg.Kafka, issuer.Config()
	queryCfg.Limits, queryCfg.Proxies, queryCfg.RetentionDays, queryCfg.ReportRetention = c.Query, c.Proxies, c.RetentionDays, c.Reports.Retention
	ingestCfg.Kafka, ingestCfg.Store = migrateCfg.Kafka, migrateCfg.Store
	reporterCfg.Kafka, reporterCfg.Store, reporterCfg.HTTP.Addr, reporterCfg.Limits = migrateCfg.Kafka, migrateCfg.Store, []string{c.ClickHouseHTTPAddr}, c.Reports
	reporterCfg.Files.URL = cmp.Or(c.ReportStore, filepath.Join(c.DataDir, "reports"))
	queryCfg.Reports = reporterCfg.Files
	return c.serve(ctx, ln, queryCfg, ingestCfg, reporterCfg, log)
}

// configured is a service's configuration as its own subcommand would have it
// without flags: defaults, and what the environment says.
func configured[T any]() (T, error) {
	var cfg T
	err := kong.ApplyDefaults(&cfg, envNames)
	return cfg, err
}

func (c *devCmd) validate() error {
	if c.DemoRate < 0 || c.DemoRate > maxDemoRate {
		return fmt.Errorf("--demo-rate must be between 0 and %d events a second, not %g; auditrail loadgen goes further", maxDemoRate, c.DemoRate)
	}
	return nil
}

// serve runs the services until ctx ends or one of them fails.
func (c *devCmd) serve(ctx context.Context, ln net.Listener, queryCfg query.Config, ingestCfg ingest.Config, reporterCfg reporter.Config, log *zap.Logger) error {
	o := ops.New(log)
	api, err := query.New(queryCfg, query.Deps{Log: log, Ops: o}) //nolint:contextcheck // what it opens lives until Close
	if err != nil {
		return err
	}
	defer func() { _ = api.Close() }() //nolint:contextcheck // only reads went through it, and what must be recorded was waited for
	mux := http.NewServeMux()
	o.Mount(mux)
	mux.Handle("/", api.Handler())

	g, running := errgroup.WithContext(ctx)
	defer context.AfterFunc(running, o.Drain)()
	defer context.AfterFunc(running, api.Drain)()
	g.Go(func() error { return ops.Serve(running, ln, mux, ops.DefaultDrain, log) })
	g.Go(func() error { return ingest.Run(running, ingestCfg, ingest.Deps{Log: log, Ops: o}) })
	c.Expiry.Kafka = ingestCfg.Kafka
	g.Go(func() error { return expiry.Run(running, c.Expiry, expiry.Deps{Log: log, Ops: o}) })
	g.Go(func() error { return reporter.Run(running, reporterCfg, reporter.Deps{Log: log, Ops: o}) })
	if c.DemoRate > 0 {
		g.Go(func() error { return runDemo(running, ingestCfg.Kafka, c.DataDir, c.DemoRate, log) })
	}
	c.welcome(os.Stdout, ln.Addr().String())
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("drained")
	return nil
}

// welcome tells what runs where and what to try.
func (c *devCmd) welcome(w io.Writer, httpAddr string) {
	self := os.Args[0]
	if filepath.IsAbs(self) {
		self = "auditrail"
	}
	token := self + " token"
	if wd, err := os.Getwd(); err == nil && c.DataDir != filepath.Join(wd, "data") {
		token += " --data-dir " + c.DataDir
	}
	hint := "Search the newest events as the demo Manager:"
	if c.DemoRate == 0 {
		hint = "No new demo events are made: there is what is stored and what you emit. A Manager's search:"
	}
	fmt.Fprintf(w, `
Auditrail is running. Ctrl-C drains and stops it; the data stays in %s.

  API          http://%s
  health       http://%s/healthz  /readyz  /metrics
  Kafka        %s
  ClickHouse   %s (native)  http://%s (HTTP)

%s

  curl -s http://%s/audit-log/admin/search \
    -H "Authorization: Bearer $(%s)" \
    -H 'Content-Type: application/json' \
    -d '{"pageSize": 3}'

Its recent API calls, this search among them:

  sleep 2; curl -s http://%s/audit-log/admin/api-calls -H "Authorization: Bearer $(%s)"

A report of all that is kept, as CSV, made in the background, watched and downloaded:

  T=$(%s)
  ID=$(curl -s http://%s/audit-log/admin/report -H "Authorization: Bearer $T" -H 'Content-Type: application/json' -d '{
    "reportName": "All", "reportSummary": "To try it", "reportColumns": ["Created Date", "User Name", "Action", "Target Name"],
    "filters": {"fields": [{"key": "moduleCode", "value": "All"}], "startDate": 0}}' | sed -n 's/.*"reportId":\([0-9]*\).*/\1/p')
  curl -sN http://%s/audit-log/admin/report/$ID/events -H "Authorization: Bearer $T"
  curl -s http://%s/audit-log/admin/report/$ID/download -H "Authorization: Bearer $T" | head -3

Acme has no limits on its calls. Initech has those of its tier, 300 an hour: the last of these is answered 429 and listed as Blocked (Rate). They take some seconds:

  T=$(%s)
  curl -s -o /dev/null -w '%%{http_code}\n' 'http://%s/audit-log/admin/search/fields#[1-301]' -H "Authorization: Bearer $T" | uniq -c
  sleep 2; curl -s 'http://%s/audit-log/admin/api-calls?pageSize=1&state=Blocked+(Rate)' -H "Authorization: Bearer $T"

`, c.DataDir, httpAddr, httpAddr, c.KafkaAddr, c.ClickHouseAddr, c.ClickHouseHTTPAddr, hint, httpAddr, token, httpAddr, token,
		token, httpAddr, httpAddr, httpAddr, limitedDemo().command(token), httpAddr, httpAddr)
	if c.DemoRate > 0 {
		fmt.Fprintf(w, "Demo identities, each a command that prints its token:\n\n")
		for _, d := range demoIdentities {
			fmt.Fprintf(w, "  %-58s %s\n", d.about(), d.command(token))
		}
		fmt.Fprintln(w)
	}
}
