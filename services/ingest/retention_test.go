package ingest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// choices opens the settings of the pipeline's broker.
func (p *pipeline) choices() settings.Table {
	p.t.Helper()
	table, err := settings.Open(p.t.Context(), p.cfg.Kafka, zaptest.NewLogger(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(table.Close)
	return table
}

func (p *pipeline) choose(table settings.Table, customer string, days uint16) {
	p.t.Helper()
	if _, err := table.Change(p.t.Context(), customer, func(s *settings.Settings) error { s.RetentionDays = days; return nil }); err != nil {
		p.t.Fatal(err)
	}
}

// of makes an event of a customer that happened days ago.
func of(customer string, days int) func(*audit.Event) {
	return func(e *audit.Event) {
		e.CustomerUUID, e.CreatedDate = customer, time.Now().Add(-time.Duration(days)*24*time.Hour-time.Minute).UnixMilli()
	}
}

// ages lists each customer's rows as age/retention, in days, oldest first.
func (p *pipeline) ages() map[string]string {
	p.t.Helper()
	rows, err := p.conn.Query(p.t.Context(), `SELECT customer_uuid, arrayStringConcat(arrayMap(r -> toString(r.1) || '/' || toString(r.2),
		arrayReverseSort(groupArray((dateDiff('day', created_date, now64(3, 'UTC')), retention_days)))), ' ') FROM audit_events GROUP BY customer_uuid`)
	if err != nil {
		p.t.Fatal(err)
	}
	defer rows.Close()
	got := map[string]string{}
	for rows.Next() {
		var customer, ages string
		if err := rows.Scan(&customer, &ages); err != nil {
			p.t.Fatal(err)
		}
		got[customer] = ages
	}
	if err := rows.Err(); err != nil {
		p.t.Fatal(err)
	}
	return got
}

func (p *pipeline) become(want map[string]string) {
	p.t.Helper()
	p.until("rows to be as chosen", func() (bool, string) {
		diff := cmp.Diff(p.ages(), want)
		return diff == "", "-got +want:\n" + diff
	})
}

// awkward is a customerUuid that would break out of a badly quoted place.
const awkward = `it's \'; DROP TABLE audit_events; -- {days:UInt16}`

// TestAChoiceReachesRowsOfTheFutureAndOfThePast, by itself: a choice with fewer
// days drops what it makes too old, one with more keeps what is there, and
// nobody else's rows change.
func TestAChoiceReachesRowsOfTheFutureAndOfThePast(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	table := p.choices()
	p.choose(table, "before", 200)
	p.start()
	n := 0
	arrive := func(customer string, days int) {
		n++
		p.produce(pm, 0, event(n, of(customer, days)))
	}
	for _, customer := range []string{"before", awkward, "other"} {
		for _, days := range []int{100, 20, 2} {
			arrive(customer, days)
		}
	}
	p.become(map[string]string{"before": "100/200 20/200 2/200", awkward: "100/400 20/400 2/400", "other": "100/400 20/400 2/400"})

	p.choose(table, awkward, 10)
	p.become(map[string]string{"before": "100/200 20/200 2/200", awkward: "2/10", "other": "100/400 20/400 2/400"})
	p.choose(table, "before", 3650)
	p.become(map[string]string{"before": "100/3650 20/3650 2/3650", awkward: "2/10", "other": "100/400 20/400 2/400"})
	if err := p.conn.Exec(t.Context(), "OPTIMIZE TABLE audit_events FINAL"); err != nil {
		t.Fatal(err)
	}
	arrive(awkward, 1)
	p.become(map[string]string{"before": "100/3650 20/3650 2/3650", awkward: "2/10 1/10", "other": "100/400 20/400 2/400"})
}

func TestOneOfSeveralReplicasKeepsRetention(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	table := p.choices()
	var replicas []*ops.Ops
	for range 3 {
		p.start()
		replicas = append(replicas, p.ops)
	}
	p.produce(pm, 0, event(0, of("a", 100)), event(1, of("a", 1)))
	p.become(map[string]string{"a": "100/400 1/400"})
	p.until("the group to be complete", func() (bool, string) {
		groups, err := p.admin.DescribeGroups(t.Context(), p.cfg.Group)
		if err != nil {
			return false, err.Error()
		}
		g := groups[p.cfg.Group]
		return g.State == "Stable" && len(g.Members) == len(replicas), fmt.Sprint(g.State, len(g.Members))
	})
	p.choose(table, "a", 30)
	p.become(map[string]string{"a": "1/30"})
	started := 0.0
	for _, o := range replicas {
		started += gaugeOf(t, o, "auditrail_ingest_retention_mutations_total")
	}
	if started != 1 {
		t.Errorf("%v mutations were started, want one", started)
	}
}

// reconciler is an ingest that has its choices and its table, and no lanes.
func (p *pipeline) reconciler(table settings.Table) *keeper {
	in := p.bare()
	in.settings = table
	return newKeeper(in)
}

// pass makes passes until nothing is left to do.
func (p *pipeline) pass(k *keeper) {
	p.t.Helper()
	p.until("nothing to change", func() (bool, string) {
		before := testutil.ToFloat64(k.metrics.mutations.WithLabelValues("started"))
		if err := k.apply(p.t.Context()); err != nil {
			return false, err.Error()
		}
		for _, table := range k.tables {
			busy, err := k.mutating(p.t.Context(), table.table)
			// One that found a mutation under way has compared nothing.
			if err != nil || busy || !maps.Equal(table.clean, k.seen) {
				return false, fmt.Sprint(table.table, busy, err)
			}
		}
		return testutil.ToFloat64(k.metrics.mutations.WithLabelValues("started")) == before, "a mutation was started"
	})
}

// TestAChoiceCountsOnceItHasStood: until then rows that are stored keep their
// days, and those that arrive get no fewer than without it.
func TestAChoiceCountsOnceItHasStood(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.cfg.RetentionDelay = time.Hour
	p.produce(pm, 0, event(0, of("a", 20)), event(1, of("a", 2)))
	p.insertAs([][]byte{event(0, of("a", 20)), event(1, of("a", 2))}, 0, 1, func(int) bool { return true })
	table := p.choices()
	p.choose(table, "a", 7)
	p.choose(table, "b", 3000)
	k := p.reconciler(table)
	days := func(want map[string]uint16) {
		t.Helper()
		got := map[string]uint16{}
		for customer := range want {
			got[customer] = k.retentionDays(customer)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("days of new rows: -got +want:\n%s", diff)
		}
	}
	p.pass(k)
	p.become(map[string]string{"a": "20/400 2/400"})
	days(map[string]uint16{"a": 400, "b": 3000, "c": 400})
	r, _ := table.Retention("a")
	if got, now := k.wake(r.At.Add(2*time.Hour)), r.At.Add(time.Hour); !got.Equal(now) {
		t.Errorf("the next pass is at %s, want it at %s, when the choice begins to count", got, now)
	}

	// Taken back, as if it had never been.
	p.choose(table, "a", 70)
	k.cfg.RetentionDelay = 0
	p.pass(k)
	p.become(map[string]string{"a": "20/70 2/70"})
	days(map[string]uint16{"a": 70, "b": 3000, "c": 400})

	// Unset: stored rows follow the default.
	p.choose(table, "a", 0)
	p.pass(k)
	p.become(map[string]string{"a": "20/400 2/400"})
	days(map[string]uint16{"a": 400, "b": 3000, "c": 400})
}

// TestOnlyWhatIsNewIsComparedAgain, unless a choice is new or the process is.
func TestOnlyWhatIsNewIsComparedAgain(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	values := [][]byte{event(0, of("a", 1)), event(1, of("b", 1))}
	p.produce(pm, 0, values...)
	p.insertAs(values, 0, 1, func(int) bool { return true })
	table := p.choices()
	p.choose(table, "a", 30)
	p.choose(table, "b", 30)
	k := p.reconciler(table)
	p.pass(k)
	p.become(map[string]string{"a": "1/30", "b": "1/30"})
	// No insert makes such rows: they show what is read.
	if err := p.conn.Exec(t.Context(), `INSERT INTO audit_events (customer_uuid, created_date, ingested_at, retention_days)
		SELECT customer_uuid, created_date, now64(3) - INTERVAL 1 DAY, 400 FROM audit_events`); err != nil {
		t.Fatal(err)
	}
	p.pass(k)
	p.become(map[string]string{"a": "1/400 1/30", "b": "1/400 1/30"})
	p.choose(table, "a", 31)
	p.pass(k)
	p.become(map[string]string{"a": "1/31 1/31", "b": "1/400 1/30"})
	p.pass(p.reconciler(table))
	p.become(map[string]string{"a": "1/31 1/31", "b": "1/30 1/30"})
}

// TestPassesOfTwoReplicasAndOneThatWasReportedLost: work done twice changes
// nothing, and rows inserted under the choice before are found by the next pass.
func TestPassesOfTwoReplicasAndOneThatWasReportedLost(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	table := p.choices()
	values := [][]byte{event(0, of("a", 100)), event(1, of("a", 1)), event(2, of("b", 1))}
	all := func(int) bool { return true }
	p.produce(pm, 0, values...)
	p.insertAs(values, 0, 2, all)
	p.choose(table, "a", 30)
	one, two := p.reconciler(table), p.reconciler(table)
	// Landed and reported lost: the next pass does not know of it.
	if err := one.mutate(t.Context(), "audit_events", 30, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	if err := two.mutate(t.Context(), "audit_events", 30, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	p.pass(one)
	p.become(map[string]string{"a": "1/30", "b": "1/400"})

	// A straggler, with the days of before.
	values = append(values, event(3, of("a", 1)), event(4, of("a", 60)))
	p.produce(pm, 0, values[3:]...)
	p.insertAs(values, 3, 4, all)
	p.become(map[string]string{"a": "60/400 1/400 1/30", "b": "1/400"})
	p.pass(two)
	p.become(map[string]string{"a": "1/30 1/30", "b": "1/400"})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.choose(table, "b", 5)
	if err := one.apply(ctx); err == nil {
		t.Error("a pass that could do nothing says that all is well")
	}
	p.pass(one)
	p.become(map[string]string{"a": "1/30 1/30", "b": "1/5"})
}

// TestATokenSurvivesAMutation: a zombie's insert, or one whose answer was lost,
// is a no-op after a mutation, too.
func TestATokenSurvivesAMutation(t *testing.T) {
	t.Parallel()
	p, values := newCrash(t)
	all := func(int) bool { return true }
	p.insertAs(values, 0, 99, all)
	table := p.choices()
	p.choose(table, "customer-1", 300)
	p.choose(table, "customer-2", 10) // drops the rows of the month before
	in := p.reconciler(table)
	p.pass(in)
	var before uint64
	count := func() (n uint64) {
		if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM audit_events").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if before = count(); before == 0 || before == 100 {
		t.Fatalf("got %d rows after the mutation, want some of 100", before)
	}
	p.insertAs(values, 0, 99, all)
	if after := count(); after != before {
		t.Errorf("got %d rows after the same insert, want %d", after, before)
	}
}

// TestARecoveryDoesNotMissWhatExpired: rows of a range in doubt have been
// dropped for their age. The others are stored once, and the lane goes on.
func TestARecoveryDoesNotMissWhatExpired(t *testing.T) {
	t.Parallel()
	p, values := newCrash(t)
	p.leavePending(values, 0, 99)
	p.insertAs(values, 0, 99, func(int) bool { return true })
	table := p.choices()
	p.choose(table, "customer-2", 10)
	p.pass(p.reconciler(table))
	p.start()
	p.committed()
	if diff := testutil.GatherAndCompare(p.ops.Registry, strings.NewReader(`
# HELP auditrail_ingest_repaired_rows_total Rows that the engine had acknowledged as a repetition and did not have; they were inserted again.
# TYPE auditrail_ingest_repaired_rows_total counter
auditrail_ingest_repaired_rows_total 0
`), "auditrail_ingest_repaired_rows_total"); diff != nil {
		t.Errorf("rows that are too old were taken for lost: %v", diff)
	}
	if err := p.conn.Exec(t.Context(), "OPTIMIZE TABLE audit_events FINAL"); err != nil {
		t.Fatal(err)
	}
	var rows, ids, old uint64
	if err := p.conn.QueryRow(t.Context(), `SELECT count(), uniqExact(id), countIf(customer_uuid = 'customer-2' AND created_date < now() - INTERVAL 10 DAY) FROM audit_events`).Scan(&rows, &ids, &old); err != nil {
		t.Fatal(err)
	}
	want := uint64(0) // customer-2 has every third event, every other one of them old
	for i := range values {
		if i%3 != 2 || i%2 == 0 {
			want++
		}
	}
	if rows != want || ids != want || old != 0 {
		t.Errorf("got %d rows with %d ids, %d of them too old; want %d and none", rows, ids, old, want)
	}
}

func TestAMutationThatKeepsFailingIsSaid(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	values := [][]byte{event(0, of("a", 1))}
	p.produce(pm, 0, values...)
	p.insertAs(values, 0, 0, func(int) bool { return true })
	table := p.choices()
	p.choose(table, "a", 30)
	in := p.reconciler(table)
	ctx := t.Context()
	if err := p.conn.Exec(ctx, "ALTER TABLE audit_events UPDATE retention_days = throwIf(kafka_offset >= 0, 'out of luck') WHERE 1 SETTINGS mutations_sync = 0"); err != nil {
		t.Fatal(err)
	}
	p.until("the failure to be told", func() (bool, string) {
		err := in.apply(ctx)
		return err != nil && strings.Contains(err.Error(), "system.mutations"), fmt.Sprint(err)
	})
	if err := in.apply(ctx); err == nil || strings.Contains(err.Error(), "luck") {
		t.Errorf("got %v, want an error without the engine's words", err)
	}
	if next := time.Now().Add(time.Minute); !in.wake(next).Equal(next) {
		t.Error("a pass that found a mutation under way is followed by another at once")
	}
	if err := p.conn.Exec(ctx, "KILL MUTATION WHERE database = currentDatabase() AND table = 'audit_events'"); err != nil {
		t.Fatal(err)
	}
	p.pass(in)
	p.become(map[string]string{"a": "1/30"})
}

func TestRetainGivesEachRowTheDaysOfItsCustomer(t *testing.T) {
	c := newEventColumns()
	for _, customer := range []string{"a", "b", "a", "c"} {
		c.row(&audit.Event{CustomerUUID: customer, CreatedDate: 1}, uuid.UUID{}, topic.Position{}, 0)
	}
	c.retain(func(customer string) uint16 { return map[string]uint16{"a": 30, "b": 90, "c": 400}[customer] })
	if diff := cmp.Diff([]uint16(c.retention), []uint16{30, 90, 30, 400}); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}
