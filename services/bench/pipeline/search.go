package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/visibility"
	"github.com/auditrail/auditrail/services/internal/workload"
	"github.com/auditrail/auditrail/services/loadgen"
	"github.com/auditrail/auditrail/services/query"
)

// searchCmd measures searches over the events of the workload, all of them
// stored by ingest and merged: through the API, with tokens and visibility,
// against the same SQL straight to the engine; the rare word against a table
// with granules of 8192 rows; and searches beside events that flow.
type searchCmd struct {
	Events    int           `help:"Events to search." default:"20000000"`
	Rounds    int           `help:"Rounds, the dropped first one included." default:"21"`
	Searchers int           `help:"Searchers at a time while events flow." default:"32"`
	Rate      float64       `help:"Events a second that flow meanwhile." default:"20000"`
	For       time.Duration `help:"How long they flow. 0: leave that out." default:"30s"`
}

// Validate names the first wrong value.
func (c searchCmd) Validate() error {
	switch {
	case c.Events < 1:
		return fmt.Errorf("--events must be at least 1, not %d", c.Events)
	case c.Rounds < 2:
		return fmt.Errorf("--rounds must be at least 2, not %d: the first is dropped", c.Rounds)
	case c.Searchers < 1:
		return fmt.Errorf("--searchers must be at least 1, not %d", c.Searchers)
	case c.Rate <= 0:
		return fmt.Errorf("--rate must be above 0, not %g", c.Rate)
	case c.For < 0:
		return fmt.Errorf("--for must not be negative, not %s", c.For)
	}
	return nil
}

// What is promised, and what is aimed at.
const (
	goalAPIFactor = 1.2
	goalAPIMore   = 2 * time.Millisecond
	goalCoarse    = 0.6 // of the time with granules of 8192 rows
	goalRare      = 20 * time.Millisecond
	goalBytes     = 105.0
	aimBytes      = 95.0
)

// searchDays is the time that the events are spread over.
const searchDays = 90

// Run prints the tables.
func (c searchCmd) Run(ctx context.Context) error { return c.run(ctx, os.Stdout, os.Stderr) }

func (c searchCmd) run(ctx context.Context, out, status io.Writer) error {
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
	engine, err := startEngine(ctx, anyPort, filepath.Join(dir, "engine"))
	if err != nil {
		return err
	}
	defer engine.kill()
	at, err := database(ctx, engine, "search")
	if err != nil {
		return err
	}
	opts := at.Options()
	opts.ReadTimeout = time.Hour // merging everything is one statement
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only reads went through it
	cfg, err := defaults[ingest.Config]()
	if err != nil {
		return err
	}
	cfg.Kafka, cfg.Store = kafkaAt(broker), at
	p, err := startChild(childSpec{Ingest: &ingestSpec{Config: cfg}})
	if err != nil {
		return err
	}
	defer p.kill()
	w := workload.Default()
	w.Events, w.Days, w.End = int64(c.Events), searchDays, time.Now().UnixMilli()
	began := time.Now()
	if err := c.fill(ctx, broker, conn, l, w, status); err != nil {
		return err
	}
	fmt.Fprintf(status, "merged after %s; copying to granules of 8192 rows\n", time.Since(began).Round(time.Second))
	if err := coarse(ctx, conn); err != nil {
		return err
	}
	s := stage{searchCmd: c, conn: conn, over: span{w.End - searchDays*24*time.Hour.Milliseconds(), w.End}}
	if err := s.open(ctx, dir, broker, at, cfg.Group, w); err != nil {
		return err
	}
	defer s.api.kill()
	if err := s.compare(ctx, out, status); err != nil {
		return err
	}
	if c.For == 0 {
		return nil
	}
	return s.beside(ctx, out, status, broker)
}

// fill stores the events and merges each month's into one part.
func (c searchCmd) fill(ctx context.Context, broker *child, conn driver.Conn, l layout, w workload.Config, status io.Writer) error {
	fmt.Fprintf(status, "storing %d events\n", c.Events)
	if err := preload(ctx, kafkaAt(broker), l, w, c.Events); err != nil {
		return err
	}
	for rows := uint64(0); rows < uint64(c.Events); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(countEvery):
		}
		if err := conn.QueryRow(ctx, "SELECT count() FROM audit_events").Scan(&rows); err != nil {
			return err
		}
		if rows > uint64(c.Events) {
			return fmt.Errorf("%d rows of %d events", rows, c.Events)
		}
	}
	fmt.Fprintln(status, "stored; merging")
	return conn.Exec(ctx, "OPTIMIZE TABLE audit_events FINAL")
}

// coarseTable is audit_events with granules of 8192 rows.
const coarseTable = "audit_events_8192"

func coarse(ctx context.Context, conn driver.Conn) error {
	var ddl string
	if err := conn.QueryRow(ctx, "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'audit_events'").Scan(&ddl); err != nil {
		return err
	}
	const fine, rough = "index_granularity = 1024", "index_granularity = 8192"
	if !strings.Contains(ddl, fine) {
		return errors.New("audit_events does not say " + fine)
	}
	ddl = strings.NewReplacer(".audit_events", "."+coarseTable, fine, rough).Replace(ddl)
	for _, sql := range []string{
		ddl,
		// Like ingest, it leaves the indexes to the merges.
		"INSERT INTO " + coarseTable + " SELECT * FROM audit_events SETTINGS max_threads = 1, materialize_skip_indexes_on_insert = 0",
		"OPTIMIZE TABLE " + coarseTable + " FINAL",
	} {
		if err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// stage is where searches are measured.
type stage struct {
	searchCmd
	conn    driver.Conn
	over    span
	api     *child
	clients []client // of the largest customers, the largest first
	see     visibility.Predicate
	user    workload.User // a busy one of the largest customer
}

// callers is how many customers search while events flow.
const callers = 20

// open starts the query service and logs callers in.
func (s *stage) open(ctx context.Context, dir string, broker *child, at store.Config, group string, w workload.Config) error {
	issuer, err := identity.OpenIssuer(dir)
	if err != nil {
		return err
	}
	cfg, err := defaults[query.Config]()
	if err != nil {
		return err
	}
	cfg.Store, cfg.Kafka, cfg.Identity, cfg.IngestGroup = at, kafkaAt(broker), issuer.Config(), group
	gen, err := workload.New(w)
	if err != nil {
		return err
	}
	customers := gen.Customers()
	if s.api, err = startChild(childSpec{Query: &cfg}); err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: s.Searchers}
	for i, customer := range customers[:min(callers, len(customers))] {
		id := identity.Identity{CustomerUUID: customer.UUID, UserUUID: "bench", Name: "bench", Role: identity.RoleManager}
		token, err := issuer.Mint(id, 12*time.Hour)
		if err != nil {
			return err
		}
		s.clients = append(s.clients, client{http: &http.Client{Transport: transport}, base: "http://" + s.api.addr, token: token})
		if i == 0 {
			s.see, s.user = visibility.For(id), customer.Users[0]
		}
	}
	// It knows settings and positions a moment after it listens.
	for {
		path, body, err := search{pageSize: 1}.body(s.over)
		if err != nil {
			return err
		}
		var no *refusal
		if _, err = s.clients[0].ask(ctx, path, body); !errors.As(err, &no) || no.status != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(countEvery):
		}
	}
}

// compare asks each question both ways, in turn, and prints the table.
func (s *stage) compare(ctx context.Context, out, status io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "%d events, largest customer\tfound\tAPI p50\tp95\tengine p50\tp95\tratio\tgoal: p50 <= %.1fx + %s\n", s.Events, goalAPIFactor, goalAPIMore)
	for _, q := range searches(s.user) {
		fmt.Fprintln(status, q.name)
		path, body, err := q.body(s.over)
		if err != nil {
			return err
		}
		statements, err := q.statements(s.see, s.over)
		if err != nil {
			return err
		}
		var found [2]uint64
		times, err := alternate(s.Rounds,
			func() (err error) { found[0], err = s.clients[0].ask(ctx, path, body); return err },
			func() (err error) { found[1], err = straight(ctx, s.conn, statements); return err })
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		if found[0] != found[1] {
			return fmt.Errorf("%s: the API found %d events, the engine %d", q.name, found[0], found[1])
		}
		api, engine := quantile(times[0], 0.5), quantile(times[1], 0.5)
		limit := time.Duration(goalAPIFactor*float64(engine)) + goalAPIMore
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%.2f\t%s\n", q.name, found[0], inMS(api), inMS(quantile(times[0], 0.95)), inMS(engine), inMS(quantile(times[1], 0.95)),
			float64(api)/float64(engine), met(api <= limit))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return s.layout(ctx, out, status)
}

// layout compares the table with one of granules of 8192 rows.
func (s *stage) layout(ctx context.Context, out, status io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nnewest 100, engine alone\tp50\tp95\t8192 p50\tp95\tratio\tgoal")
	for _, q := range searches(s.user) {
		if !strings.Contains(q.name, "rare word") {
			continue
		}
		fmt.Fprintln(status, q.name+", 8192 rows a granule")
		statements, err := q.statements(s.see, s.over)
		if err != nil {
			return err
		}
		page := statements[0]
		rough := strings.Replace(page.SQL(), " FROM audit_events ", " FROM "+coarseTable+" ", 1)
		ask := func(sql string) func() error {
			return func() error { _, err := answer1(ctx, s.conn, page, sql); return err }
		}
		times, err := alternate(s.Rounds, ask(page.SQL()), ask(rough))
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		ours, theirs := quantile(times[0], 0.5), quantile(times[1], 0.5)
		ratio := float64(ours) / float64(theirs)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t<= %.1fx: %s; aim <= %s: %s\n", q.name, inMS(ours), inMS(quantile(times[0], 0.95)), inMS(theirs), inMS(quantile(times[1], 0.95)),
			ratio, goalCoarse, met(ratio <= goalCoarse), goalRare, met(ours <= goalRare))
	}
	var fine, rough float64
	for table, size := range map[string]*float64{"audit_events": &fine, coarseTable: &rough} {
		if err := s.conn.QueryRow(ctx, "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND database = currentDatabase() AND table = '"+table+"'").Scan(size); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\nbytes an event, all in all\t%.1f\t\t%.1f\t\t%.2f\t<= %.0f: %s; aim <= %.0f: %s\n", fine, rough, fine/rough, goalBytes, met(fine <= goalBytes), aimBytes, met(fine <= aimBytes))
	return w.Flush()
}

// beside searches while events flow.
func (s *stage) beside(ctx context.Context, out, status io.Writer, broker *child) error {
	fmt.Fprintf(status, "%d searchers beside %.0f events/s\n", s.Searchers, s.Rate)
	cfg, err := defaults[loadgen.Config]()
	if err != nil {
		return err
	}
	cfg.Kafka, cfg.Rate = kafkaAt(broker), s.Rate
	load, err := startChild(childSpec{Load: &cfg})
	if err != nil {
		return err
	}
	defer load.kill()
	var before, after uint64
	const count = "SELECT count() FROM audit_events"
	if err := s.conn.QueryRow(ctx, count).Scan(&before); err != nil {
		return err
	}
	began := time.Now()
	over := span{s.over.from, s.over.to + s.For.Milliseconds()}
	questions := searches(s.user)
	times := make([][]time.Duration, len(questions))
	refused := 0
	var mu sync.Mutex
	var g sync.WaitGroup
	var failed error
	for n := range s.Searchers {
		g.Go(func() {
			for i := n; time.Since(began) < s.For; i++ {
				q := i % len(questions)
				path, body, err := questions[q].body(over)
				start := time.Now()
				if err == nil {
					_, err = s.clients[(i+n)%len(s.clients)].ask(ctx, path, body)
				}
				took := time.Since(start)
				var no *refusal
				mu.Lock()
				switch {
				case errors.As(err, &no) && no.status == http.StatusServiceUnavailable:
					refused++
				case err != nil:
					failed = errors.Join(failed, err)
				default:
					times[q] = append(times[q], took)
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	g.Wait()
	if failed != nil {
		return failed
	}
	took := time.Since(began)
	if err := s.conn.QueryRow(ctx, count).Scan(&after); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "\n%d searchers of %d customers, %.0f events/s sent, %.0f stored\tsearches\tp50\tp99\n", s.Searchers, len(s.clients), s.Rate, float64(after-before)/took.Seconds())
	var all []time.Duration
	for i, q := range questions {
		slices.Sort(times[i])
		all = append(all, times[i]...)
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", q.name, len(times[i]), inMS(quantile(times[i], 0.5)), inMS(quantile(times[i], 0.99)))
	}
	slices.Sort(all)
	fmt.Fprintf(w, "all\t%d\t%s\t%s\nrefused (503)\t%d\nsearches/s\t%.0f\n", len(all), inMS(quantile(all, 0.5)), inMS(quantile(all, 0.99)), refused, float64(len(all))/took.Seconds())
	return w.Flush()
}

// alternate runs ways in turn, so that all meet the same machine, and returns
// their sorted times, the first round's left out.
func alternate(rounds int, ways ...func() error) ([][]time.Duration, error) {
	times := make([][]time.Duration, len(ways))
	for round := range rounds {
		for i, way := range ways {
			began := time.Now()
			if err := way(); err != nil {
				return nil, err
			}
			if round > 0 {
				times[i] = append(times[i], time.Since(began))
			}
		}
	}
	for _, t := range times {
		slices.Sort(t)
	}
	return times, nil
}

func inMS(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// destinations are fit to scan a row into.
func destinations(rows driver.Rows) []any {
	var dest []any
	for _, c := range rows.ColumnTypes() {
		dest = append(dest, reflect.New(c.ScanType()).Interface())
	}
	return dest
}
