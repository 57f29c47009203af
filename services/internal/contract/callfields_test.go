package contract

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestCallFieldsAgree holds the table of fields of API calls to the Go type and
// to the live tables, of the latest states and of all of them. A heartbeat is
// not stored.
func TestCallFieldsAgree(t *testing.T) {
	var inGo, inTable []string
	call := reflect.TypeFor[audit.APICall]()
	for i := range call.NumField() {
		if name, _, _ := strings.Cut(call.Field(i).Tag.Get("json"), ","); name != "heartbeat" {
			inGo = append(inGo, name)
		}
	}
	for _, f := range field.Calls.Fields {
		inTable = append(inTable, f.Name)
	}
	if diff := cmp.Diff(inGo, inTable); diff != "" {
		t.Errorf("fields (-Go type +field table):\n%s", diff)
	}
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, table := range []string{field.Calls.Name, "api_call_events"} {
		for _, f := range field.Calls.Fields {
			var typ string
			row := conn.QueryRow(t.Context(), "SELECT type FROM system.columns WHERE database = currentDatabase() AND table = $1 AND name = $2", table, f.Column)
			if err := row.Scan(&typ); err != nil {
				t.Errorf("%s has no column %s: %v", table, f.Column, err)
			} else if !slices.Contains(columnTypes[f.Type], typ) {
				t.Errorf("column %s of %s is %s, want one of %v", f.Column, table, typ, columnTypes[f.Type])
			}
		}
	}
}
