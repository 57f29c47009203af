package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/store"
)

// anyPort is an address with a free port.
const anyPort = "127.0.0.1:0"

// startEngine runs an engine with its data in dir. It has no HTTP interface but
// at an address that edit sets.
func startEngine(ctx context.Context, addr, dir string, edit ...func(*engine.Config)) (*child, error) {
	cfg, err := defaults[engine.Config]()
	if err != nil {
		return nil, err
	}
	cfg.Addr, cfg.HTTPAddr, cfg.DataDir = addr, "", dir
	cfg.Cache, cfg.Library = os.Getenv("AUDITRAIL_ENGINE_CACHE"), os.Getenv("AUDITRAIL_CHDB_LIBRARY")
	if cfg.Library, err = engine.Fetch(ctx, cfg); err != nil {
		return nil, err
	}
	for _, f := range edit {
		f(&cfg)
	}
	return startChild(childSpec{Engine: &cfg})
}

// database makes a database with tables in it.
func database(ctx context.Context, engine *child, name string) (store.Config, error) {
	cfg, err := defaults[store.Config]()
	if err != nil {
		return cfg, err
	}
	cfg.Addr, cfg.Database = []string{engine.addr}, name
	_, err = store.Migrate(ctx, cfg, zap.NewNop())
	return cfg, err
}

// countEvery is how often the table is asked for its rows: seldom enough to
// cost the engine nothing.
const countEvery = 100 * time.Millisecond

// intoEngine runs ingest into the engine, and shows whose CPU time it takes.
func (c ingestCmd) intoEngine(ctx context.Context, l layout, dir string, broker *child, out, status io.Writer) error {
	engine, err := startEngine(ctx, anyPort, dir)
	if err != nil {
		return err
	}
	defer engine.kill()
	names := []string{"ingest", "engine", "broker"}
	runs := make([][]run, len(names))
	for round := range c.Rounds {
		fmt.Fprintf(status, "%s: round %d of %d\n", l.name, round+1, c.Rounds)
		used, err := c.stored(ctx, engine, broker, round)
		if err != nil {
			return err
		}
		if round == 0 {
			continue
		}
		for i := range runs {
			runs[i] = append(runs[i], used[i])
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "\n%s of %d partitions, into the engine\tCPU us/event\tpeak memory\n", l.name, l.partitions)
	for i, name := range names {
		fmt.Fprintf(w, "%s\t%.2f\t%.0f MiB\n", name, median(runs[i], func(r run) float64 { return c.cpu(r.usage) }), median(runs[i], func(r run) float64 { return float64(r.usage.Peak) / (1 << 20) }))
	}
	fmt.Fprintf(w, "\nevents/s stored\t%.0f\n", median(runs[0], func(r run) float64 { return float64(c.Events) / r.wall.Seconds() }))
	return w.Flush()
}

// stored runs ingest until the table has every event, and returns what ingest,
// engine and broker used for it.
func (c ingestCmd) stored(ctx context.Context, engine, broker *child, round int) (used [3]run, err error) {
	at, err := database(ctx, engine, fmt.Sprintf("round_%d", round))
	if err != nil {
		return used, err
	}
	conn, err := store.Open(ctx, at)
	if err != nil {
		return used, err
	}
	defer func() { _ = conn.Close() }() // only reads went through it
	cfg, err := defaults[ingest.Config]()
	if err != nil {
		return used, err
	}
	cfg.Kafka, cfg.Store, cfg.Group = kafkaAt(broker), at, at.Database
	before, err := usages(engine, broker)
	if err != nil {
		return used, err
	}
	began := time.Now()
	p, err := startChild(childSpec{Ingest: &ingestSpec{Config: cfg}})
	if err != nil {
		return used, err
	}
	defer p.kill()
	if _, err := rowsOf(ctx, conn, p, uint64(c.Events)); err != nil {
		return used, err
	}
	wall := time.Since(began)
	after, err := usages(engine, broker)
	if err != nil {
		return used, err
	}
	u, err := p.stop()
	if err != nil {
		return used, err
	}
	used = [...]run{{u, wall}, {after[0].since(before[0]), wall}, {after[1].since(before[1]), wall}}
	return used, conn.Exec(ctx, "DROP DATABASE "+at.Database)
}

// rowsOf waits until the table holds n rows, and returns how many it holds. More
// are an error, as is the end of ingest.
func rowsOf(ctx context.Context, conn driver.Conn, ingest *child, n uint64) (rows uint64, err error) {
	for rows < n {
		select {
		case r, ok := <-ingest.replies:
			return rows, early(r, ok)
		case <-ctx.Done():
			return rows, ctx.Err()
		case <-time.After(countEvery):
		}
		if err := conn.QueryRow(ctx, "SELECT count() FROM audit_events").Scan(&rows); err != nil {
			return rows, err
		}
	}
	if rows > n {
		return rows, fmt.Errorf("%d rows of %d events", rows, n)
	}
	return rows, nil
}

func usages(children ...*child) ([]usage, error) {
	var all []usage
	for _, c := range children {
		u, err := c.usage()
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}
