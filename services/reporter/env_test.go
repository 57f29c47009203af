package reporter

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

func TestMain(m *testing.M) {
	child()
	testenv.Main(m)
}

// openStore makes a database with tables, and returns both ways into it.
func openStore(t testing.TB, e *testenv.Engine) (driver.Conn, *clickHouse) {
	t.Helper()
	cfg := e.Config()
	if _, err := store.Migrate(t.Context(), cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := newClickHouse(cfg, store.HTTPConfig{Addr: []string{e.HTTPAddr}}, 2, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return conn, c
}
