package sqlgen_test

import (
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// TestEntriesAreMadeOnce holds that many tests of changes share one list of its
// entries: the engine's analysis of 50 such took seconds.
func TestEntriesAreMadeOnce(t *testing.T) {
	conn := open(t)
	fill(t, conn, "10", "10")
	for _, text := range []string{
		"changes.field: a OR NOT changes:(field: b AND after is null) OR changes.before: c",
		"NOT changes.field: a AND (changes.field: b OR NOT changes.after: c) OR changes: d",
	} {
		x, err := qql.Parse(field.Events, text)
		if err != nil {
			t.Fatal(err)
		}
		s := sqlgen.Count(manager, sqlgen.Filter{Where: x, Now: now})
		if n := strings.Count(s.SQL(), "extractAll("); n != 1 {
			t.Errorf("%s: made %d times", text, n)
		}
		query(t, conn, s, func(r driver.Rows) error { var n uint64; return r.Scan(&n) })
	}
}
