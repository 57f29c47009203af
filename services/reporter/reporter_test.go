package reporter

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// deadline bounds every wait; it is only met by a failure.
const deadline = 90 * time.Second

// desk is where a test asks for reports: real Kafka, ClickHouse and files.
type desk struct {
	t     *testing.T
	cfg   Config
	conn  driver.Conn
	table *report.Table
	files *report.Files
}

// newDesk makes a desk with tables and topics, and no reporter.
func newDesk(t *testing.T) *desk {
	t.Helper()
	e := testenv.ClickHouse(t)
	conn, _ := openStore(t, e)
	return newDeskOn(t, testenv.Kafka(t), e, conn)
}

func newDeskOn(t *testing.T, at kafka.Config, e *testenv.Engine, conn driver.Conn) *desk {
	t.Helper()
	d := &desk{t: t, conn: conn, cfg: Config{
		Kafka: at, Store: e.Config(), HTTP: store.HTTPConfig{Addr: []string{e.HTTPAddr}}, Files: report.FilesConfig{URL: testenv.ObjectStore(t)},
		Limits: Limits{ChunkRows: 1000}, Lease: 3 * time.Second, Pause: 50 * time.Millisecond,
	}}
	cl, err := kafka.Open(t.Context(), at, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Modules: []string{"PM"}, Partitions: 1, Replication: 1, Retention: 1000 * time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	if d.table, err = report.Open(t.Context(), at, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.table.Close)
	d.open()
	return d
}

// open opens the object store of the configuration.
func (d *desk) open() {
	d.t.Helper()
	var err error
	if d.files, err = report.OpenFiles(d.t.Context(), d.cfg.Files); err != nil {
		d.t.Fatal(err)
	}
	files := d.files
	d.t.Cleanup(func() { _ = files.Close() })
}

// start runs a replica until stop is called.
func (d *desk) start(edit ...func(*Config)) (stop func()) {
	d.t.Helper()
	cfg := d.cfg
	for _, f := range edit {
		f(&cfg)
	}
	log := zaptest.NewLogger(d.t)
	return testenv.Run(d.t, deadline, func(ctx context.Context) error { return Run(ctx, cfg, Deps{Log: log, Ops: ops.New(log)}) })
}

// dates is how many offsets it takes until dates repeat.
const dates = 4900

// fill stores n events of a customer at offsets from on. Always some have the
// same date: neighbours, and those that come later.
func (d *desk) fill(customer string, from, n int) {
	d.t.Helper()
	if err := d.tryFill(customer, from, n); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) tryFill(customer string, from, n int) error {
	return d.conn.Exec(d.t.Context(), fmt.Sprintf(`INSERT INTO audit_events (id, customer_uuid, created_date, user_uuid, user_name, action, module_code, module_name,
		audit_comment, topic_id, kafka_partition, kafka_offset, appended_at, retention_days)
		SELECT reinterpretAsUUID(sipHash128('%s', number)), '%s', toDateTime64('2026-06-30 00:00:00', 3, 'UTC') - toIntervalMillisecond(intDiv(number %% %d, 7) * 5),
		'user-' || toString(number %% 50), 'jack', 'Add', 'PM', 'Patch Management', 'comment, "' || hex(sipHash64(number)) || '"',
		toUUID('%s'), 0, number, now64(3), 20000 FROM numbers(%d, %d)`, customer, customer, dates, someTopic, from, n))
}

var someTopic = uuid.MustParse("00000000-0000-0000-0000-000000000001")

// spec of a report of all that a customer has at offsets before next.
func spec(customer string, next int64, edit ...func(*report.Spec)) report.Spec {
	s := report.Spec{
		Job: uuid.New(), Requester: report.Requester{CustomerUUID: customer, UserUUID: "u", UserName: "jack", UserRole: identity.RoleManager},
		Name: "all", Columns: []string{"id", "createdDate", "userUuid", "auditComment"}, Format: report.CSV, Compression: report.None, Timezone: "UTC",
		Now: time.Now().UnixMilli(),
		Pin: sqlgen.Pin{Partitions: []sqlgen.PinnedPartition{{Topic: "t", TopicID: someTopic, Next: next}}},
	}
	for _, f := range edit {
		f(&s)
	}
	return s
}

func (d *desk) create(s report.Spec) *report.Job {
	d.t.Helper()
	j, err := d.table.Create(d.t.Context(), s)
	if err != nil {
		d.t.Fatal(err)
	}
	return j
}

// until waits until the job is as done says.
func (d *desk) until(id int64, what string, done func(*report.Job) bool) *report.Job {
	d.t.Helper()
	var j *report.Job
	testenv.Until(d.t, deadline, nil, fmt.Sprintf("report %d: %s", id, what), func() (bool, string) {
		j = d.table.Job(id)
		if j == nil {
			return false, "nothing"
		}
		return done(j), fmt.Sprintf("%s (%s) of %d with %d chunks, progress %+v", j.State, j.Reason, j.Owner, len(j.Chunks), j.Progress)
	})
	return j
}

func (d *desk) finished(id int64) *report.Job {
	d.t.Helper()
	return d.until(id, "to finish", func(j *report.Job) bool { return j.State == report.StateFinished })
}

// download is the file of a finished job, each part and the whole held against
// the manifest.
func (d *desk) download(j *report.Job) ([]byte, *report.Manifest) {
	d.t.Helper()
	m, _, err := d.files.Manifest(d.t.Context(), j)
	if err != nil {
		d.t.Fatal(err)
	}
	var file bytes.Buffer
	var rows int64
	to := int64(-1)
	for i, p := range m.Parts {
		r, err := d.files.Read(d.t.Context(), p.Object, p.Offset, p.Bytes)
		if err != nil {
			d.t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		_ = r.Close()
		file.Write(b)
		if err != nil || int64(len(b)) != p.Bytes || digest(file.Bytes()) != p.SHA256 {
			d.t.Fatalf("part %d, %s: %d bytes, %v, want %d up to %s", i, p.Object, len(b), err, p.Bytes, p.SHA256)
		}
		rows += p.Rows
		if p.Span != nil {
			if to >= 0 && p.To != to {
				d.t.Errorf("part %d ends at %d, the one before begins at %d", i, p.To, to)
			}
			to = p.From
		}
	}
	sum := sha256.Sum256(file.Bytes())
	if got := hex.EncodeToString(sum[:]); got != m.SHA256 || got != j.End.SHA256 || int64(file.Len()) != m.Bytes || m.Bytes != j.End.Bytes || rows != m.Rows || m.Rows != j.End.Rows {
		d.t.Fatalf("the file is %s, %d bytes, %d rows; manifest %s, %d, %d; end %+v", got, file.Len(), rows, m.SHA256, m.Bytes, m.Rows, j.End)
	}
	return file.Bytes(), m
}

// wants fails the test unless the CSV file has the first n events of a customer,
// once each, in their order.
func (d *desk) wants(file []byte, customer string, n int) {
	d.t.Helper()
	got, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil {
		d.t.Fatal(err)
	}
	rows, err := d.conn.Query(d.t.Context(), "SELECT toString(id), audit_comment FROM audit_events WHERE customer_uuid = '"+customer+"' AND kafka_offset < "+fmt.Sprint(n)+
		" ORDER BY created_date DESC, toString(id) DESC")
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	i := 0
	for ; rows.Next(); i++ {
		var id, comment string
		if err := rows.Scan(&id, &comment); err != nil {
			d.t.Fatal(err)
		}
		if i+1 >= len(got) {
			break
		}
		if row := got[i+1]; row[0] != id || row[3] != comment {
			d.t.Fatalf("row %d: got %v, want %s, %s", i, row, id, comment)
		}
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
	if i != n || len(got) != n+1 {
		d.t.Fatalf("%d rows with the header, of %d events; want %d", len(got), i, n)
	}
}

func gunzip(t testing.TB, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestAReportFromRequestToFinished(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 10_000)
	d.fill("other", 0, 10)
	d.start()
	j := d.create(spec("c", 8000))
	// Events that arrive meanwhile are not in it.
	d.fill("c", 10_000, 1000)
	j = d.finished(j.ID)
	file, m := d.download(j)
	d.wants(file, "c", 8000)
	if !strings.HasPrefix(string(file), "Id,Created Date,User Uuid,Details\r\n") {
		t.Errorf("the file begins with %.60q", file)
	}
	// A header, and chunks of a thousand rows each, about.
	if len(m.Parts) < 9 || len(m.Parts) > 12 {
		t.Errorf("%d parts", len(m.Parts))
	}
	d.until(j.ID, "to be tidy", func(j *report.Job) bool { return j.Plan == nil && len(j.Chunks) == 0 })
}
