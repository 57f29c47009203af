package sqlgen_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// fillCalls stores n calls of customers c0 and so on, two states each, those of a
// customer step milliseconds apart from 2026-06-01 on. Every 100th runs for an hour, the others for half a
// second.
func fillCalls(t testing.TB, conn driver.Conn, n, customers, step int) {
	t.Helper()
	for _, state := range []string{audit.StateRunning, audit.StateFinished} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"state": state, "rank": strconv.Itoa(int(audit.StateRank(state))),
			"n": strconv.Itoa(n), "customers": strconv.Itoa(customers), "step": strconv.Itoa(step)}))
		err := conn.Exec(ctx, `INSERT INTO api_call_events (id, call_id, customer_uuid, module_code, api, method, submitted_date, updated_date, user_name, user_role,
			user_uuid, business_unit, client, source_ip, http_status, state, state_rank, retention_days)
			WITH toDateTime64('2026-06-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(nth * {step:UInt32}) AS submitted,
				reinterpretAsUUID(sipHash128(number)) AS call, intDiv(number, {customers:UInt32}) AS nth
			SELECT generateUUIDv4(), call, 'c' || toString(number % {customers:UInt32}), 'PM', 'api/v1/' || toString(nth % 37), 'GET', submitted,
				submitted + toIntervalMillisecond(if(state = 'Running', 0, if(nth % 100 = 0, 3600000, 500))), 'user' || toString(nth % 500), 'Reader',
				'u' || toString(nth % 500), 'unit' || toString(nth % 20), 'curl', toIPv6('10.0.0.1'), 200, {state:String} AS state, {rank:UInt8}, 20000 FROM numbers({n:UInt64})`)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCallsAreReadByKey holds that a search of a time reads the calls of that
// time, and with those that changed in it, from the first of them on; that one
// call is found without reading the others.
func TestCallsAreReadByKey(t *testing.T) {
	conn := open(t)
	fillCalls(t, conn, 300_000, 3, 1000)
	for _, table := range []string{"api_calls", "api_call_events"} {
		if err := conn.Exec(t.Context(), "OPTIMIZE TABLE "+table+" FINAL"); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Date(2026, 6, 2, 0, 0, 0, 0, time.UTC).UnixMilli() // of 2.3 days
	end := start + 600_000
	see := visibility.ForCalls(reader, true)
	for _, c := range []struct {
		updated bool
		want    uint64
		read    int // granules at most, of about 290
	}{{false, 601, 3}, {true, 601 + 7, 8}} { // seven ran for an hour
		f := sqlgen.Filter{Start: &start, End: &end, Updated: c.updated}
		var n uint64
		s := sqlgen.Count(see, f)
		query(t, conn, s, func(r driver.Rows) error { return r.Scan(&n) })
		if n != c.want {
			t.Errorf("updated %v: %d calls, want %d", c.updated, n, c.want)
		}
		plan := explain(t, conn, s)
		if read, all := granules(plan, "PrimaryKey"); read == 0 || read > c.read || all < 250 {
			t.Errorf("updated %v: %d granules of %d are read\n%s", c.updated, read, all, plan)
		}
	}
	ids, _ := calls(t, conn, sqlgen.Rows(see, sqlgen.Filter{}, sqlgen.Page{Limit: 1, Offset: 50_000, Sort: sqlgen.Sort{Field: field.Calls.ID}}))
	id := uuid.MustParse(ids[0].CallID)
	rows := 0
	if read := query(t, conn, sqlgen.History(see, id), func(driver.Rows) error { rows++; return nil }); read > 50_000 || rows == 0 {
		t.Errorf("history: %d rows read for %d", read, rows)
	}
}

// TestAConditionMeetsTheLatestState holds that no condition looks at the states
// of before, while they lie in parts of their own.
func TestAConditionMeetsTheLatestState(t *testing.T) {
	conn := open(t)
	if err := conn.Exec(t.Context(), "SYSTEM STOP MERGES api_calls"); err != nil {
		t.Fatal(err)
	}
	fillCalls(t, conn, 3000, 3, 1000)
	var rows uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM api_calls WHERE customer_uuid = 'c1'").Scan(&rows); err != nil || rows != 2000 {
		t.Fatalf("%d rows are stored (%v), want both states of each call", rows, err)
	}
	for text, want := range map[string]uint64{"state: running": 0, "state: finished": 1000, "NOT state: finished": 0, "userName: user7 AND state: [Running]": 0, "": 1000} {
		x, err := qql.Parse(field.Calls, text)
		if err != nil {
			t.Fatal(err)
		}
		var n uint64
		query(t, conn, sqlgen.Count(visibility.ForCalls(reader, false), sqlgen.Filter{Where: x, Now: now}), func(r driver.Rows) error { return r.Scan(&n) })
		if n != want {
			t.Errorf("%s: %d calls, want %d", text, n, want)
		}
	}
}

// BenchmarkCalls has 1,000,000 calls of one subscription, all of the past week,
// and a viewer to whom most users are hidden; merged, as all but the last
// minutes of a table are.
func BenchmarkCalls(b *testing.B) {
	conn := open(b)
	fillCalls(b, conn, 1_000_000, 1, 600)
	for _, table := range []string{"api_calls", "api_call_events"} {
		if err := conn.Exec(b.Context(), "OPTIMIZE TABLE "+table+" FINAL"); err != nil {
			b.Fatal(err)
		}
	}
	id := reader
	id.CustomerUUID, id.BusinessUnits = "c0", []string{"unit1", "unit2"}
	see := visibility.ForCalls(id, true)
	start := time.Date(2026, 6, 1, 1, 0, 0, 0, time.UTC).UnixMilli()
	end := start + 7*24*3600_000
	filter := func(text string) sqlgen.Filter {
		x, err := qql.Parse(field.Calls, text)
		if err != nil {
			b.Fatal(err)
		}
		return sqlgen.Filter{Start: &start, End: &end, Updated: true, Where: x, Now: time.UnixMilli(end)}
	}
	page := sqlgen.Page{Limit: 101}
	named := func(name string) *field.Field { return field.Find(field.Calls.Fields, name) }
	for _, c := range []struct {
		name string
		s    sqlgen.Statement
	}{
		{"newest", sqlgen.Rows(see, filter(""), page)},
		{"newest of a state", sqlgen.Rows(see, filter("state: finished"), page)},
		{"of a user", sqlgen.Rows(see, filter("userName: [user1]"), page)},
		{"by user", sqlgen.Rows(see, filter(""), sqlgen.Page{Limit: 101, Sort: sqlgen.Sort{Field: named("userName"), Ascending: true}})},
		{"count", sqlgen.Count(see, filter(""))},
		{"count of a state", sqlgen.Count(see, filter("state: finished"))},
		{"facets", sqlgen.Facets(see, filter(""), []*field.Field{named("state"), named("api"), named("userName")}, 10)},
		{"one", sqlgen.History(see, uuid.Max)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				query(b, conn, c.s, func(driver.Rows) error { return nil })
			}
		})
	}
}
