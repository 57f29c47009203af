package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
)

// awkward are strings that break out of a badly quoted place.
var awkward = []string{
	"", "plain", "it's", `back\slash`, "new\nline", "tab\tand\rreturn", `\`, `'`, `\'; DROP TABLE t; --`, "`q`", `"d"`,
	"{x:String}", "$1 ? @p", "ü €", "nul\x00nul", `\N`, "NULL", strings.Repeat(`'\`, 5000),
}

func TestStringParameters(t *testing.T) {
	t.Parallel()
	conn := open(t)
	for _, want := range awkward {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT {p:String}", clickhouse.Named("p", want)).Scan(&got); err != nil {
			t.Errorf("%.40q: %v", want, err)
		} else if got != want {
			t.Errorf("sent %.40q, got %.40q", want, got)
		}
	}
}

func TestParameterTypes(t *testing.T) {
	t.Parallel()
	conn := open(t)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{
		"n": "-7", "list": `['a\'b','c,d']`, "nums": "[1,2,3]", "at": "1763826000.123", "id": "events", "none": `\N`,
	}))
	exec(t, conn, "CREATE TABLE events (a UInt8) ENGINE = Memory", "INSERT INTO events VALUES (1)")
	var (
		n    int64
		list []string
		nums []uint32
		at   time.Time
		rows uint64
		none *string
	)
	err := conn.QueryRow(ctx, `SELECT {n:Int64}, {list:Array(String)}, {nums:Array(UInt32)}, {at:DateTime64(3, 'UTC')},
		(SELECT count() FROM {id:Identifier}), {none:Nullable(String)}`).Scan(&n, &list, &nums, &at, &rows, &none)
	if err != nil {
		t.Fatal(err)
	}
	if n != -7 || rows != 1 || none != nil || !at.Equal(time.UnixMilli(1763826000123)) {
		t.Errorf("got %d %d %v %v", n, rows, none, at)
	}
	if diff := cmp.Diff([]string{"a'b", "c,d"}, list); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]uint32{1, 2, 3}, nums); diff != "" {
		t.Error(diff)
	}
}

func TestParameterMissing(t *testing.T) {
	t.Parallel()
	conn := open(t)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"other": "1"}))
	if err := conn.QueryRow(ctx, "SELECT {p:String}").Err(); code(err) != 456 {
		t.Errorf("got %v, want code 456", err)
	}
}

// TestSettingsLastOneQuery: a query's settings hold for it and for no other on
// the same connection.
func TestSettingsLastOneQuery(t *testing.T) {
	t.Parallel()
	opt := options(t)
	opt.MaxOpenConns, opt.MaxIdleConns = 1, 1
	conn := connect(t, opt)
	setting := func(settings clickhouse.Settings) string {
		t.Helper()
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(settings))
		var v string
		if err := conn.QueryRow(ctx, "SELECT toString(getSetting('max_block_size'))").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := setting(nil)
	if got := setting(clickhouse.Settings{"max_block_size": 7}); got != "7" {
		t.Errorf("max_block_size is %s, want 7", got)
	}
	if got := setting(nil); got != before {
		t.Errorf("max_block_size stayed %s, want %s", got, before)
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"no_such_setting": 1}))
	if err := conn.Exec(ctx, "SELECT 1"); code(err) != 115 {
		t.Errorf("unknown setting: %v, want code 115", err)
	}
	ctx = clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": "many"}))
	if err := conn.Exec(ctx, "SELECT 1"); err == nil {
		t.Error("a setting that is not a number was taken")
	}
	if got := setting(nil); got != before {
		t.Errorf("after an error max_block_size is %s, want %s", got, before)
	}
}
