package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/expiry"
	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/loadgen"
	"github.com/auditrail/auditrail/services/migrate"
	"github.com/auditrail/auditrail/services/query"
	"github.com/auditrail/auditrail/services/reporter"
)

type migrateCmd struct{ migrate.Config }

// Run prepares tables and topics.
func (c *migrateCmd) Run(ctx context.Context, log *zap.Logger) error {
	return migrate.Run(ctx, c.Config, migrate.Deps{Log: log})
}

type brokerCmd struct{ broker.Config }

// Run serves the embedded broker until a signal.
func (c *brokerCmd) Run(ctx context.Context, log *zap.Logger) error {
	return broker.Run(ctx, c.Config, broker.Deps{Log: log})
}

type engineCmd struct {
	engine.Config
	Fetch bool `help:"Only make sure that the engine's library is in the cache, fetching it when it is not."`
}

// Run serves the embedded engine until a signal.
func (c *engineCmd) Run(ctx context.Context, log *zap.Logger) error {
	if c.Fetch {
		path, err := engine.Fetch(ctx, c.Config)
		if err == nil {
			fmt.Println(path)
		}
		return err
	}
	return engine.Run(ctx, c.Config, engine.Deps{Log: log})
}

type loadgenCmd struct{ loadgen.Config }

// Run emits until the count is reached or a signal comes.
func (c *loadgenCmd) Run(ctx context.Context, log *zap.Logger) error {
	return loadgen.Run(ctx, c.Config, loadgen.Deps{Log: log, Out: os.Stderr})
}

type queryCmd struct{ query.Config }

// Run serves the API until a signal.
func (c *queryCmd) Run(ctx context.Context, log *zap.Logger) error {
	return query.Run(ctx, c.Config, query.Deps{Log: log, Ops: ops.New(log)})
}

type ingestCmd struct {
	ingest.Config
	Expiry   expiry.Config `embed:""`
	HTTPAddr string        `name:"http-addr" help:"Address of /healthz, /readyz and /metrics." default:"127.0.0.1:8081"`
}

// Run ingests, and ends API calls whose process died, until a signal. Near its limit of memory the garbage collector
// works harder; GOMEMLIMIT overrides the limit.
func (c *ingestCmd) Run(ctx context.Context, log *zap.Logger) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(c.Limits.HeapLimit())
	}
	return withOps(ctx, c.HTTPAddr, log, func(ctx context.Context, o *ops.Ops) error {
		g, running := errgroup.WithContext(ctx)
		g.Go(func() error { return ingest.Run(running, c.Config, ingest.Deps{Log: log, Ops: o}) })
		c.Expiry.Kafka = c.Kafka
		g.Go(func() error { return expiry.Run(running, c.Expiry, expiry.Deps{Log: log, Ops: o}) })
		return g.Wait()
	})
}

type reporterCmd struct {
	reporter.Config
	HTTPAddr string `name:"http-addr" help:"Address of /healthz, /readyz and /metrics." default:"127.0.0.1:8082"`
}

// Run makes reports until a signal.
func (c *reporterCmd) Run(ctx context.Context, log *zap.Logger) error {
	return withOps(ctx, c.HTTPAddr, log, func(ctx context.Context, o *ops.Ops) error {
		return reporter.Run(ctx, c.Config, reporter.Deps{Log: log, Ops: o})
	})
}

// withOps runs a service that has no HTTP of its own, with /healthz, /readyz and
// /metrics beside it. Without these it does not go on; they stay up through its
// drain, so that it can be watched.
func withOps(ctx context.Context, addr string, log *zap.Logger, run func(context.Context, *ops.Ops) error) error {
	o := ops.New(log)
	mux := http.NewServeMux()
	o.Mount(mux)
	ln, err := ops.Listen(ctx, addr)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, o.Drain)
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return ops.Serve(serving, ln, mux, ops.DefaultDrain, log) })
	g.Go(func() error {
		defer stop()
		return run(running, o)
	})
	return g.Wait()
}
