package sqlgen_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t testing.TB) driver.Conn {
	t.Helper()
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// fill stores n events of customers c0 to c2, step milliseconds apart each.
func fill(t *testing.T, conn driver.Conn, n, step string) {
	t.Helper()
	err := conn.Exec(t.Context(), `INSERT INTO audit_events (id, customer_uuid, created_date, user_uuid, user_name, action, module_code,
		audit_comment, topic_id, kafka_partition, kafka_offset, appended_at, retention_days)
		SELECT generateUUIDv4(), 'c' || toString(number % 3), toDateTime64('2026-06-30 00:00:00', 3, 'UTC') - toIntervalMillisecond(intDiv(number, 3) * `+step+`),
		'u' || toString(number % 50), 'jack', 'Add', 'PM', 'comment ' || hex(sipHash64(number)),
		toUUID('00000000-0000-0000-0000-000000000001'), 0, number, now64(3), 20000 FROM numbers(`+n+`)`)
	if err != nil {
		t.Fatal(err)
	}
}

var manager = visibility.For(identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Role: identity.RoleManager})

// query runs a statement and hands each row to scan. It returns how many rows
// the engine read.
func query(t testing.TB, conn driver.Conn, s sqlgen.Statement, scan func(driver.Rows) error) (read uint64) {
	t.Helper()
	ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(s.Params()),
		clickhouse.WithProgress(func(p *clickhouse.Progress) { read += p.Rows }))
	rows, err := conn.Query(ctx, s.SQL())
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		if err := scan(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	return read
}

// scanID reads a row of Rows and returns its id.
func scanID(r driver.Rows) (string, error) {
	dest := make([]any, len(field.Events.Fields))
	for i, c := range r.ColumnTypes() {
		dest[i] = reflect.New(c.ScanType()).Interface()
	}
	err := r.Scan(dest...)
	return dest[slices.Index(r.Columns(), "id")].(*uuid.UUID).String(), err
}

func TestTiesSortByTheTextOfTheID(t *testing.T) {
	conn := open(t)
	fill(t, conn, "3000", "0")
	var got []string
	query(t, conn, sqlgen.Rows(manager, sqlgen.Filter{}, sqlgen.Page{Limit: 2000}), func(r driver.Rows) error {
		id, err := scanID(r)
		got = append(got, id)
		return err
	})
	want := slices.Clone(got)
	slices.Sort(want)
	slices.Reverse(want)
	if d := cmp.Diff(got, want); d != "" || len(got) != 1000 {
		t.Errorf("%d ids (-got +want)\n%s", len(got), d)
	}
}

// TestNewestPageReadsLittle holds that the newest page is read in the order of
// the primary key, backwards, and not by sorting the subscription.
func TestNewestPageReadsLittle(t *testing.T) {
	conn := open(t)
	fill(t, conn, "600000", "10")
	page := sqlgen.Rows(manager, sqlgen.Filter{}, sqlgen.Page{Limit: 100})
	read := query(t, conn, page, func(driver.Rows) error { return nil })
	if read == 0 || read > 100_000 { // of the subscription's 200,000
		t.Errorf("%d rows read for a page of 100", read)
	}
	t.Logf("%d rows read", read)
	// So is a page deep in a walk.
	deep := sqlgen.Page{Limit: 100, After: &sqlgen.Position{Date: 1782777600000 - 1_000_000}}
	if read := query(t, conn, sqlgen.Rows(manager, sqlgen.Filter{}, deep), func(driver.Rows) error { return nil }); read == 0 || read > 100_000 {
		t.Errorf("%d rows read for a page of 100, 100,000 deep", read)
	}
	start, end := int64(1782777600000-1000), int64(1782777600000)
	var n uint64
	query(t, conn, sqlgen.Count(manager, sqlgen.Filter{Start: &start, End: &end}), func(r driver.Rows) error { return r.Scan(&n) })
	if n != 101 {
		t.Errorf("both ends are inclusive: got %d, want 101", n)
	}
}

func TestParametersComeBackUnchanged(t *testing.T) {
	conn := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.SampledFrom([]byte("'\\\t\n\r\x00\b\fN[]{},a\""))), func(b []byte) string { return string(b) }))
		one, many := text.Draw(rt, "one"), rapid.SliceOf(text).Draw(rt, "many")
		params := param.Set{}
		sql := "SELECT " + params.Text("one", one) + ", " + params.Texts("many", many) + ", " + params.Int("n", -5)
		var gotOne string
		var gotMany []string
		var n int64
		row := conn.QueryRow(clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters(params))), sql)
		if err := row.Scan(&gotOne, &gotMany, &n); err != nil {
			rt.Fatal(err)
		}
		if gotOne != one || !slices.Equal(gotMany, many) || n != -5 {
			rt.Fatalf("%q %q came back as %q %q", one, many, gotOne, gotMany)
		}
	})
}
