package query

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/store"
)

// bench is a service under test with its development issuer.
type bench struct {
	*Service
	issuer *identity.Issuer
	ops    *ops.Ops
	logs   *observer.ObservedLogs
}

// unlimited are the limits of tests that are about something else.
type unlimited struct{}

func (unlimited) Limit(string, string) (apicall.Limit, bool) { return apicall.Limit{}, true }

// newBench makes a service without limits of calls; edit, when not nil, changes
// its configuration.
func newBench(t testing.TB, db store.Config, edit func(*Config)) *bench {
	t.Helper()
	return newLimitedBench(t, db, unlimited{}, edit)
}

// newLimitedBench makes a service with limits of calls; nil: those that are set
// for subscriptions, and their tiers'.
func newLimitedBench(t testing.TB, db store.Config, limits apicall.Limits, edit func(*Config)) *bench {
	t.Helper()
	issuer, err := identity.OpenIssuer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	log := zap.New(core)
	cfg := Config{Store: db, Kafka: testKafka(t), Identity: issuer.Config(), IngestGroup: "ingest", Reports: report.FilesConfig{URL: t.TempDir()}}
	if edit != nil {
		edit(&cfg)
	}
	o := ops.New(log)
	s, err := New(cfg, Deps{Log: log, Ops: o, CallLimits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.settings.read:
	case <-time.After(time.Minute):
		t.Fatal("settings were not read: ", s.settings.ready(t.Context()))
	}
	select {
	case <-s.reports.read:
	case <-time.After(time.Minute):
		t.Fatal("reports were not read: ", s.reports.ready(t.Context()))
	}
	return &bench{Service: s, issuer: issuer, ops: o, logs: logs}
}

var manager = identity.Identity{UserUUID: "u1", CustomerUUID: "tenant-one", Name: "jack", Role: identity.RoleManager}

func (b *bench) token(t testing.TB, id identity.Identity) string {
	t.Helper()
	token, err := b.issuer.Mint(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// do sends a request with a JSON body, as id unless it is nil, and holds both
// to openapi.json.
func (b *bench) do(t testing.TB, id *identity.Identity, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if id != nil {
		r.Header.Set("Authorization", "Bearer "+b.token(t, *id))
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	conform(t, r, body, w)
	return w
}

const searchPath = "/audit-log/admin/search"

// away is an engine address where nobody listens.
func away(t testing.TB) store.Config {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return store.Config{Addr: []string{ln.Addr().String()}, Database: "default", User: "default"}
}

func TestRoutesAnswerProblems(t *testing.T) {
	b := newBench(t, away(t), nil)
	for _, c := range []struct {
		id                 *identity.Identity
		method, path, body string
		status             int
		header             string // name=value that must be there
	}{
		{nil, "POST", searchPath, "{}", 401, `Www-Authenticate=Bearer realm="auditrail"`},
		{nil, "POST", searchPath, "{", 401, ""}, // who calls comes before what they want
		{nil, "GET", searchPath, "", 405, "Allow=POST"},
		{nil, "OPTIONS", searchPath, "", 405, "Allow=POST"},
		{nil, "GET", "/", "", 404, ""},
		{nil, "POST", "/audit-log/admin/search/", "{}", 404, ""},
		{nil, "POST", "/AUDIT-LOG/admin/search", "{}", 404, ""},
		{nil, "POST", "/audit-log/admin", "{}", 404, ""},
		{&manager, "POST", searchPath, "{", 400, ""},
		{&manager, "POST", searchPath, `{"customerUuid":"c2"}`, 403, ""},
		{&manager, "POST", searchPath, `{"userUuid":"u2"}`, 403, ""},
		{&manager, "POST", searchPath, `{"qql":5}`, 400, ""},
		{&manager, "POST", searchPath, `"` + strings.Repeat("x", maxBody) + `"`, 413, ""},
		{&manager, "POST", searchPath, "{}", 503, "Retry-After=5"},
	} {
		w := b.do(t, c.id, c.method, c.path, c.body)
		name, value, _ := strings.Cut(c.header, "=")
		if w.Code != c.status || c.header != "" && w.Header().Get(name) != value {
			t.Errorf("%s %s %.20s: got %d %v", c.method, c.path, c.body, w.Code, w.Header())
		}
		var doc problem.Document
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.Status != c.status || doc.RequestID != w.Header().Get("X-Request-Id") {
			t.Errorf("%s %s: %v %s", c.method, c.path, err, w.Body)
		}
		for name, want := range map[string]string{
			"Content-Type": problem.ContentType, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, got)
			}
		}
		if strings.Contains(w.Body.String(), "tenant-one") || strings.Contains(w.Body.String(), "127.0.0.1") {
			t.Errorf("%s %s: something leaks: %s", c.method, c.path, w.Body)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	b := newBench(t, away(t), nil)
	for in, kept := range map[string]bool{
		"abc-1.2_X": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a\"b": false, "é": false,
	} {
		got := b.do(t, nil, "GET", "/x", "", "X-Request-Id", in).Header().Get("X-Request-Id")
		if kept != (got == in) || got == "" {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestAccessLogHasNoSecrets(t *testing.T) {
	b := newBench(t, away(t), nil)
	token := b.token(t, manager)
	b.do(t, nil, "POST", searchPath, `{"userUuid":"hunter2"}`, "Authorization", "Bearer "+token, "X-Request-Id", "r1")
	lines := b.logs.FilterMessage("request").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	got := lines[0].ContextMap()
	delete(got, "took")
	if d := cmp.Diff(got, map[string]any{"requestId": "r1", "endpoint": "search", "tenant": "tenant-one", "status": int64(403)}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	for _, e := range b.logs.All() {
		line, err := json.Marshal(e.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(line), "hunter2") || strings.Contains(string(line), token[20:]) {
			t.Errorf("a secret in the log: %s", line)
		}
	}
}

func TestMetricsCount(t *testing.T) {
	b := newBench(t, away(t), nil)
	b.do(t, &manager, "POST", searchPath, "{}")
	b.do(t, nil, "GET", "/x", "")
	mux := http.NewServeMux()
	b.ops.Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	got := map[string]bool{}
	for sc := bufio.NewScanner(w.Body); sc.Scan(); {
		got[sc.Text()] = true
	}
	for _, want := range []string{
		`auditrail_query_requests_total{endpoint="search",status="503"} 1`,
		`auditrail_query_requests_total{endpoint="other",status="404"} 1`,
		`auditrail_query_request_seconds_count{endpoint="search"} 1`,
		`auditrail_query_requests_in_flight 0`,
		`auditrail_query_requests_waiting 0`,
	} {
		if !got[want] {
			t.Errorf("missing: %s", want)
		}
	}
}

func TestReadinessNamesWhatIsAway(t *testing.T) {
	b := newBench(t, away(t), nil)
	mux := http.NewServeMux()
	b.ops.Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "token-keys: ok") || !strings.Contains(w.Body.String(), "clickhouse: ") || strings.Contains(w.Body.String(), "reports") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestPanicBecomesInternal(t *testing.T) {
	b := newBench(t, away(t), nil)
	h := b.observe(b.recover(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret") })))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || b.logs.FilterMessage("panic").Len() != 1 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			t.Errorf("got %v: a part of an answer must be cut off", v)
		}
	}()
	b.observe(b.recover(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		panic("late")
	}))).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
}

// panicky is a connection that panics when asked.
type panicky struct{ driver.Conn }

func (panicky) Query(context.Context, string, ...any) (driver.Rows, error) { panic("secret") }

func TestPanicInAStatementBecomesInternal(t *testing.T) {
	b := newBench(t, away(t), nil)
	b.engine.conn = panicky{b.engine.conn}
	w := b.do(t, &manager, "POST", searchPath, "{}")
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for _, e := range b.logs.FilterMessage("panic").All() {
		if stack, _ := e.ContextMap()["stack"].(string); !strings.Contains(stack, "panicky") {
			t.Errorf("the stack does not show where: %s", stack)
		}
	}
	if b.logs.FilterMessage("panic").Len() == 0 {
		t.Error("not logged")
	}
}
