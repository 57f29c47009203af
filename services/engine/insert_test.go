package engine_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	ch "github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

const events = "CREATE TABLE events (at DateTime, id UInt64, note String) ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY id " +
	"SETTINGS non_replicated_deduplication_window = 1000"

// send inserts ids over three months, under a token when it is not empty.
func send(ctx context.Context, conn clickhouse.Conn, token string, from, to uint64) error {
	settings := clickhouse.Settings{"async_insert": 0}
	if token != "" {
		settings["insert_deduplication_token"] = token
	}
	batch, err := conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), "INSERT INTO events")
	if err != nil {
		return err
	}
	for id := from; id < to; id++ {
		at := time.Date(2026, time.Month(1+id%3), 1, 0, 0, 0, 0, time.UTC)
		if err := batch.Append(at, id, "note"); err != nil {
			return err
		}
	}
	return batch.Send()
}

func TestTokenStoresOnce(t *testing.T) {
	t.Parallel()
	conn := open(t)
	exec(t, conn, events)
	for i, token := range []string{"a", "a", "b", "a"} {
		from := uint64(0)
		if token == "b" {
			from = 300
		}
		if err := send(t.Context(), conn, token, from, from+300); err != nil {
			t.Fatalf("insert %d: %v", i, err)
		}
	}
	if n, distinct := number(t, conn, "SELECT count() FROM events"), number(t, conn, "SELECT uniqExact(id) FROM events"); n != 600 || distinct != 600 {
		t.Errorf("%d rows, %d distinct, want 600 of each", n, distinct)
	}
}

func TestSeveralBlocksInOneInsert(t *testing.T) {
	t.Parallel()
	conn := open(t)
	exec(t, conn, events)
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO events (id, at)")
	if err != nil {
		t.Fatal(err)
	}
	for flush := range 5 {
		for i := range 1000 {
			if err := batch.Append(uint64(flush*1000+i), time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	if n := number(t, conn, "SELECT uniqExact(id) FROM events"); n != 5000 {
		t.Errorf("%d rows, want 5000", n)
	}
	empty, err := conn.PrepareBatch(t.Context(), "INSERT INTO events")
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Send(); err != nil {
		t.Errorf("an insert without rows: %v", err)
	}
}

func TestInsertErrors(t *testing.T) {
	t.Parallel()
	opt := options(t)
	opt.MaxOpenConns = 1
	conn := connect(t, opt)
	exec(t, conn, "CREATE TABLE c (a UInt64, m UInt8 MATERIALIZED 1, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a",
		"CREATE TABLE months (at DateTime) ENGINE = MergeTree PARTITION BY toYYYYMMDD(at) ORDER BY at")
	for _, c := range []struct {
		query string
		code  int32
	}{
		{"INSERT INTO nosuch", 60},
		{"INSERT INTO c (nosuch)", 16},
		{"INSERT INTO c (m)", 44},
	} {
		if _, err := conn.PrepareBatch(t.Context(), c.query); code(err) != c.code {
			t.Errorf("%s: %v, want code %d", c.query, err, c.code)
		}
	}
	// Errors that come only with the data, after the first of several blocks.
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO c")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		for range 50_000 {
			if err := batch.Append(uint64(i * 9)); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Flush(); err != nil && code(err) != 469 {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); code(err) != 469 {
		t.Errorf("constraint: %v, want code 469", err)
	}
	days, err := conn.PrepareBatch(t.Context(), "INSERT INTO months")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 101 {
		if err := days.Append(time.Unix(int64(i)*86400, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := days.Send(); code(err) != 252 {
		t.Errorf("101 partitions: %v, want code 252", err)
	}
	if n := number(t, conn, "SELECT 1::UInt64"); n != 1 {
		t.Error("the connection does not go on")
	}
}

// TestMidStreamSelectError: rows arrive first, then the error, and the
// connection goes on.
func TestMidStreamSelectError(t *testing.T) {
	t.Parallel()
	opt := options(t)
	opt.MaxOpenConns = 1
	conn := connect(t, opt)
	rows, err := conn.Query(t.Context(), "SELECT number, throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_threads = 1")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); code(err) != 395 || n == 0 {
		t.Errorf("%d rows, then %v; want rows and code 395", n, err)
	}
	_ = rows.Close()
	if n := number(t, conn, "SELECT 1::UInt64"); n != 1 {
		t.Error("the connection does not go on")
	}
}

func TestEmptyResultsHaveColumns(t *testing.T) {
	t.Parallel()
	conn := open(t)
	exec(t, conn, events)
	for query, want := range map[string]string{
		"SELECT id, note AS n FROM events":                                     "id n",
		"WITH 1 AS x SELECT x, at FROM events WHERE id = 1 -- done":            "x at",
		"SELECT toNullable(id) AS a FROM events FORMAT Native":                 "a",
		"SHOW TABLES LIKE 'nothing'":                                           "name",
		"(SELECT 1 AS u FROM events) UNION ALL (SELECT 2 FROM events);":        "u",
		"SELECT id FROM events WHERE note = 'FORMAT x' SETTINGS max_threads=1": "id",
	} {
		rows, err := conn.Query(t.Context(), query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := strings.Join(rows.Columns(), " "); got != want || rows.Next() || rows.Err() != nil {
			t.Errorf("%s: columns %q, %v; want %q and no rows", query, got, rows.Err(), want)
		}
		_ = rows.Close()
	}
}

// TestChGo inserts with the low-level client, whose blocks are compressed whole.
func TestChGo(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	conn := connect(t, e.Config().Options())
	exec(t, conn, events)
	for _, c := range []ch.Compression{ch.CompressionDisabled, ch.CompressionLZ4, ch.CompressionZSTD} {
		client, err := ch.Dial(t.Context(), ch.Options{Address: e.Addr, Database: e.Database, User: e.User, Password: e.Password, Compression: c})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			var at proto.ColDateTime
			var id proto.ColUInt64
			var note proto.ColStr
			for i := range uint64(50_000) {
				at.Append(time.Unix(0, 0))
				id.Append(i + uint64(c)*50_000)
				note.Append("a note that compresses")
			}
			input := proto.Input{{Name: "at", Data: &at}, {Name: "id", Data: &id}, {Name: "note", Data: &note}}
			err := client.Do(t.Context(), ch.Query{Body: input.Into("events"), Input: input, Settings: []ch.Setting{
				ch.SettingInt("async_insert", 0), {Key: "insert_deduplication_token", Value: fmt.Sprint("chgo", c), Important: true},
				{Key: "unknown_but_not_important", Value: "1"},
			}})
			if err != nil {
				t.Fatalf("compression %v: %v", c, err)
			}
		}
		var n proto.ColUInt64
		if err := client.Do(t.Context(), ch.Query{Body: "SELECT count() AS n FROM events", Result: proto.Results{{Name: "n", Data: &n}}}); err != nil {
			t.Fatal(err)
		}
		if err := client.Do(t.Context(), ch.Query{Body: "SELECT nosuch"}); !ch.IsErr(err, proto.ErrUnknownIdentifier) {
			t.Errorf("error: %v", err)
		}
		_ = client.Close()
	}
	if n, distinct := number(t, conn, "SELECT count() FROM events"), number(t, conn, "SELECT uniqExact(id) FROM events"); n != 150_000 || distinct != n {
		t.Errorf("%d rows, %d distinct, want 150000 of each", n, distinct)
	}
}

func TestGoose(t *testing.T) {
	t.Parallel()
	migrations := fstest.MapFS{
		"00001_events.sql": {Data: []byte("-- +goose Up\nCREATE TABLE e (a UInt8) ENGINE = MergeTree ORDER BY a;\n")},
		"00002_rows.sql":   {Data: []byte("-- +goose Up\nINSERT INTO e VALUES (1), (2);\nALTER TABLE e ADD COLUMN b String DEFAULT ';';\n")},
	}
	db := clickhouse.OpenDB(options(t))
	defer db.Close()
	for range 2 {
		migrate(t, db, migrations)
	}
	var n int
	var b string
	if err := db.QueryRowContext(t.Context(), "SELECT count(), max(b) FROM e").Scan(&n, &b); err != nil || n != 2 || b != ";" {
		t.Errorf("%d rows %q, %v; want 2 and ;", n, b, err)
	}
}

func migrate(t *testing.T, db *sql.DB, files fs.FS) {
	t.Helper()
	p, err := goose.NewProvider(goose.DialectClickHouse, db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := p.GetDBVersion(t.Context()); err != nil || v != 2 {
		t.Errorf("version %d, %v; want 2", v, err)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	for name, c := range map[string]struct {
		edit func(*clickhouse.Options)
		code int32
	}{
		"password": {func(o *clickhouse.Options) { o.Auth.Password = "wrong" }, 516},
		"user":     {func(o *clickhouse.Options) { o.Auth.Username = "bob" }, 516},
		"database": {func(o *clickhouse.Options) { o.Auth.Database = "no`such" }, 81},
	} {
		opt := e.Config().Options()
		c.edit(opt)
		if err := connect(t, opt).Ping(t.Context()); code(err) != c.code {
			t.Errorf("%s: %v, want code %d", name, err, c.code)
		}
	}
}
