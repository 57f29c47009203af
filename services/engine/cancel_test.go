package engine_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

// heavy runs for minutes; the comment finds it in the process list.
func heavy(comment string) string {
	return "SELECT /* " + comment + " */ sum(cityHash64(number)) FROM numbers(1000000000000)"
}

// killLimit is how long a killed query may go on: milliseconds, but for a
// machine with other work. heavy would take far longer.
const killLimit = 30 * time.Second

func running(t *testing.T, conn clickhouse.Conn, comment string) uint64 {
	t.Helper()
	return number(t, conn, "SELECT count() FROM system.processes WHERE query LIKE {p:String} AND query NOT LIKE '%system.processes%'",
		clickhouse.Named("p", "%"+comment+"%"))
}

func TestCancelKillsTheQuery(t *testing.T) {
	t.Parallel()
	const mine = " SETTINGS log_comment = 'mine'"
	for _, c := range []struct{ name, query string }{
		{"select", heavy("cancel_select")},
		// Not streamed by the engine: another way through it.
		{"insert select", "INSERT INTO sink " + strings.Replace(heavy("cancel_insert"), "sum", "", 1)},
		{"own log comment", heavy("cancel_comment") + mine},
		{"insert select, own log comment", "INSERT INTO sink " + heavy("cancel_insert_comment") + mine},
		{"insert select, own log comment first", "INSERT INTO sink" + mine + " " + heavy("cancel_insert_first") + ";"},
		{"with insert select", "INSERT INTO sink WITH 1 AS one " + heavy("cancel_insert_with") + mine},
		{"create as select", "CREATE TABLE made ENGINE = Memory AS " + heavy("cancel_create") + mine},
		{"long", heavy("cancel_long") + " WHERE 'x' != '" + strings.Repeat("x", 200_000) + "'" + mine},
		{"session's log comment", heavy("cancel_set")},
		{"session's log comment, insert", "INSERT INTO sink " + heavy("cancel_set_insert")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := open(t)
			exec(t, conn, "CREATE TABLE sink (a UInt64) ENGINE = Null")
			if strings.HasPrefix(c.name, "session") {
				exec(t, conn, "SET log_comment = 'it\\'s mine'")
			}
			comment := strings.Fields(strings.SplitN(c.query, "/*", 2)[1])[0]
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if !strings.HasPrefix(c.name, "session") {
				ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"log_comment": "the client's own"}))
			}
			done := make(chan error, 1)
			go func() { done <- conn.Exec(ctx, c.query) }()
			waitFor(t, 10*time.Second, "the query runs", func() bool {
				select {
				case err := <-done:
					t.Fatal(err)
				default:
				}
				return running(t, conn, comment) == 1
			})
			cancel()
			waitFor(t, killLimit, "the query is gone", func() bool { return running(t, conn, comment) == 0 })
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context canceled", err)
			}
		})
	}
}

func TestHTTPDisconnectKillsTheQuery(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	conn := connect(t, e.Config().Options())
	exec(t, conn, "CREATE TABLE "+e.Database+".http_sink (a UInt64) ENGINE = Null")
	for format, before := range map[string]string{"CSV": "", "Parquet": "", "Null": "INSERT INTO " + e.Database + ".http_sink "} {
		comment := "disconnect_" + format
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.HTTPAddr+"/?"+url.Values{"default_format": {format}}.Encode(), strings.NewReader(before+heavy(comment)+" SETTINGS log_comment = 'mine'"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				err = res.Body.Close()
			}
			done <- err
		}()
		waitFor(t, 10*time.Second, "the query runs", func() bool { return running(t, conn, comment) == 1 })
		cancel()
		waitFor(t, killLimit, "the query is gone", func() bool { return running(t, conn, comment) == 0 })
		if err := <-done; err == nil {
			t.Errorf("%s: the request succeeded", format)
		}
	}
}

// TestCancelPacketLeavesTheConnectionUsable: kills are repeated until the query
// ends, and none may reach the query after it.
func TestCancelPacketLeavesTheConnectionUsable(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	c := dialRaw(t, e)
	for range 5 {
		c.query("SELECT sleepEachRow(1) FROM numbers(1000) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0")
		c.cancel()
		if err := c.untilEnd(); err != nil {
			t.Fatalf("after Cancel: %v, want the end of the stream", err)
		}
		c.query("SELECT 1")
		if err := c.untilEnd(); err != nil {
			t.Fatalf("next query: %v", err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	conn := open(t)
	for _, c := range []struct {
		query    string
		settings clickhouse.Settings
		code     int32
		name     string
	}{
		{heavy("limit_time"), clickhouse.Settings{"max_execution_time": 1}, 159, "TIMEOUT_EXCEEDED"},
		{"SELECT groupArray(number) FROM numbers(100000000)", clickhouse.Settings{"max_memory_usage": 10 << 20}, 241, "MEMORY_LIMIT_EXCEEDED"},
		{"SELECT number FROM numbers(1000)", clickhouse.Settings{"max_result_rows": 10, "result_overflow_mode": "throw"}, 396, "TOO_MANY_ROWS_OR_BYTES"},
	} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(c.settings))
		rows, err := conn.Query(ctx, c.query)
		if err == nil {
			for rows.Next() {
			}
			err = errors.Join(rows.Err(), rows.Close())
		}
		if code(err) != c.code || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%v: %v, want code %d %s", c.settings, err, c.code, c.name)
		}
	}
}
