package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// How long an event, or a state of an API call, is kept is a column of its row, filled before the insert
// with what its subscription chose. A choice that changes reaches the rows that
// are stored by a mutation, which also drops those that it makes too old.
//
// Nothing remembers which mutations are due: the table is compared with the
// choices, again and again. So it does not matter who dies when, whether a
// mutation landed that was reported lost, or that a batch was inserted with the
// choice before: the next pass finds what differs. Two replicas at a time do no
// harm: the second mutation finds nothing to change.
//
// What is deleted does not come back, so a choice counts only once it has stood
// for Config.RetentionDelay: a wrong one can be taken back until then.

const (
	// reconcileEvery is how often stored rows are compared with the choices.
	reconcileEvery = time.Minute
	// reconcileAgain is the pause after a pass that failed.
	reconcileAgain = 10 * time.Second
	// reconcileTimeout bounds one statement of that.
	reconcileTimeout = time.Minute
	// compareTimeout bounds one that may read all rows of its subscriptions.
	compareTimeout = 10 * time.Minute
	// compareMargin is how long before a pass that found nothing rows are
	// compared again: for inserts that were under way then.
	compareMargin = time.Hour
	// reconcileCustomers bounds the subscriptions that one statement names.
	reconcileCustomers = 1000
)

// retentionDays of a subscription's rows that are stored now. While its
// choice may still be taken back, they get no fewer days than without one; a
// pass corrects them later.
func (in *ingest) retentionDays(customer string) uint16 {
	r, ok := in.settings.Retention(customer)
	switch {
	case !ok:
		return in.cfg.RetentionDays
	case time.Now().Before(in.counts(r)):
		return max(r.Days, in.cfg.RetentionDays)
	default:
		return in.chosen(r)
	}
}

// counts is when a choice begins to count.
func (in *ingest) counts(r settings.Retention) time.Time { return r.At.Add(in.cfg.RetentionDelay) }

// chosen days; a choice that was unset is the default.
func (in *ingest) chosen(r settings.Retention) uint16 {
	if r.Days == 0 {
		return in.cfg.RetentionDays
	}
	return r.Days
}

// retain gives every row the days of its customer.
func (c *columns) retain(days func(customer string) uint16) {
	byNumber := make([]uint16, len(c.customer.keys))
	for n, customer := range c.customer.keys {
		byNumber[n] = days(customer)
	}
	for row, n := range c.customer.rows {
		c.retention[row] = byNumber[n]
	}
}

// expired says that the table may have dropped a row for its age.
func (c *columns) expired(row int, now time.Time) bool {
	age := now.Sub(time.UnixMilli(int64(c.date.Data[row])))
	return age > time.Duration(c.retention[row])*24*time.Hour
}

// keeper compares stored rows with the choices.
type keeper struct {
	*ingest
	seen    map[string]settings.Retention // choices that the last pass knew
	tables  []*kept
	failing time.Time // when passes began to fail; zero: they do not
}

// kept is a table whose rows are kept as long as their subscription chose.
type kept struct {
	table string
	clean map[string]settings.Retention // choices that all rows ingested before since are as
	since int64                         // in ms since 1970, by the engine's clock
}

func newKeeper(in *ingest) *keeper {
	return &keeper{ingest: in, tables: []*kept{{table: in.events.table}, {table: in.calls.table}, {table: in.calls.target}}}
}

// keepRetention compares until ctx ends: every minute, and when a choice begins
// to count.
func (in *ingest) keepRetention(ctx context.Context) {
	changed, stop := in.settings.Watch()
	defer stop()
	k := newKeeper(in)
	var next time.Time
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-due.C:
			next = time.Now().Add(k.pass(ctx))
		case <-changed: // it is not acted on yet
		case <-ctx.Done():
			return
		}
		due.Reset(time.Until(k.wake(next)))
	}
}

// wake is when the next pass is due: at next, or when a choice that the last
// one did not know begins to count.
func (k *keeper) wake(next time.Time) time.Time {
	if !k.failing.IsZero() {
		return next
	}
	for customer, r := range k.settings.Retentions() {
		if counts := k.counts(r); k.seen[customer] != r && counts.Before(next) {
			next = counts
		}
	}
	return next
}

// pass makes one pass, on one replica of the group, and returns the pause after
// it. A failure is no reason to take the replica for unready: it ingests.
func (k *keeper) pass(ctx context.Context) time.Duration {
	first, err := k.firstMember(ctx)
	switch {
	case err != nil:
	case first:
		err = k.apply(ctx)
	default:
		k.seen = k.standing()
		for _, t := range k.tables {
			t.clean = nil // what another does, we do not know
		}
	}
	if err == nil || ctx.Err() != nil {
		k.failing = time.Time{}
		k.metrics.retentionFailing.Set(0)
		return reconcileEvery
	}
	if k.failing.IsZero() {
		k.failing = time.Now()
	}
	k.metrics.retentionFailing.Set(max(1, time.Since(k.failing).Seconds()))
	k.metrics.retries.WithLabelValues("retention").Inc()
	k.repeats.Warn("retention failed, will be repeated", zap.Duration("pause", reconcileAgain), zap.Error(err))
	return reconcileAgain
}

// standing are the choices that count.
func (k *keeper) standing() map[string]settings.Retention {
	now, standing := time.Now(), k.settings.Retentions()
	maps.DeleteFunc(standing, func(_ string, r settings.Retention) bool { return now.Before(k.counts(r)) })
	return standing
}

// firstMember says that no other member of the group has a lower id, or that we
// are none yet. It spares ClickHouse the same work from every replica; nothing
// rests on it.
func (in *ingest) firstMember(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	member, _ := in.client.GroupMetadata()
	groups, err := in.admin.DescribeGroups(ctx, in.cfg.Group)
	if err != nil {
		return false, fmt.Errorf("members of the group: %w", err)
	}
	byID := groups[in.cfg.Group].Members // in the order of their ids
	return member == "" || len(byID) > 0 && byID[0].MemberID == member, nil
}

// look is what one statement looks for: rows ingested since then with other days.
type look struct {
	days  uint16
	since int64 // in ms since 1970; 0: whenever
}

// apply starts mutations for the rows that differ from what their subscription
// chose. What is wrong with one table does not keep it from the others.
func (k *keeper) apply(ctx context.Context) error {
	k.seen = k.standing()
	var errs []error
	for _, t := range k.tables {
		errs = append(errs, k.applyTo(ctx, t))
	}
	return errors.Join(errs...)
}

// applyTo does so for one table. While a mutation is unfinished it starts none.
// What a pass before has compared is not compared again; only a choice that is
// new since is compared with all.
func (k *keeper) applyTo(ctx context.Context, t *kept) error {
	if busy, err := k.mutating(ctx, t.table); err != nil || busy {
		return err
	}
	now, err := k.engineTime(ctx)
	if err != nil {
		return err
	}
	looks := map[look][]string{}
	for customer, r := range k.seen {
		l := look{days: k.chosen(r)}
		if was, ok := t.clean[customer]; ok && was == r {
			l.since = t.since
		}
		looks[l] = append(looks[l], customer)
	}
	clean := true
	for l, customers := range looks {
		slices.Sort(customers)
		for some := range slices.Chunk(customers, reconcileCustomers) {
			differ, err := k.otherThan(ctx, t.table, l, some)
			if err != nil {
				return err
			}
			if len(differ) == 0 {
				continue
			}
			clean = false
			if err := k.mutate(ctx, t.table, l.days, differ); err != nil {
				k.metrics.mutations.WithLabelValues("failed").Inc()
				return err
			}
			k.metrics.mutations.WithLabelValues("started").Inc()
			k.log.Info("retention of stored rows changes", zap.String("table", t.table), zap.Uint16("days", l.days), zap.Int("subscriptions", len(differ)))
		}
	}
	if clean {
		t.clean, t.since = k.seen, now-compareMargin.Milliseconds()
	}
	return nil
}

// mutating says that a mutation of a table's retention is unfinished. That one keeps
// failing is an error: those behind it would wait for it.
func (in *ingest) mutating(ctx context.Context, table string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	var unfinished, failing uint64
	if err := in.store.QueryRow(ctx, `SELECT count(), countIf(latest_fail_reason != '') FROM system.mutations
		WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done AND position(command, 'retention_days') > 0`, clickhouse.Named("table", table)).Scan(&unfinished, &failing); err != nil {
		return false, wordless("look for unfinished mutations", err)
	}
	if failing > 0 {
		return true, fmt.Errorf("a mutation of %s keeps failing: latest_fail_reason in system.mutations says why, KILL MUTATION ends it", table)
	}
	return unfinished > 0, nil
}

// engineTime is the engine's clock, in ms since 1970.
func (in *ingest) engineTime(ctx context.Context) (now int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	if err := in.store.QueryRow(ctx, "SELECT toUnixTimestamp64Milli(now64(3))").Scan(&now); err != nil {
		return 0, wordless("ask for the time", err)
	}
	return now, nil
}

// otherThan lists those of the customers that have such rows.
func (in *ingest) otherThan(ctx context.Context, table string, l look, customers []string) (differ []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	rows, err := in.store.Query(clickhouse.Context(ctx, retentionParameters(l, customers)),
		"SELECT DISTINCT customer_uuid FROM "+table+" WHERE ingested_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND "+otherDays)
	if err != nil {
		return nil, wordless("compare rows with their retention", err)
	}
	defer func() { _ = rows.Close() }() // Err tells what matters
	for rows.Next() {
		var customer string
		if err := rows.Scan(&customer); err != nil {
			return nil, err
		}
		differ = append(differ, customer)
	}
	if err := rows.Err(); err != nil {
		return nil, wordless("compare rows with their retention", err)
	}
	return differ, nil
}

// wordless says what failed, without the engine's words: they may quote values.
func wordless(what string, err error) error {
	var e *clickhouse.Exception
	if errors.As(err, &e) {
		return fmt.Errorf("%s: ClickHouse answers with error %d; system.query_log has its words", what, e.Code)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// mutate starts a mutation, one attempt. If it landed and we are told that it
// failed, the next pass finds it, or nothing that differs.
func (in *ingest) mutate(ctx context.Context, table string, days uint16, customers []string) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, retentionParameters(look{days: days}, customers),
		// It may rewrite the whole table: system.mutations tells when it is done.
		clickhouse.WithSettings(clickhouse.Settings{"mutations_sync": 0}))
	if err := in.store.Exec(ctx, "ALTER TABLE "+table+" UPDATE retention_days = {days:UInt16} WHERE "+otherDays); err != nil {
		return wordless("change the retention of stored rows", err)
	}
	return nil
}

// otherDays holds for the rows of the customers that have other days.
const otherDays = "customer_uuid IN {customers:Array(String)} AND retention_days != {days:UInt16}"

func retentionParameters(l look, customers []string) clickhouse.QueryOption {
	set := param.Set{"days": strconv.Itoa(int(l.days)), "since": strconv.FormatInt(l.since, 10)}
	set.Texts("customers", customers)
	return clickhouse.WithParameters(clickhouse.Parameters(set))
}
