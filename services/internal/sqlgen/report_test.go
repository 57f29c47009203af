package sqlgen_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// reported are all statements of a report.
func reported(see visibility.Predicate, f sqlgen.Filter, pin sqlgen.Pin, span sqlgen.TimeSpan, width int64, zone *time.Location) []sqlgen.Statement {
	var columns []*field.Field
	for i := range field.Events.Fields {
		if f := &field.Events.Fields[i]; f.Type != field.JSON {
			columns = append(columns, f)
		}
	}
	return []sqlgen.Statement{
		sqlgen.ReportRows(see, f, pin, span, columns, sqlgen.CSV{Zone: zone}), sqlgen.ReportRows(see, f, pin, span, columns, sqlgen.JSONLines{}),
		sqlgen.ReportRows(see, f, pin, span, columns, sqlgen.Parquet{}),
		sqlgen.ReportCount(see, f, pin, span), sqlgen.ReportHistogram(see, f, pin, span, width),
	}
}

// TestNoValueOfAReportInSQL holds that they all travel beside the SQL.
func TestNoValueOfAReportInSQL(t *testing.T) {
	see := visibility.For(identity.Identity{UserUUID: mark, CustomerUUID: mark, Name: mark, Role: identity.RoleUnitManager, BusinessUnits: []string{mark}})
	f := sqlgen.Filter{Where: qql.Test{Field: field.Find(field.Events.Fields, "action"), Cond: qql.Equal{Text: mark}}, Now: now}
	pin := sqlgen.Pin{Watermark: 7777777, Partitions: []sqlgen.PinnedPartition{{Topic: mark, TopicID: uuid.MustParse("77777777-7777-7777-7777-777777777777"), Partition: 7, Next: 7777777}}}
	zone := time.FixedZone(mark, 7777)
	for _, s := range reported(see, f, pin, sqlgen.TimeSpan{From: 7777777, To: 77777777}, 7777777, zone) {
		if strings.Contains(s.SQL(), "777") || !strings.Contains(s.SQL(), "customer_uuid = {see_customer:String}") {
			t.Error(s.SQL())
		}
	}
}

// TestReportsAreReadAlongTheKey holds that a chunk is neither sorted nor read
// beyond its span, in any shape.
func TestReportsAreReadAlongTheKey(t *testing.T) {
	conn := open(t)
	fill(t, conn, "300000", "10")
	pin := sqlgen.Pin{Watermark: math.MaxInt64}
	span := sqlgen.TimeSpan{From: 1782777600000 - 100_000, To: 1782777600000 + 1}
	for _, s := range reported(manager, sqlgen.Filter{}, pin, span, 1000, time.UTC)[:3] {
		rows, err := conn.Query(clickhouse.Context(t.Context(), clickhouse.WithParameters(s.Params())), "EXPLAIN actions = 1 "+s.SQL())
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(line + "\n")
		}
		if err := rows.Close(); err != nil || !strings.Contains(plan.String(), "Read type: InReverseOrder") {
			t.Errorf("%v\n%s", err, plan.String())
		}
		n := 0
		read := query(t, conn, s, func(driver.Rows) error { n++; return nil })
		if n != 10_001 || read > 20_000 {
			t.Errorf("%d rows, of %d that were read", n, read)
		}
	}
}

// TestReportHistogram holds that stretches are counted newest first, from the
// span's beginning on.
func TestReportHistogram(t *testing.T) {
	conn := open(t)
	fill(t, conn, "3000", "10") // 1000 rows, 10 ms apart, back from then
	const then = 1782777600000
	span := sqlgen.TimeSpan{From: then - 95, To: then + 1}
	pin := sqlgen.Pin{Watermark: math.MaxInt64}
	var got [][2]int64
	query(t, conn, sqlgen.ReportHistogram(manager, sqlgen.Filter{}, pin, span, 40), func(r driver.Rows) error {
		var at int64
		var n uint64
		err := r.Scan(&at, &n)
		got = append(got, [2]int64{at, int64(n)})
		return err
	})
	if len(got) != 3 || got[0] != [2]int64{then - 15, 2} || got[1] != [2]int64{then - 55, 4} || got[2] != [2]int64{then - 95, 4} {
		t.Error(got)
	}
}
