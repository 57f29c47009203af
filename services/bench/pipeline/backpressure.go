package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/loadgen"
)

// backpressureCmd stores some events, ends the engine, sends events at a rate
// and prints the resident memory of ingest; then it starts the engine again and
// waits until every event is stored once. The figure is the spread of the memory
// after the first minute.
type backpressureCmd struct {
	For    time.Duration `name:"for" help:"How long the engine is away." default:"10m"`
	Rate   float64       `help:"Events a second." default:"5000"`
	Every  time.Duration `help:"Time between two lines." default:"10s"`
	Limits ingest.Limits `embed:""`
}

// Validate names the first wrong value.
func (c backpressureCmd) Validate() error {
	switch {
	case c.For <= 0:
		return fmt.Errorf("--for must be above 0, not %s", c.For)
	case c.Rate*c.For.Seconds() < 1:
		return fmt.Errorf("--rate must make an event at least in %s, not %g a second", c.For, c.Rate)
	case c.Every <= 0:
		return fmt.Errorf("--every must be above 0, not %s", c.Every)
	}
	return nil
}

const (
	// settle is how long the memory may take to reach its height.
	settle = time.Minute
	// goalSpread is how far apart the lowest and the highest figure may be, in %.
	goalSpread = 10.0
	// storedBefore are the events that are stored before the engine ends.
	storedBefore = 10_000
	// storeTimeout is how long the engine may take for what waits, unless it was
	// away for longer.
	storeTimeout = 2 * time.Minute
)

// Run prints the memory.
func (c backpressureCmd) Run(ctx context.Context) error { return c.run(ctx, os.Stdout) }

func (c backpressureCmd) run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "auditrail-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	l := layouts()[1]
	broker, err := startBroker(ctx, filepath.Join(dir, "broker"), l)
	if err != nil {
		return err
	}
	defer broker.kill()
	data := filepath.Join(dir, "engine")
	engine, err := startEngine(ctx, anyPort, data)
	if err != nil {
		return err
	}
	defer engine.kill()
	cfg, err := defaults[ingest.Config]()
	if err != nil {
		return err
	}
	if cfg.Store, err = database(ctx, engine, "backpressure"); err != nil {
		return err
	}
	cfg.Kafka, cfg.Limits = kafkaAt(broker), c.Limits
	p, err := startChild(childSpec{Ingest: &ingestSpec{Config: cfg}})
	if err != nil {
		return err
	}
	defer p.kill()
	before, err := startLoad(cfg.Kafka, loadgen.Config{Count: storedBefore, Seed: 1})
	if err != nil {
		return err
	}
	if _, err := before.wait(); err != nil {
		return err
	}
	if err := storedOnce(ctx, cfg.Store, p, storedBefore, storeTimeout); err != nil {
		return err
	}
	if _, err := engine.stop(); err != nil {
		return err
	}

	sent := int64(c.Rate * c.For.Seconds())
	load, err := startLoad(cfg.Kafka, loadgen.Config{Count: sent, Rate: c.Rate, Seed: 2})
	if err != nil {
		return err
	}
	defer load.kill()
	if err := c.watch(ctx, p, load, out); err != nil {
		return err
	}
	back, err := startEngine(ctx, cfg.Store.Addr[0], data)
	if err != nil {
		return err
	}
	defer back.kill()
	began := time.Now()
	if err := storedOnce(ctx, cfg.Store, p, storedBefore+sent, max(storeTimeout, c.For)); err != nil {
		return err
	}
	took := time.Since(began)
	u, err := p.stop()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "engine back: all %d events are stored once, %s later; highest RSS %.1f MiB\n", storedBefore+sent, took.Round(time.Second), mib(u.Peak))
	return err
}

// startLoad runs the load generator with its flags as they are without a word,
// but for these.
func startLoad(at kafka.Config, c loadgen.Config) (*child, error) {
	cfg, err := defaults[loadgen.Config]()
	if err != nil {
		return nil, err
	}
	cfg.Kafka, cfg.Count, cfg.Rate, cfg.Seed = at, c.Count, c.Rate, c.Seed
	return startChild(childSpec{Load: &cfg})
}

// watch prints the memory of ingest until the load has been sent.
func (c backpressureCmd) watch(ctx context.Context, p, load *child, out io.Writer) error {
	fmt.Fprintf(out, "engine away, %g events/s\n%8s %10s %10s\n", c.Rate, "time", "RSS MiB", "highest")
	var low, high float64
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-load.replies:
			if !ok || r.Err != "" {
				return early(r, ok)
			}
			if low > 0 {
				fmt.Fprintf(out, "after %s: %.1f to %.1f MiB, spread %.1f%% (goal: %.0f%%)\n", settle, low, high, 100*(high-low)/low, goalSpread)
			}
			return nil
		case <-tick.C:
		}
		u, err := p.usage()
		if err != nil {
			return err
		}
		if u.Resident == 0 {
			return errors.New("the memory of a process is read from /proc, which only Linux has")
		}
		at, now := time.Since(began), mib(u.Resident)
		fmt.Fprintf(out, "%8s %10.1f %10.1f\n", at.Round(time.Second), now, mib(u.Peak))
		if at > settle {
			if low == 0 || now < low {
				low = now
			}
			high = max(high, now)
		}
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// storedOnce waits until the table holds n events, and no more, all different.
func storedOnce(ctx context.Context, at store.Config, p *child, n int64, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := store.Open(ctx, at)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only reads went through it
	rows, err := rowsOf(ctx, conn, p, uint64(n))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%d of %d events were stored within %s", rows, n, within)
	}
	if err != nil {
		return err
	}
	var ids uint64
	if err := conn.QueryRow(ctx, "SELECT uniqExact(id) FROM audit_events").Scan(&ids); err != nil {
		return err
	}
	if ids != rows {
		return fmt.Errorf("%d rows with %d ids are stored", rows, ids)
	}
	return nil
}
