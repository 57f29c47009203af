package contract

import (
	"maps"
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

// positionColumns are the columns that no field of a record fills.
var positionColumns = []string{"topic_id", "kafka_partition", "kafka_offset", "appended_at", "ingested_at", "retention_days"}

// tables are the tables of records: what they hold and what beside the fields.
var tables = map[string]struct {
	of     *field.Table
	others []string
}{
	"audit_events":    {field.Events, positionColumns},
	"api_call_events": {field.Calls, append([]string{"id", "state_rank"}, positionColumns...)},
	"api_calls":       {field.Calls, []string{"retention_days", "version", "ingested_at"}},
}

func TestTablesAgree(t *testing.T) {
	t.Parallel()
	live, migrateAgain := liveColumns(t)
	for table, holds := range tables {
		columns := live[table]
		for _, f := range holds.of.Fields {
			typ, ok := columns[f.Column]
			delete(columns, f.Column)
			if !ok {
				t.Errorf("%s: there is no column %s of field %s", table, f.Column, f.Name)
				continue
			}
			if !slices.Contains(columnTypes[f.Type], typ) {
				t.Errorf("%s: column %s of field %s is %s, want one of %v", table, f.Column, f.Name, typ, columnTypes[f.Type])
			}
		}
		onlyColumns(t, table, columns, holds.others...)
	}
	migrateAgain()
}

// onlyColumns checks that the columns that no field fills are these.
func onlyColumns(t *testing.T, table string, columns map[string]string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(columns))); diff != "" {
		t.Errorf("%s: columns that no field fills (-want +got):\n%s", table, diff)
	}
}

// liveColumns makes the tables and returns the type of each column, by table.
// again checks that to migrate once more changes nothing.
func liveColumns(t *testing.T) (live map[string]map[string]string, again func()) {
	t.Helper()
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rows, err := conn.Query(t.Context(), "SELECT table, name, type FROM system.columns WHERE database = currentDatabase()")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	live = map[string]map[string]string{}
	for rows.Next() {
		var table, name, typ string
		if err := rows.Scan(&table, &name, &typ); err != nil {
			t.Fatal(err)
		}
		if live[table] == nil {
			live[table] = map[string]string{}
		}
		live[table][name] = typ
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return live, func() {
		if steps, err := store.Migrate(t.Context(), cfg, zaptest.NewLogger(t)); err != nil || steps != 0 {
			t.Errorf("the second migration took %d steps, %v; want none", steps, err)
		}
	}
}
