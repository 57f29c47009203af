package contract

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// columnTypes are the ClickHouse types that hold a field type.
var columnTypes = map[field.Type][]string{
	field.UUID:    {"UUID"},
	field.Number:  {"UInt32"},
	field.Keyword: {"LowCardinality(String)"},
	field.Text:    {"String", "LowCardinality(String)"},
	field.Opaque:  {"String", "LowCardinality(String)"},
	field.Address: {"IPv6"},
	field.Instant: {"DateTime64(3, 'UTC')"},
	field.JSON:    {"String"},
}

// positionColumns are the columns that no field of the event fills.
var positionColumns = []string{"topic_id", "kafka_partition", "kafka_offset", "appended_at", "ingested_at", "retention_days"}

func TestTableAgrees(t *testing.T) {
	t.Parallel()
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rows, err := conn.Query(t.Context(), "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'audit_events'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	live := map[string]string{}
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			t.Fatal(err)
		}
		live[name] = typ
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, f := range field.Events.Fields {
		typ, ok := live[f.Column]
		delete(live, f.Column)
		if !ok {
			t.Errorf("field %s: the table has no column %s", f.Name, f.Column)
			continue
		}
		if !slices.Contains(columnTypes[f.Type], typ) {
			t.Errorf("field %s: column %s is %s, want one of %v", f.Name, f.Column, typ, columnTypes[f.Type])
		}
	}
	for _, c := range positionColumns {
		if _, ok := live[c]; !ok {
			t.Errorf("the table has no column %s", c)
		}
		delete(live, c)
	}
	if diff := cmp.Diff(live, map[string]string{}); diff != "" {
		t.Errorf("columns that the field table does not name, -got +want:\n%s", diff)
	}

	// Run again: nothing to do.
	if steps, err := store.Migrate(t.Context(), cfg, zaptest.NewLogger(t)); err != nil || steps != 0 {
		t.Errorf("the second migration took %d steps, %v; want none", steps, err)
	}
}
