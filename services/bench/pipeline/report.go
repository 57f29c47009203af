package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/reporter"
)

// reportCmd measures reports: from the record that asks for one to the record
// that it is Finished, with its file in a folder, against the same SELECT in the
// same format straight from the engine to nowhere, in turn. Then what memory the
// reporter takes for few and for many rows.
type reportCmd struct {
	Events int `help:"Rows of the largest report." default:"20000000"`
	Sample int `help:"Rows of the reports that are compared." default:"2000000"`
	Few    int `help:"Rows of the small report whose memory is shown." default:"1000000"`
	Rounds int `help:"Rounds, the dropped first one included." default:"6"`
}

// Validate names the first wrong value.
func (c reportCmd) Validate() error {
	switch {
	case c.Events < 1 || c.Sample < 1 || c.Few < 1:
		return fmt.Errorf("--events, --sample and --few must be at least 1, not %d, %d and %d", c.Events, c.Sample, c.Few)
	case c.Rounds < 2:
		return fmt.Errorf("--rounds must be at least 2, not %d: the first is dropped", c.Rounds)
	}
	return nil
}

const (
	// goalReport is the share of the engine's own rate that a report keeps.
	goalReport = 0.85
	// goalReportPeak is the memory that the reporter stays within, whatever the
	// report.
	goalReportPeak = 150 << 20
	// reportStep is the time between two rows, in milliseconds.
	reportStep = 100
)

// reportColumns are those of the seed.
var reportColumns = []string{
	"id", "action", "moduleName", "moduleCode", "userName", "userRole", "status", "userUuid", "customerUuid", "client", "sourceIp",
	"createdDate", "targetType", "targetName", "auditComment",
}

// output is what reports are compared as.
type output struct {
	name        string
	format      report.Format
	compression report.Compression
	shape       sqlgen.Shape
}

var outputs = []output{
	{"CSV", report.CSV, report.None, sqlgen.CSV{}},
	{"CSV, gzip", report.CSV, report.Gzip, sqlgen.CSV{}},
	{"Parquet", report.Parquet, report.None, sqlgen.Parquet{}},
}

// Run prints the tables.
func (c reportCmd) Run(ctx context.Context) error { return c.run(ctx, os.Stdout, os.Stderr) }

func (c reportCmd) run(ctx context.Context, out, status io.Writer) error {
	dir, err := os.MkdirTemp("", "auditrail-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	broker, err := startBroker(ctx, filepath.Join(dir, "broker"), layouts()[0])
	if err != nil {
		return err
	}
	defer broker.kill()
	web, err := freePort(ctx)
	if err != nil {
		return err
	}
	engine, err := startEngine(ctx, anyPort, filepath.Join(dir, "engine"), func(cfg *engine.Config) { cfg.HTTPAddr = web })
	if err != nil {
		return err
	}
	defer engine.kill()
	at, err := database(ctx, engine, "report")
	if err != nil {
		return err
	}
	opts := at.Options()
	opts.ReadTimeout = time.Hour // a whole file is one statement
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is buffered in it
	fmt.Fprintf(status, "storing %d rows\n", c.most())
	if err := fillReports(ctx, conn, c.most()); err != nil {
		return err
	}
	cfg, err := defaults[reporter.Config]()
	if err != nil {
		return err
	}
	cfg.Kafka, cfg.Store, cfg.HTTP, cfg.Files = kafkaAt(broker), at, store.HTTPConfig{Addr: []string{web}}, report.FilesConfig{URL: filepath.Join(dir, "reports")}
	table, err := report.Open(ctx, cfg.Kafka, zap.NewNop())
	if err != nil {
		return err
	}
	defer table.Close()
	b := reportBench{reportCmd: c, cfg: cfg, conn: conn, table: table, dir: dir, status: status}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	if err := b.compare(ctx, w); err != nil {
		return err
	}
	if err := b.memory(ctx, w); err != nil {
		return err
	}
	return w.Flush()
}

func (c reportCmd) most() int { return max(c.Events, c.Sample, c.Few) }

// freePort is an address of this host on which nobody listens.
func freePort(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", anyPort)
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// reportEnd is the date of the newest row.
var reportEnd = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// fillReports stores n rows of one customer, reportStep apart each.
func fillReports(ctx context.Context, conn driver.Conn, n int) error {
	const piece = 1_000_000
	for from := 0; from < n; from += piece {
		err := conn.Exec(ctx, fmt.Sprintf(`INSERT INTO audit_events (id, audit_enabled_app_id, application_name, module_code, module_name, user_name, user_role, user_uuid,
			customer_uuid, client, source_ip, created_date, target_type, target_name, action, status, audit_comment, external_change_link,
			business_unit, request_id, topic_id, kafka_partition, kafka_offset, appended_at, retention_days)
			SELECT generateUUIDv4(), number %% 20, 'Application ' || toString(number %% 20), 'M' || toString(number %% 20), 'Module ' || toString(number %% 20),
			'user_' || toString(number %% 3000), ['Manager', 'Reader', 'Auditor'][number %% 3 + 1], toString(toUUID(reinterpretAsUUID(sipHash128(number %% 3000)))),
			'c', ['Web UI', 'REST-API'][number %% 2 + 1], toIPv6('::ffff:10.1.' || toString(number %% 250) || '.7'), fromUnixTimestamp64Milli(toInt64(%d - number * %d), 'UTC') AS d,
			['User', 'Policy', 'Asset'][number %% 3 + 1], 'host-' || toString(number %% 100000) || '.example.com', ['Add', 'Update', 'Login'][number %% 3 + 1], 'Success',
			'Policy "' || hex(sipHash64(number)) || '" was added to ' || toString(number %% 777) || ' assets, by onboarding', 'https://portal.example.com/changes/' || toString(number),
			'EU', '', toUUID('00000000-0000-0000-0000-000000000001'), number %% 8, number, d, 20000 FROM numbers(%d, %d) SETTINGS materialize_skip_indexes_on_insert = 0`,
			reportEnd, reportStep, from, min(piece, n-from)))
		if err != nil {
			return err
		}
	}
	return nil
}

// reportBench is where reports are measured.
type reportBench struct {
	reportCmd
	cfg    reporter.Config
	conn   driver.Conn
	table  *report.Table
	dir    string
	status io.Writer
}

// spec is that of a report of the newest n rows.
func (b reportBench) spec(o output, n int) report.Spec {
	start, end := reportEnd-int64(n-1)*reportStep, reportEnd
	return report.Spec{
		Job: uuid.New(), Requester: report.Requester{CustomerUUID: "c", UserUUID: "u", UserName: "u", UserRole: identity.RoleManager},
		Name: "bench", Columns: reportColumns, Format: o.format, Compression: o.compression, Timezone: "UTC",
		Start: &start, End: &end, Now: reportEnd, Pin: sqlgen.Pin{Watermark: reportEnd + 1},
	}
}

// made asks for a report and waits for its end.
func (b reportBench) made(ctx context.Context, o output, n int) (*report.Job, time.Duration, error) {
	changed, stop := b.table.Watch()
	defer stop()
	began := time.Now()
	j, err := b.table.Create(ctx, b.spec(o, n))
	for err == nil && !j.State.Over() {
		select {
		case <-changed:
			j = b.table.Job(j.ID)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	switch {
	case err != nil:
		return nil, 0, err
	case j.State != report.StateFinished || j.End.Rows != int64(n):
		return nil, 0, fmt.Errorf("the report of %d rows is %s: %s; %+v", n, j.State, j.Reason, j.End)
	}
	return j, time.Since(began), nil
}

// compare makes reports and asks the engine, in turn.
func (b reportBench) compare(ctx context.Context, w io.Writer) error {
	p, err := startChild(childSpec{Report: &b.cfg})
	if err != nil {
		return err
	}
	defer p.kill()
	fmt.Fprintf(w, "%d rows\trows/s\tMB/s\tengine rows/s\tof the engine's rate\n", b.Sample)
	for _, o := range outputs {
		var ours, theirs, shares []float64
		var size int64
		for round := range b.Rounds {
			fmt.Fprintf(b.status, "%s: round %d of %d\n", o.name, round+1, b.Rounds)
			alone, err := b.engineAlone(ctx, o, b.Sample)
			if err != nil {
				return err
			}
			j, took, err := b.made(ctx, o, b.Sample)
			if err != nil {
				return err
			}
			if round == 0 {
				continue
			}
			ours, theirs, size = append(ours, took.Seconds()), append(theirs, alone.Seconds()), j.End.Bytes
			shares = append(shares, alone.Seconds()/took.Seconds()) // of one round: machines change their speed
		}
		our, their, share := middle(ours), middle(theirs), middle(shares)
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.0f\t%.2f (goal >= %.2f: %s)\n", o.name, float64(b.Sample)/our, float64(size)/1e6/our, float64(b.Sample)/their,
			share, goalReport, met(share >= goalReport))
	}
	_, err = p.stop()
	return err
}

// memory makes a small and a large report, each with a reporter of its own.
func (b reportBench) memory(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "\nrows of the report\tformat\trows/s\tMB/s\tpeak memory of the reporter\n")
	for _, n := range []int{b.Few, b.Events} {
		for _, o := range outputs {
			fmt.Fprintf(b.status, "%s: %d rows\n", o.name, n)
			p, err := startChild(childSpec{Report: &b.cfg})
			if err != nil {
				return err
			}
			j, took, err := b.made(ctx, o, n)
			if err != nil {
				p.kill()
				return err
			}
			used, err := p.usage()
			p.kill()
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%d\t%s\t%.0f\t%.1f\t%.0f MiB (goal <= %d: %s)\n", n, o.name, float64(n)/took.Seconds(), float64(j.End.Bytes)/1e6/took.Seconds(),
				float64(used.Peak)/(1<<20), goalReportPeak>>20, met(used.Peak <= goalReportPeak))
			if err := b.table.Remove(ctx, j.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func middle(some []float64) float64 {
	slices.Sort(some)
	n := len(some)
	return (some[(n-1)/2] + some[n/2]) / 2
}
