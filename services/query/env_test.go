package query

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// database is a migrated database of the embedded engine.
type database struct {
	cfg  store.Config
	conn driver.Conn
}

// testKafka is a broker of the test's own, with all topics.
func testKafka(t testing.TB) kafka.Config {
	t.Helper()
	cfg := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Modules: []string{"PM"}, Partitions: 1, Replication: 1, Retention: 1000 * time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	cfg := testenv.ClickHouse(t).Config()
	if _, err := store.Migrate(t.Context(), cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &database{cfg: cfg, conn: conn}
}

// exec runs statements that must succeed.
func (db *database) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := db.conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// retention keeps the tests' events, whatever their date: 54 years, in days.
const retention = 20000

// fatal is what insert needs of a test; rapid has it too.
type fatal interface{ Fatal(args ...any) }

// insert stores events as ingest does: one column a field, and no indexes until
// parts are merged.
func (db *database) insert(t testing.TB, f fatal, events ...audit.Event) {
	t.Helper()
	if len(events) == 0 {
		return
	}
	names := make([]string, len(field.Events.Fields))
	for i, f := range field.Events.Fields {
		names[i] = f.Column
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"materialize_skip_indexes_on_insert": 0}))
	batch, err := db.conn.PrepareBatch(ctx, "INSERT INTO audit_events ("+strings.Join(names, ", ")+
		", topic_id, kafka_partition, kafka_offset, appended_at, retention_days)")
	if err != nil {
		f.Fatal(err)
	}
	for i, e := range events {
		ip := netip.IPv6Unspecified()
		if e.SourceIP != "" {
			ip = netip.AddrFrom16(netip.MustParseAddr(e.SourceIP).As16())
		}
		err := batch.Append(uuid.MustParse(e.ID), e.AuditEnabledAppID, e.ApplicationName, e.ModuleCode, e.ModuleName, e.UserName,
			e.UserRole, e.UserUUID, e.CustomerUUID, e.Client, ip, time.UnixMilli(e.CreatedDate), e.TargetType, e.TargetName,
			e.Action, e.Status, e.AuditComment, e.ExternalChangeLink, e.EndpointType, e.BusinessUnit, e.Origin,
			string(e.Changes), e.RequestID, string(e.Extra), uuid.Nil, uint32(0), int64(i), time.Now(), uint16(retention))
		if err != nil {
			f.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		f.Fatal(err)
	}
}

// fillMany stores n events of one customer and 50 users, a second apart, made
// by the engine itself.
func (db *database) fillMany(t testing.TB, customer string, n string) {
	t.Helper()
	db.exec(t, `INSERT INTO audit_events (id, customer_uuid, created_date, user_uuid, user_name, action, module_code, module_name,
		audit_comment, topic_id, kafka_partition, kafka_offset, appended_at, retention_days)
		SELECT generateUUIDv4(), '`+customer+`', toDateTime64('2026-06-30 00:00:00', 3, 'UTC') - toIntervalSecond(number),
		'user-' || toString(number % 50), 'jack', 'Add', 'PM', 'Patch Management', 'comment ' || hex(sipHash64(number)),
		toUUID('00000000-0000-0000-0000-000000000001'), 0, number, now64(3), 20000 FROM numbers(`+n+`)`)
}

// answer is a search answer as a client reads it.
type answer struct {
	AuditRecords []map[string]any `json:"auditRecords"`
	TotalCount   int64            `json:"totalCount"`
	PageNumber   int64            `json:"pageNumber"`
	PageSize     int64            `json:"pageSize"`
	SearchAfter  string           `json:"searchAfter"`
}

func (a answer) ids() []string {
	ids := []string{}
	for _, r := range a.AuditRecords {
		ids = append(ids, r["id"].(string))
	}
	return ids
}

// searchAs searches and must succeed.
func (b *bench) searchAs(t testing.TB, f fatal, id identity.Identity, body string) answer {
	t.Helper()
	w := b.do(t, &id, "POST", searchPath, body)
	if w.Code != 200 {
		f.Fatal(w.Code, body, w.Body.String())
	}
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		f.Fatal(err, w.Body.String())
	}
	return a
}

// ensureModules makes the topics of modules.
func (b *bench) ensureModules(t testing.TB, modules ...string) {
	t.Helper()
	cl, err := kafka.Open(t.Context(), b.cfg.Kafka, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Modules: modules, Partitions: 1, Replication: 1, Retention: 1000 * time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
}
