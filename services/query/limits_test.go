package query

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// endless makes audit_events a view that never runs out of rows.
func (db *database) endless(t *testing.T) {
	t.Helper()
	db.insert(t, t, audit.Event{ID: "0190a0a5-b21e-7f43-9dfe-578a88ae01c9", CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000001})
	db.exec(t, "RENAME TABLE audit_events TO one_event",
		"CREATE VIEW audit_events AS SELECT one_event.* FROM numbers(1000000000000) AS n CROSS JOIN one_event WHERE sipHash64(n.number) != 1")
}

// running counts the statements of the query service in ClickHouse.
func (db *database) running(t *testing.T) uint64 {
	t.Helper()
	var n uint64
	if err := db.conn.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE query LIKE '%FROM audit_events WHERE%' AND query NOT LIKE '%system.processes%'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// until looks again and again for what must come true.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(30 * time.Second)
	for !cond() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	db := newDatabase(t)
	db.endless(t)
	b := newBench(t, db.cfg, func(c *Config) { c.Timeout, c.Rows = 300*time.Millisecond, math.MaxInt64 })
	w := b.do(t, &manager, "POST", searchPath, `{"startDate":0}`)
	if w.Code != 422 || !strings.Contains(w.Body.String(), "limit of 300ms (--query-timeout)") || !strings.Contains(w.Body.String(), "Narrow it") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	until(t, "statements end", func() bool { return db.running(t) == 0 })
}

func TestMemoryLimit(t *testing.T) {
	db := newDatabase(t)
	db.fillMany(t, manager.CustomerUUID, "300000")
	b := newBench(t, db.cfg, func(c *Config) { c.Memory = 1 << 10 })
	w := b.do(t, &manager, "POST", searchPath, `{"pageSize":200,"pageNumber":100,"startDate":0}`)
	if w.Code != 422 || !strings.Contains(w.Body.String(), "limit of 1KiB (--query-memory)") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "chunk") {
		t.Errorf("the engine's words leak: %s", w.Body)
	}
}

func TestStatementsCannotWrite(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(b.engine.settings(t.Context(), false)))
	for _, s := range []string{"CREATE TABLE x (a Int8) ENGINE = Memory", "TRUNCATE TABLE audit_events", "INSERT INTO audit_events (id) SELECT generateUUIDv4()"} {
		err := b.engine.conn.Exec(ctx, s)
		if ex, ok := errors.AsType[*clickhouse.Exception](err); !ok || ex.Code != 164 {
			t.Errorf("%s: %v, want code 164", s, err)
		}
	}
}

func TestHangUpKillsTheStatements(t *testing.T) {
	db := newDatabase(t)
	db.endless(t)
	b := newBench(t, db.cfg, func(c *Config) { c.Rows = math.MaxInt64 })
	srv := httptest.NewServer(b.Handler())
	defer srv.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+searchPath, strings.NewReader(`{"startDate":0}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+b.token(t, manager))
	done := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	until(t, "statements start", func() bool { return db.running(t) > 0 })
	hangUp()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	until(t, "statements end", func() bool { return db.running(t) == 0 })
	until(t, "access log", func() bool { return b.logs.FilterField(zap.Int("status", statusClientGone)).Len() == 1 })
}

func TestTheStoreGoesAwayAndComesBack(t *testing.T) {
	e := testenv.NewEngine(t)
	if _, err := store.Migrate(t.Context(), e.Config(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, e.Config(), nil)
	if err := b.engine.ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	search := func() int { return b.do(t, &manager, "POST", searchPath, "{}").Code }
	if got := search(); got != 200 {
		t.Errorf("at first: %d", got)
	}
	e.Kill()
	w := b.do(t, &manager, "POST", searchPath, "{}")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), e.Addr) {
		t.Errorf("away: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if err := b.engine.ready(t.Context()); err == nil {
		t.Error("ready without a store")
	}
	e.Start()
	if got := search(); got != 200 {
		t.Errorf("back: %d", got)
	}
}

func TestAnOldSchemaIsNotReady(t *testing.T) {
	b := newBench(t, testenv.ClickHouse(t).Config(), nil)
	if err := b.engine.ready(t.Context()); !errors.Is(err, store.ErrSchema) {
		t.Errorf("got %v", err)
	}
	if w := b.do(t, &manager, "POST", searchPath, "{}"); w.Code != 500 || strings.Contains(w.Body.String(), "audit_events") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// TestReasons holds what each kind of failure is told as.
func TestReasons(t *testing.T) {
	b := newBench(t, away(t), nil)
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{&clickhouse.Exception{Code: codeTimeout}, 422, "--query-timeout"},
		{errSlow, 422, "--query-timeout"},
		{&clickhouse.Exception{Code: codeMemory, Message: "Query memory limit exceeded: would use 2.00 GiB"}, 422, "--query-memory"},
		{&clickhouse.Exception{Code: codeMemory, Message: "Memory limit (for query) exceeded: would use 2.00 GiB"}, 422, "--query-memory"},
		{&clickhouse.Exception{Code: codeMemory, Message: "User memory limit exceeded: would use 2.00 GiB"}, 503, "busy"},
		{&clickhouse.Exception{Code: codeMemory, Message: "(total) memory limit exceeded: would use 9.00 GiB. OvercommitTracker decision: Query was selected to stop by OvercommitTracker"}, 503, "busy"},
		{&clickhouse.Exception{Code: codeTooLargeResult}, 422, "smaller page"},
		{&clickhouse.Exception{Code: codeTooManyQueries}, 503, "busy"},
		{&clickhouse.Exception{Code: codeCancelled}, 503, "busy"},
		{&clickhouse.Exception{Code: 60, Message: "secret"}, 500, ""},
		{errScan, 500, ""},
		{errors.New("EOF"), 503, "cannot be reached"},
		{clickhouse.ErrAcquireConnTimeout, 503, "cannot be reached"},
	} {
		p := problem.From(b.engine.explain(c.err))
		if p.HTTPStatus() != c.status || !strings.Contains(p.Detail, c.says) || strings.Contains(p.Detail, "secret") || !errors.Is(p, c.err) {
			t.Errorf("%v: %d %s", c.err, p.HTTPStatus(), p.Detail)
		}
		if (c.status == 503) != (p.RetryAfter > 0) {
			t.Errorf("%v: retry after %s", c.err, p.RetryAfter)
		}
	}
}

func TestTheDrainOutlastsTheLongestRequest(t *testing.T) {
	b := newBench(t, away(t), func(c *Config) { c.Timeout, c.QueueWait = 3*time.Minute, time.Minute })
	if longest := time.Minute + 3*time.Minute + timeoutGrace + time.Minute + auditTimeout; b.drain() <= longest {
		t.Errorf("drains for %s, a request may take %s", b.drain(), longest)
	}
}

func TestRunServesAndDrains(t *testing.T) {
	db := newDatabase(t)
	issuer, err := identity.OpenIssuer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broker := testKafka(t)
	ln := away(t).Addr[0] // free a moment ago
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{HTTPAddr: ln, Store: db.cfg, Kafka: broker, Identity: issuer.Config(), Reports: report.FilesConfig{URL: t.TempDir()}}, Deps{Log: zap.NewNop(), Ops: ops.New(zap.NewNop())})
	}()
	get := func(path string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ln+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	until(t, "ready", func() bool { return get("/readyz") == 200 })
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, searchPath: 405, "/nothing": 404} {
		if got := get(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := Run(t.Context(), Config{HTTPAddr: ln, Store: db.cfg, Kafka: broker}, Deps{Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), "--jwks-file") {
		t.Errorf("without token keys: %v", err)
	}
}
