package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/workload"
	"github.com/auditrail/auditrail/services/loadgen"
)

// freshnessCmd measures the time from an event's emission until a search finds
// it. Probes are events of customers of their own, emitted through the SDK
// beside the load, in turn to each topic. One query, again and again, finds
// those that have become searchable; a probe's time ends when the query that
// found it has ended. So a time is too long by up to the column "looked every",
// never too short.
type freshnessCmd struct {
	Rates   []float64     `help:"Events a second to emit." default:"1000,20000"`
	For     time.Duration `help:"How long to measure each rate." default:"30s"`
	Warm    time.Duration `help:"How long the load runs before." default:"5s"`
	Backlog int           `help:"Events that wait in Kafka when ingest starts, for the time of catching up. 0: leave that out." default:"300000"`
	Layout  string        `help:"Only the layout of this name." default:""`
}

// Validate names the first wrong value.
func (c freshnessCmd) Validate() error {
	switch {
	case c.For <= 0:
		return fmt.Errorf("--for must be above 0, not %s", c.For)
	case c.Backlog < 0:
		return fmt.Errorf("--backlog must not be negative, not %d", c.Backlog)
	}
	for _, r := range c.Rates {
		if r <= 0 {
			return fmt.Errorf("--rates must be above 0, not %g", r)
		}
	}
	return nil
}

// goalFresh is the 99th percentile that is promised up to goalFreshRate.
const (
	goalFresh     = time.Second
	goalFreshRate = 20_000
	// catchUpRate is the load beside a backlog.
	catchUpRate = 1000
)

// Run prints the table.
func (c freshnessCmd) Run(ctx context.Context) error { return c.run(ctx, os.Stdout, os.Stderr) }

func (c freshnessCmd) run(ctx context.Context, out, status io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "load\tp50\tp99\tslowest\tgoal\tprobes\tlooked every\tstored/s\tparts/min\tmerges/min\tmerged/stored\tparts left\tcores: ingest\tengine\tbroker\temitter")
	for _, l := range layouts() {
		if c.Layout != "" && c.Layout != l.name {
			continue
		}
		for _, rate := range c.Rates {
			s := scene{layout: l, rate: rate, warm: c.Warm, length: c.For}
			fmt.Fprintln(status, s.name())
			if err := s.play(ctx, w); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
		}
		if c.Backlog > 0 {
			s := scene{layout: l, rate: catchUpRate, backlog: c.Backlog}
			fmt.Fprintln(status, s.name())
			if err := s.play(ctx, w); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	return w.Flush()
}

// scene is one line of the table, on a broker and an engine of its own.
type scene struct {
	layout  layout
	rate    float64
	warm    time.Duration // before the measurement begins
	length  time.Duration // of the measurement; without a backlog
	backlog int           // measured is the time until it is stored; 0: none
}

func (s scene) name() string {
	if s.backlog > 0 {
		return fmt.Sprintf("%s, %d waiting and %.0f/s", s.layout.name, s.backlog, s.rate)
	}
	return fmt.Sprintf("%s, %.0f/s", s.layout.name, s.rate)
}

// cast are the processes of a scene, in the order of the table's columns.
type cast struct{ ingest, engine, broker, emitter *child }

func (c cast) all() []*child { return []*child{c.ingest, c.engine, c.broker, c.emitter} }

func (s scene) play(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "auditrail-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	var c cast
	if c.broker, err = startBroker(ctx, filepath.Join(dir, "broker"), s.layout); err != nil {
		return err
	}
	defer c.broker.kill()
	if c.engine, err = startEngine(ctx, anyPort, filepath.Join(dir, "engine")); err != nil {
		return err
	}
	defer c.engine.kill()
	at, err := database(ctx, c.engine, "freshness")
	if err != nil {
		return err
	}
	if s.backlog > 0 {
		w := workload.Default()
		w.Days, w.End = 0, time.Now().UnixMilli()
		if err := preload(ctx, kafkaAt(c.broker), s.layout, w, s.backlog); err != nil {
			return err
		}
	}
	conn, err := store.Open(ctx, at)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only reads went through it
	cfg, err := defaults[ingest.Config]()
	if err != nil {
		return err
	}
	cfg.Kafka, cfg.Store = kafkaAt(c.broker), at
	if c.ingest, err = startChild(childSpec{Ingest: &ingestSpec{Config: cfg}}); err != nil {
		return err
	}
	defer c.ingest.kill()
	load, err := defaults[loadgen.Config]()
	if err != nil {
		return err
	}
	load.Kafka, load.Rate = cfg.Kafka, s.rate
	if len(s.layout.modules) == 1 {
		load.Module = s.layout.modules[0]
	}
	if c.emitter, err = startChild(childSpec{Load: &load}); err != nil {
		return err
	}
	defer c.emitter.kill()
	p, err := startProbes(ctx, c.broker.addr, s.layout.modules, conn)
	if err != nil {
		return err
	}
	measured, err := s.measure(ctx, c, p, conn)
	if err := errors.Join(err, p.stop(ctx)); err != nil {
		return err
	}
	return measured.print(out, s, p)
}

// state is what the parts of a scene have done so far.
type state struct {
	at     time.Time
	rows   uint64
	parts  uint64 // that are there
	engine map[string]uint64
	used   []usage
}

// Counters of the engine that are looked at.
const (
	eventParts  = "MergeTreeDataWriterBlocks"
	eventMerges = "Merge"
	eventMerged = "MergedRows"
)

func (c cast) state(ctx context.Context, conn driver.Conn) (state, error) {
	s := state{at: time.Now(), engine: map[string]uint64{}}
	if err := conn.QueryRow(ctx, "SELECT count() FROM audit_events").Scan(&s.rows); err != nil {
		return s, err
	}
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.parts WHERE active AND database = currentDatabase() AND table = 'audit_events'").Scan(&s.parts); err != nil {
		return s, err
	}
	for _, event := range []string{eventParts, eventMerges, eventMerged} {
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT sum(value) FROM system.events WHERE event = '"+event+"'").Scan(&n); err != nil {
			return s, err
		}
		s.engine[event] = n
	}
	var err error
	s.used, err = usages(c.all()...)
	return s, err
}

// measurement is what happened between two states.
type measurement struct{ from, to state }

// measure waits for the scene's time to pass, or for its backlog to be stored.
func (s scene) measure(ctx context.Context, c cast, p *probes, conn driver.Conn) (m measurement, err error) {
	if err := p.pass(ctx, s.warm); err != nil {
		return m, err
	}
	if m.from, err = c.state(ctx, conn); err != nil {
		return m, err
	}
	p.begin()
	if s.backlog == 0 {
		err = p.pass(ctx, s.length)
	}
	for rows := uint64(0); err == nil && rows < uint64(s.backlog); {
		if err = p.pass(ctx, countEvery); err == nil {
			err = conn.QueryRow(ctx, "SELECT count() FROM audit_events").Scan(&rows)
		}
	}
	p.end()
	if err != nil {
		return m, err
	}
	m.to, err = c.state(ctx, conn)
	return m, err
}

// loadReached is the share of the rate that must have been stored for a verdict.
const loadReached = 0.95

func (m measurement) print(out io.Writer, s scene, p *probes) error {
	took := m.to.at.Sub(m.from.at)
	a := p.answer()
	goal := "-"
	rows := float64(m.to.rows - m.from.rows)
	if s.backlog == 0 && s.rate <= goalFreshRate {
		goal = "<= " + goalFresh.String() + ": " + met(a.p99 <= goalFresh)
		if rows/took.Seconds() < loadReached*float64(s.rate) {
			goal = "load not reached"
		}
	}
	a1 := func(event string) float64 { return float64(m.to.engine[event] - m.from.engine[event]) }
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + " ms" }
	fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%.0f\t%.0f\t%.0f\t%.1f\t%d", s.name(), ms(a.p50), ms(a.p99), ms(a.slowest), goal, a.probes, ms(a.every),
		rows/took.Seconds(), a1(eventParts)/took.Minutes(), a1(eventMerges)/took.Minutes(), a1(eventMerged)/max(rows, 1), m.to.parts)
	for i := range m.to.used {
		fmt.Fprintf(out, "\t%.2f", m.to.used[i].since(m.from.used[i]).CPU.Seconds()/took.Seconds())
	}
	_, err := fmt.Fprintln(out)
	return err
}
