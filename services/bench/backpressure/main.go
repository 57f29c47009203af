// Backpressure shows that ingest's memory stays flat while ClickHouse is away
// and events keep coming:
//
//	make bench-backpressure ARGS="--for 3m"
//
// It starts broker, engine and ingest as processes of their own, stores some
// events, ends the engine, sends events at a rate and prints the resident
// memory of ingest every 10 s; then it starts the engine again and waits until
// every event is stored once. The figure is the spread of the memory after the
// first minute; the goal is 10%.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/auditrail/auditrail/services/internal/store"
)

type options struct {
	For   time.Duration `name:"for" help:"How long the engine is away." default:"10m"`
	Rate  float64       `help:"Events a second." default:"5000"`
	Every time.Duration `help:"Time between two lines." default:"10s"`
	Flags []string      `name:"ingest-flag" help:"Flag for ingest, such as --ingest-flag=--ingest-memory=64MiB (repeatable)."`
}

// settle is how long the memory may take to reach its height.
const settle = time.Minute

// goal is how far apart the lowest and the highest figure may be.
const goal = 10.0

func main() {
	var o options
	kong.Parse(&o, kong.Name("backpressure"), kong.Description("Memory of ingest while ClickHouse is away. See the package documentation."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "backpressure:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "auditrail-backpressure-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			_ = os.RemoveAll(dir)
		} else {
			fmt.Fprintln(out, "the logs are in", dir)
		}
	}()
	s, err := start(ctx, dir, o.Flags)
	if err != nil {
		return err
	}
	defer s.end()
	const before = 10_000
	if err := s.load(ctx, "--count", fmt.Sprint(before), "--rate", "0"); err != nil {
		return err
	}
	if err := s.stored(ctx, before, time.Minute); err != nil {
		return err
	}
	s.engine.stop()

	sent := int64(o.Rate * o.For.Seconds())
	loading := make(chan error, 1)
	go func() {
		loading <- s.load(ctx, "--count", fmt.Sprint(sent), "--rate", fmt.Sprint(o.Rate), "--seed", "2")
	}()
	fmt.Fprintf(out, "engine away, %g events/s\n%8s %10s %10s\n", o.Rate, "time", "RSS MiB", "highest")
	var low, high float64
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-loading:
			if err != nil {
				return err
			}
			loading = nil
		case <-tick.C:
		}
		if loading == nil {
			break
		}
		rss, peak, err := s.ingest.memory()
		if err != nil {
			return err
		}
		at := time.Since(began)
		fmt.Fprintf(out, "%8s %10.1f %10.1f\n", at.Round(time.Second), rss, peak)
		if at > settle {
			if low == 0 || rss < low {
				low = rss
			}
			high = max(high, rss)
		}
	}
	if low > 0 {
		fmt.Fprintf(out, "after %s: %.1f to %.1f MiB, spread %.1f%% (goal: %.0f%%)\n", settle, low, high, 100*(high-low)/low, goal)
	}
	if err := s.engine.start(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := s.stored(ctx, before+sent, max(2*time.Minute, o.For)); err != nil {
		return err
	}
	_, peak, err := s.ingest.memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "engine back: all %d events are stored once, %s later; highest RSS %.1f MiB\n", before+sent, time.Since(began).Round(time.Second), peak)
	return nil
}

// stored waits until the table holds n events, and no more, all different.
func (s *services) stored(ctx context.Context, n int64, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := store.Open(ctx, store.Config{Addr: []string{s.native}, Database: "default", User: "default"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing to lose
	for {
		var rows uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM audit_events").Scan(&rows); err != nil {
			return err
		}
		if rows >= uint64(n) {
			var ids uint64
			if err := conn.QueryRow(ctx, "SELECT uniqExact(id) FROM audit_events").Scan(&ids); err != nil {
				return err
			}
			if rows != uint64(n) || ids != rows {
				return fmt.Errorf("%d rows with %d ids are stored, want %d of both", rows, ids, n)
			}
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d events were stored within %s", rows, n, within)
		}
	}
}

func path(dir string) string { return filepath.Join(dir, "auditrail") }
