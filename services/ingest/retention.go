package ingest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// How long an event is kept is a column of its row, filled before the insert
// with what its subscription chose. A choice that changes reaches the rows that
// are stored by a mutation, which also drops those that it makes too old.
//
// Nothing remembers which mutations are due: the table is compared with the
// choices, again and again. So it does not matter who dies when, whether a
// mutation landed that was reported lost, or that a batch was inserted with the
// choice before: the next pass finds what differs. Two replicas at a time do no
// harm: the second mutation finds nothing to change.

const (
	// reconcileEvery is how often stored rows are compared with the choices.
	reconcileEvery = time.Minute
	// reconcileTimeout bounds one statement of that.
	reconcileTimeout = time.Minute
	// reconcileCustomers bounds the subscriptions that one statement names.
	reconcileCustomers = 1000
)

// retentionDays of a subscription's events.
func (in *ingest) retentionDays(customer string) uint16 {
	return in.settings.RetentionDays(customer, in.cfg.RetentionDays)
}

// retain gives every row the days of its customer.
func (c *columns) retain(days func(customer string) uint16) {
	byNumber := make([]uint16, len(c.customerUUID.keys))
	for n, customer := range c.customerUUID.keys {
		byNumber[n] = days(customer)
	}
	for row, n := range c.customerUUID.rows {
		c.retention[row] = byNumber[n]
	}
}

// expired says that the table may have dropped a row for its age.
func (c *columns) expired(row int, now time.Time) bool {
	age := now.Sub(time.UnixMilli(int64(c.created.Data[row])))
	return age > time.Duration(c.retention[row])*24*time.Hour
}

// keepRetention compares stored rows with the choices until ctx ends: every
// minute, and at once when a choice changes.
func (in *ingest) keepRetention(ctx context.Context) {
	changed, stop := in.settings.Watch()
	defer stop()
	every := time.NewTicker(reconcileEvery)
	defer every.Stop()
	for {
		if in.retry(ctx, "retention", "", in.reconcile) != nil {
			return // stopping
		}
		select {
		case <-every.C:
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// reconcile makes one pass, on one replica of the group.
func (in *ingest) reconcile(ctx context.Context) error {
	first, err := in.firstMember(ctx)
	if err != nil || !first {
		return err
	}
	return in.applyRetention(ctx)
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

// applyRetention starts a mutation for the rows that differ from what their
// subscription chose. While one is unfinished it starts none.
func (in *ingest) applyRetention(ctx context.Context) error {
	if busy, err := in.mutating(ctx); err != nil || busy {
		return err
	}
	for days, customers := range in.settings.Retentions() {
		slices.Sort(customers)
		for some := range slices.Chunk(customers, reconcileCustomers) {
			differ, err := in.otherThan(ctx, days, some)
			if err != nil {
				return err
			}
			if len(differ) == 0 {
				continue
			}
			if err := in.mutate(ctx, days, differ); err != nil {
				in.metrics.mutations.WithLabelValues("failed").Inc()
				return err
			}
			in.metrics.mutations.WithLabelValues("started").Inc()
			in.log.Info("retention of stored events changes", zap.Uint16("days", days), zap.Int("subscriptions", len(differ)))
		}
	}
	return nil
}

// mutating says that a mutation of the retention is unfinished. When it keeps
// failing the error has the engine's words: those behind it would wait for it.
func (in *ingest) mutating(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	var unfinished uint64
	var reason string
	if err := in.store.QueryRow(ctx, `SELECT count(), max(latest_fail_reason) FROM system.mutations
		WHERE database = currentDatabase() AND table = 'audit_events' AND NOT is_done AND position(command, 'retention_days') > 0`).Scan(&unfinished, &reason); err != nil {
		return false, fmt.Errorf("look for unfinished mutations: %w", err)
	}
	if reason != "" {
		return true, fmt.Errorf("a mutation of audit_events keeps failing (see system.mutations; KILL MUTATION ends it): %.300s", reason)
	}
	return unfinished > 0, nil
}

// otherThan lists those of the customers that have rows with other days.
func (in *ingest) otherThan(ctx context.Context, days uint16, customers []string) (differ []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	rows, err := in.store.Query(clickhouse.Context(ctx, retentionParameters(days, customers)),
		"SELECT DISTINCT customer_uuid FROM audit_events WHERE "+otherDays)
	if err != nil {
		return nil, fmt.Errorf("compare rows with their retention: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err tells what matters
	for rows.Next() {
		var customer string
		if err := rows.Scan(&customer); err != nil {
			return nil, err
		}
		differ = append(differ, customer)
	}
	return differ, rows.Err()
}

// mutate starts a mutation, one attempt. If it landed and we are told that it
// failed, the next pass finds it, or nothing that differs.
func (in *ingest) mutate(ctx context.Context, days uint16, customers []string) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, retentionParameters(days, customers),
		// It may rewrite the whole table: system.mutations tells when it is done.
		clickhouse.WithSettings(clickhouse.Settings{"mutations_sync": 0}))
	if err := in.store.Exec(ctx, "ALTER TABLE audit_events UPDATE retention_days = {days:UInt16} WHERE "+otherDays); err != nil {
		return fmt.Errorf("change the retention of stored rows: %w", err)
	}
	return nil
}

// otherDays holds for the rows of the customers that have other days.
const otherDays = "customer_uuid IN {customers:Array(String)} AND retention_days != {days:UInt16}"

func retentionParameters(days uint16, customers []string) clickhouse.QueryOption {
	set := param.Set{"days": strconv.Itoa(int(days))}
	set.Texts("customers", customers)
	return clickhouse.WithParameters(clickhouse.Parameters(set))
}
