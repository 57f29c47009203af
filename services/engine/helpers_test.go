package engine_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// options reach a new database of the shared engine.
func options(t testing.TB) *clickhouse.Options {
	t.Helper()
	return testenv.ClickHouse(t).Config().Options()
}

// connect opens a pool and closes it after the test.
func connect(t testing.TB, opt *clickhouse.Options) clickhouse.Conn {
	t.Helper()
	conn, err := clickhouse.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// open connects to a new database of the shared engine.
func open(t testing.TB) clickhouse.Conn {
	t.Helper()
	return connect(t, options(t))
}

func exec(t testing.TB, conn clickhouse.Conn, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if err := conn.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// number runs a query with one number as its result.
func number(t testing.TB, conn clickhouse.Conn, query string, args ...any) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// code is the ClickHouse code of an error, 0 without one.
func code(err error) int32 {
	var e *clickhouse.Exception
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// waitFor polls until ok, and fails the test when that takes longer than limit.
func waitFor(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// newLike is a pointer to scan a value of v's type into.
func newLike(v any) any {
	return reflect.New(reflect.TypeOf(v)).Interface()
}

func deref(p any) any { return reflect.ValueOf(p).Elem().Interface() }

// plain makes values comparable that mean the same: addresses of 4 and of 16
// bytes, instants.
func plain(v any) any {
	switch x := v.(type) {
	case net.IP:
		return x.String()
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case *time.Time:
		if x == nil {
			return nil
		}
		return plain(*x)
	}
	return v
}

// background is a context that outlives the test's, for cleaning up.
func background() context.Context { return context.Background() }
