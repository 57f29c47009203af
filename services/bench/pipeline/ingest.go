package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// ingestCmd compares ingest with the limit, or looks at ingest into the engine.
type ingestCmd struct {
	Events  int    `help:"Events in the topics." default:"1000000"`
	Rounds  int    `help:"Rounds, the dropped first one included." default:"6"`
	Engine  bool   `help:"Insert into the real engine, and show whose CPU time it takes."`
	Profile string `help:"File for ingest's CPU profile; with several layouts the last one's. Empty: a temporary one."`
	Layout  string `help:"Only the layout of this name." default:""`
}

// Validate names the first wrong value.
func (c ingestCmd) Validate() error {
	switch {
	case c.Events < 1:
		return fmt.Errorf("--events must be at least 1, not %d", c.Events)
	case c.Rounds < 2:
		return fmt.Errorf("--rounds must be at least 2, not %d: the first is dropped", c.Rounds)
	}
	return nil
}

// Run prints the tables.
func (c ingestCmd) Run(ctx context.Context) error { return c.run(ctx, os.Stdout, os.Stderr) }

func (c ingestCmd) run(ctx context.Context, out, status io.Writer) error {
	for _, l := range layouts() {
		if c.Layout != "" && c.Layout != l.name {
			continue
		}
		if err := c.layout(ctx, l, out, status); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// layout measures one layout on a broker of its own.
func (c ingestCmd) layout(ctx context.Context, l layout, out, status io.Writer) error {
	dir, err := os.MkdirTemp("", "auditrail-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	fmt.Fprintf(status, "%s: writing %d events\n", l.name, c.Events)
	broker, err := startBroker(ctx, dir, l)
	if err != nil {
		return err
	}
	defer broker.kill()
	events := workload.Default()
	events.End = time.Now().UnixMilli() // valid by the broker's clock
	if err := preload(ctx, kafkaAt(broker), l, events, c.Events); err != nil {
		return err
	}
	if c.Engine {
		return c.intoEngine(ctx, l, dir, broker, out, status)
	}
	return c.againstLimit(ctx, l, dir, broker, out, status)
}

// passTimeout bounds one pass.
const passTimeout = 5 * time.Minute

// run is one pass over all events.
type run struct {
	usage usage
	wall  time.Duration // from the start of the process to the last row
}

func (c ingestCmd) againstLimit(ctx context.Context, l layout, dir string, broker *child, out, status io.Writer) error {
	d, err := newDiscard(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	var ours, theirs []run
	for round := range c.Rounds {
		fmt.Fprintf(status, "%s: round %d of %d\n", l.name, round+1, c.Rounds)
		group := fmt.Sprintf("round-%d", round)
		var t, o run
		theirTurn := func() (err error) {
			t, err = c.discarded(ctx, d, childSpec{Limit: &limitSpec{Kafka: broker.addr, ClickHouse: d.addr(), Group: "limit-" + group, Topics: l.topics(), Records: c.Events}})
			return err
		}
		ourTurn := func() (err error) {
			o, err = c.ours(ctx, d, broker, group, "")
			return err
		}
		first, second := theirTurn, ourTurn
		if round%2 == 1 {
			first, second = second, first
		}
		if err := errors.Join(first(), second()); err != nil {
			return err
		}
		if round == 0 {
			continue // it warms the machine up
		}
		theirs, ours = append(theirs, t), append(ours, o)
	}
	if err := c.table(out, l, ours, theirs); err != nil {
		return err
	}
	profile := c.Profile
	if profile == "" {
		profile = filepath.Join(dir, "ingest.pprof")
	}
	if _, err := c.ours(ctx, d, broker, "profile", profile); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return top(ctx, out, profile)
}

// ours runs ingest over all events, into the server that discards them.
func (c ingestCmd) ours(ctx context.Context, d *discard, broker *child, group, profile string) (run, error) {
	cfg, err := defaults[ingest.Config]()
	if err != nil {
		return run{}, err
	}
	cfg.Kafka, cfg.Group = kafkaAt(broker), group
	cfg.Store.Addr = []string{d.addr()}
	return c.discarded(ctx, d, childSpec{Ingest: &ingestSpec{Config: cfg, Profile: profile}})
}

// discarded runs a process until every event has come out of it, and lets it
// finish.
func (c ingestCmd) discarded(ctx context.Context, d *discard, spec childSpec) (run, error) {
	filled := d.expect(c.Events)
	began := time.Now()
	p, err := startChild(spec)
	if err != nil {
		return run{}, err
	}
	defer p.kill()
	if spec.Limit != nil { // it ends by itself
		u, err := p.wait()
		return run{usage: u, wall: time.Since(began)}, errors.Join(err, c.complete(d))
	}
	select {
	case <-filled:
	case <-time.After(passTimeout):
		rows, err := d.count()
		return run{}, errors.Join(fmt.Errorf("%d rows of %d events arrived within %s", rows, c.Events, passTimeout), err)
	case r, ok := <-p.replies:
		return run{}, early(r, ok)
	case <-ctx.Done():
		return run{}, ctx.Err()
	}
	wall := time.Since(began)
	u, err := p.stop()
	return run{usage: u, wall: wall}, errors.Join(err, c.complete(d))
}

// complete makes sure that every event arrived, and none twice.
func (c ingestCmd) complete(d *discard) error {
	rows, err := d.count()
	if err == nil && rows != c.Events {
		err = fmt.Errorf("%d rows arrived of %d events", rows, c.Events)
	}
	return err
}

// top prints the functions that took most of the profiled CPU time.
func top(ctx context.Context, out io.Writer, profile string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=15", self, profile).Output() //nolint:gosec // the toolchain
	if err != nil {
		return fmt.Errorf("go tool pprof: %w", err)
	}
	_, table, _ := strings.Cut(string(text), "flat  flat%")
	_, err = fmt.Fprintf(out, "\nCPU profile of ingest\n      flat  flat%%%s\n", table)
	return err
}
