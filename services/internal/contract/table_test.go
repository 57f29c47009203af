package contract

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

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

func TestTableAgrees(t *testing.T) {
	t.Parallel()
	live, migrateAgain := liveColumns(t)
	events := live["audit_events"]
	for _, f := range field.Events.Fields {
		typ, ok := events[f.Column]
		delete(events, f.Column)
		if !ok {
			t.Errorf("field %s: the table has no column %s", f.Name, f.Column)
			continue
		}
		if !slices.Contains(columnTypes[f.Type], typ) {
			t.Errorf("field %s: column %s is %s, want one of %v", f.Name, f.Column, typ, columnTypes[f.Type])
		}
	}
	onlyColumns(t, "audit_events", events, positionColumns...)
	migrateAgain()
}

// callColumns are the tables of API calls and what they hold beside the fields.
var callColumns = map[string][]string{
	"api_call_events": append([]string{"id", "state_rank"}, positionColumns...),
	"api_calls":       {"retention_days", "version", "ingested_at"},
}

// Every field of an API call but heartbeat, which is not stored, has a column
// of its name in both tables, of a type that holds it.
func TestTablesOfAPICallsAgree(t *testing.T) {
	t.Parallel()
	live, _ := liveColumns(t)
	names, types := goFields(apiCalls)
	for table, others := range callColumns {
		columns := live[table]
		for _, name := range names {
			if name == "heartbeat" {
				continue
			}
			want := []string{"LowCardinality(String)", "String"}
			switch {
			case name == "callId":
				want = []string{"UUID"}
			case name == "sourceIp":
				want = []string{"IPv6"}
			case types[name].Kind() == reflect.Uint32:
				want = []string{"UInt32"}
			case types[name].Kind() == reflect.Int64:
				want = []string{"DateTime64(3, 'UTC')"}
			}
			column := snake(name)
			if typ := columns[column]; !slices.Contains(want, typ) {
				t.Errorf("%s: column %s of %s is %q, want one of %q", table, column, name, typ, want)
			}
			delete(columns, column)
		}
		onlyColumns(t, table, columns, others...)
	}
}

// snake writes camelCase with underscores.
func snake(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
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
