package engine_test

import (
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/paulmach/orb"
	"github.com/shopspring/decimal"
)

func ptr[T any](v T) *T { return &v }

func mustBig(s string) *big.Int {
	v, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic(s)
	}
	return v
}

// typeCases are values that go in through clickhouse-go and must come out equal.
var typeCases = []struct {
	typ    string
	values []any
}{
	{"UInt8", []any{uint8(0), uint8(255)}},
	{"UInt16", []any{uint16(0), uint16(65535)}},
	{"UInt32", []any{uint32(0), uint32(4294967295)}},
	{"UInt64", []any{uint64(0), uint64(18446744073709551615)}},
	{"Int8", []any{int8(-128), int8(127)}},
	{"Int16", []any{int16(-32768), int16(32767)}},
	{"Int32", []any{int32(-2147483648), int32(2147483647)}},
	{"Int64", []any{int64(-9223372036854775808), int64(9223372036854775807)}},
	{"Int128", []any{mustBig("-170141183460469231731687303715884105728"), mustBig("1")}},
	{"UInt128", []any{mustBig("340282366920938463463374607431768211455"), mustBig("0")}},
	{"Int256", []any{mustBig("-57896044618658097711785492504343953926634992332820282019728792003956564819968"), mustBig("7")}},
	{"UInt256", []any{mustBig("115792089237316195423570985008687907853269984665640564039457584007913129639935"), mustBig("0")}},
	{"Float32", []any{float32(0), float32(-1.5)}},
	{"Float64", []any{float64(0), 1e300}},
	{"Bool", []any{true, false}},
	{"String", []any{"", "a", "ü\x00\xff\n", strings.Repeat("long ", 1000)}},
	{"FixedString(3)", []any{"abc", "\x00\x01\x02"}},
	{"UUID", []any{uuid.Nil, uuid.MustParse("0190d1a2-7b1c-7def-8123-456789abcdef")}},
	{"IPv4", []any{net.IPv4(10, 0, 0, 1).To4(), net.IPv4bcast.To4()}},
	{"IPv6", []any{net.ParseIP("2001:db8::1"), net.IPv6zero}},
	// The limits of Unix time in each width.
	{"Date", []any{time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2149, 6, 6, 0, 0, 0, 0, time.UTC)}},
	{"Date32", []any{time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2299, 12, 31, 0, 0, 0, 0, time.UTC)}},
	{"DateTime('UTC')", []any{time.Unix(0, 0).UTC(), time.Unix(4294967295, 0).UTC()}},
	{"DateTime64(3, 'UTC')", []any{time.UnixMilli(0).UTC(), time.UnixMilli(-1).UTC(), time.UnixMilli(1763826000123).UTC(), time.Date(2262, 4, 11, 0, 0, 0, 999e6, time.UTC)}},
	{"DateTime64(9, 'UTC')", []any{time.Unix(1763826000, 123456789).UTC()}},
	{"Decimal(9, 2)", []any{decimal.RequireFromString("-1234567.89")}},
	{"Decimal(18, 4)", []any{decimal.RequireFromString("12345678901234.5678")}},
	{"Decimal(38, 10)", []any{decimal.RequireFromString("-1234567890123456789012345678.0123456789")}},
	{"Decimal(76, 20)", []any{decimal.RequireFromString("12345678901234567890123456789012345678901234567890123456.01234567890123456789")}},
	{"Enum8('a' = 1, 'b c' = -2)", []any{"a", "b c"}},
	{"Enum16('x' = 1000, 'y' = -1000)", []any{"x", "y"}},
	{"LowCardinality(String)", []any{"a", "b", "a", ""}},
	{"LowCardinality(FixedString(2))", []any{"ab", "cd"}},
	{"LowCardinality(Nullable(String))", []any{ptr("a"), (*string)(nil), ptr("")}},
	{"Nullable(UInt64)", []any{ptr(uint64(7)), (*uint64)(nil)}},
	{"Nullable(String)", []any{ptr("x"), (*string)(nil)}},
	{"Nullable(DateTime64(3, 'UTC'))", []any{ptr(time.UnixMilli(5).UTC()), (*time.Time)(nil)}},
	{"Array(String)", []any{[]string{}, []string{"a", "b"}}},
	{"Array(Array(UInt32))", []any{[][]uint32{}, [][]uint32{{}, {1, 2}, {3}}}},
	{"Array(Nullable(Int64))", []any{[]*int64{ptr(int64(1)), nil}}},
	{"Array(LowCardinality(String))", []any{[]string{"a", "b", "a"}, []string{}}},
	{"Array(LowCardinality(Nullable(String)))", []any{[]*string{ptr("a"), nil}, []*string{}}},
	{"Map(String, UInt64)", []any{map[string]uint64{}, map[string]uint64{"a": 1, "b": 2}}},
	{"Map(LowCardinality(String), Array(String))", []any{map[string][]string{"k": {"v", "w"}}, map[string][]string{}}},
	{"Tuple(String, Int64)", []any{[]any{"a", int64(1)}}},
	{"Tuple(field String, `before` Nullable(String))", []any{map[string]any{"field": "f", "before": ptr("b")}}},
	{"Array(Tuple(field String, before LowCardinality(String), after Array(UInt8)))", []any{
		[]map[string]any{{"field": "f", "before": "b", "after": []uint8{1, 2}}, {"field": "", "before": "b", "after": []uint8{}}},
		[]map[string]any{},
	}},
	{"SimpleAggregateFunction(max, UInt64)", []any{uint64(3)}},
	{"Point", []any{orb.Point{1.5, -2.5}}},
}

// TestTypes sends every type there and back: single rows, so that every column
// ends where the next begins, and with compression and without.
func TestTypes(t *testing.T) {
	t.Parallel()
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionZSTD} {
		t.Run(method.String(), func(t *testing.T) {
			t.Parallel()
			opt := options(t)
			opt.Compression = &clickhouse.Compression{Method: method}
			conn := connect(t, opt)
			for i, c := range typeCases {
				roundTrip(t, conn, fmt.Sprintf("t%d", i), c.typ, c.values)
			}
		})
	}
}

func roundTrip(t *testing.T, conn clickhouse.Conn, table, typ string, values []any) {
	t.Helper()
	ctx := t.Context()
	if err := conn.Exec(ctx, "CREATE TABLE "+table+" (before UInt8, v "+typ+", after String) ENGINE = Memory"); err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
	if err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	for i, v := range values {
		if err := batch.Append(uint8(i), v, "end"); err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	rows, err := conn.Query(ctx, "SELECT v, before, after FROM "+table+" ORDER BY before")
	if err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		dest := newLike(values[i])
		var n uint8
		var end string
		if err := rows.Scan(dest, &n, &end); err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		if int(n) != i || end != "end" {
			t.Errorf("%s: row %d is framed wrong: %d %q", typ, i, n, end)
		}
		if diff := cmp.Diff(plain(values[i]), plain(deref(dest)), cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 }),
			cmp.Comparer(func(a, b decimal.Decimal) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%s: (-sent +got)\n%s", typ, diff)
		}
	}
	if err := rows.Err(); err != nil {
		t.Errorf("%s: %v", typ, err)
	}
}

func TestJSONColumnTravelsAsString(t *testing.T) {
	t.Parallel()
	conn := open(t)
	var got string
	if err := conn.QueryRow(t.Context(), `SELECT '{"a":{"b":1}}'::JSON AS j SETTINGS output_format_native_write_json_as_string=1`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := `{"a":{"b":1}}`; strings.ReplaceAll(strings.ReplaceAll(got, `"1"`, "1"), " ", "") != want {
		t.Errorf("JSON came as %s, want %s", got, want)
	}
}

func TestUnsupportedTypeIsNamed(t *testing.T) {
	t.Parallel()
	conn := open(t)
	ctx := t.Context()
	for _, query := range []string{"SELECT 1::Dynamic AS d", "SELECT 1::Variant(UInt8, String) AS v", "SELECT sumState(1) AS s"} {
		err := conn.QueryRow(ctx, query).Scan(new(any))
		if code(err) != 48 || !strings.Contains(err.Error(), "is not supported by the embedded engine") {
			t.Errorf("%s: %v, want code 48 and a sentence", query, err)
		}
	}
	if err := conn.Exec(ctx, "CREATE TABLE d (a UInt8, d Dynamic) ENGINE = Memory"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.PrepareBatch(ctx, "INSERT INTO d"); code(err) != 48 || !strings.Contains(err.Error(), "Dynamic") {
		t.Errorf("insert: %v, want code 48 naming Dynamic", err)
	}
	// The other columns of such a table can still be written.
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO d (a)")
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Append(uint8(1)); err != nil {
		t.Fatal(err)
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}
