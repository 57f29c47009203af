package visibility_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// words are few, so that values meet, and nasty, so that quoting is tried.
var words = []string{
	"", "a", "A", "a ", " a", "á", "a\u0301", "a'", `a\`, `\N`, "NULL", "a\tb", "a\nb", "a\rb", "a\x00", "{see_user:String}",
	"a' OR 1=1 --", `['a']`, "\x01\x7f", "a\b\f",
}

// TestSQLAndAllowsMeanTheSame holds the two forms of a Predicate together on
// the engine: over one set of events with every mix of words, any identity
// gets the same events from both.
func TestSQLAndAllowsMeanTheSame(t *testing.T) {
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO audit_events (id, customer_uuid, user_uuid, user_name, business_unit, created_date, kafka_offset, retention_days)")
	if err != nil {
		t.Fatal(err)
	}
	var events []audit.Event
	for _, customer := range words[1:6] {
		for _, user := range words {
			for _, name := range words {
				e := audit.Event{CustomerUUID: customer, UserUUID: user, UserName: name, BusinessUnit: words[len(events)%len(words)]}
				if err := batch.Append(uuid.Nil, e.CustomerUUID, e.UserUUID, e.UserName, e.BusinessUnit, time.UnixMilli(1750000000000), int64(len(events)), uint16(20000)); err != nil {
					t.Fatal(err)
				}
				events = append(events, e)
			}
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}

	rapid.Check(t, func(rt *rapid.T) {
		word := func(label string) string { return rapid.SampledFrom(words).Draw(rt, label) }
		id := identity.Identity{
			CustomerUUID: rapid.SampledFrom(words[:7]).Draw(rt, "customer"), UserUUID: word("user"), Name: word("name"),
			Role:          rapid.SampledFrom(append([]identity.Role{"", "Root"}, identity.Roles...)).Draw(rt, "role"),
			BusinessUnits: rapid.SliceOfN(rapid.SampledFrom(words), 0, 4).Draw(rt, "units"),
			ViewAll:       rapid.IntRange(0, 9).Draw(rt, "viewAll") == 0,
		}
		p := visibility.For(id)
		var want []int64
		for i, e := range events {
			if p.Allows(&e) {
				want = append(want, int64(i))
			}
		}
		params := param.Set{}
		cond := p.SQL(params)
		rows, err := conn.Query(clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters(params))),
			"SELECT kafka_offset FROM audit_events WHERE "+cond)
		if err != nil {
			rt.Fatal(err)
		}
		var got []int64
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				rt.Fatal(err)
			}
			got = append(got, n)
		}
		if err := rows.Close(); err != nil {
			rt.Fatal(err)
		}
		slices.Sort(got)
		if d := cmp.Diff(got, want); d != "" {
			rt.Fatalf("%+v: events (-SQL +Allows)\n%s", id, d)
		}
	})
}
