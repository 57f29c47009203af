package query

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

const exportPath = "/audit-log/admin/search/export"

// exportAs exports and must succeed; it returns the body and what the trailers
// say.
func (b *bench) exportAs(t testing.TB, f fatal, id identity.Identity, body string, header ...string) (file, status, rows string) {
	t.Helper()
	w := b.do(t, &id, "POST", exportPath, body, header...)
	if w.Code != 200 {
		f.Fatal(w.Code, body, w.Body.String())
	}
	end := w.Result()
	return w.Body.String(), end.Trailer.Get(exportStatus), end.Trailer.Get(exportRows)
}

var nasty = []audit.Event{
	{
		ID: "0190a0a5-b21e-7f43-9dfe-578a88ae01c9", CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000001, SourceIP: "2001:db8::1", AuditEnabledAppID: 21,
		UserName: "=1+1", Action: "-5", AuditComment: "a \"quoted\", b\r\nc\u2028 \x00 é", TargetName: "\uFF1Dx", Status: "'=1", ModuleName: "# incomplete",
		ExternalChangeLink: "http://h:1/key?a=1&b=<2>", EndpointType: audit.EndpointAPI, BusinessUnit: "@EU",
		Changes: []byte(`[{"field":"a","after":"<&>,"}]`), RequestID: "r-1", Extra: []byte(`{"x":{"y":[1.50]}}`),
	},
	{ID: "0190a0a5-b21e-7f43-9dfe-578a88ae01ca", CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000002, UserName: "jack", SourceIP: "10.0.0.1", Action: "Add"},
}

// TestExportsHoldWhatSearchShows compares every line of both formats with the
// records of a search.
func TestExportsHoldWhatSearchShows(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, nasty...)
	b := newBench(t, db.cfg, nil)
	records := b.searchAs(t, t, manager, `{"startDate":0}`).AuditRecords
	if len(records) != len(nasty) {
		t.Fatalf("%d records", len(records))
	}

	lines, status, rows := b.exportAs(t, t, manager, `{"startDate":0,"format":"jsonl"}`)
	if status != "complete" || rows != "2" {
		t.Errorf("trailers: %q %q", status, rows)
	}
	var got []map[string]any
	for dec := json.NewDecoder(strings.NewReader(lines)); dec.More(); {
		var record map[string]any
		if err := dec.Decode(&record); err != nil {
			t.Fatal(err)
		}
		got = append(got, record)
	}
	if d := cmp.Diff(got, records); d != "" {
		t.Errorf("jsonl (-got +search)\n%s", d)
	}

	file, status, rows := b.exportAs(t, t, manager, `{"startDate":0}`)
	if status != "complete" || rows != "2" || !strings.HasSuffix(file, "\r\n") || strings.Contains(file, "\n# incomplete") {
		t.Errorf("trailers: %q %q", status, rows)
	}
	cells, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	if err != nil || len(cells) != 3 {
		t.Fatalf("%d rows, %v", len(cells), err)
	}
	for i, f := range field.Events.Fields {
		if cells[0][i] != f.Title {
			t.Errorf("header %d: %q, want %q", i, cells[0][i], f.Title)
		}
		for n, record := range records {
			want := ""
			switch v := record[f.Name].(type) {
			case nil:
			case float64:
				want = fmt.Sprint(int64(v))
				if f.Type == field.Instant {
					want = time.UnixMilli(int64(v)).UTC().Format("2006-01-02T15:04:05.000Z")
				}
			case string:
				want = strings.ReplaceAll(v, "\r\n", "\n") // as Go's reader does
			default:
				text, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				want = string(text)
			}
			got := unguard(cells[n+1][i])
			if f.Type == field.JSON && got != "" {
				got = compact(t, got)
			}
			if got != want {
				t.Errorf("row %d %s: %q, want %q", n, f.Name, got, want)
			}
		}
	}
	if got := cells[2][5]; got != "'=1+1" {
		t.Errorf("a formula: %q", got)
	}
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExportColumnsViewsAndZones(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, nasty[1])
	b := newBench(t, db.cfg, nil)
	for body, want := range map[string]string{
		`{"startDate":0,"view":"activity-log"}`:                                          "User,Action,Endpoint Type,Date\r\njack,Add,,2025-06-15T15:06:40.002Z\r\n",
		`{"startDate":0,"view":"activity-log","columns":["createdDate","sourceIp"]}`:     "Date,Source Ip\r\n2025-06-15T15:06:40.002Z,10.0.0.1\r\n",
		`{"startDate":0,"columns":["createdDate","USERNAME"],"timezone":"Asia/Kolkata"}`: "Created Date,User Name\r\n2025-06-15T20:36:40.002+05:30,jack\r\n",
		`{"startDate":0,"columns":["changes","extra","origin"]}`:                         "Changes,Extra,Origin\r\n,,\r\n",
		`{"startDate":0,"format":"jsonl","columns":["action","endpointType","id"]}`:      `{"action":"Add","id":"0190a0a5-b21e-7f43-9dfe-578a88ae01ca"}` + "\n",
		`{"startDate":0,"format":"jsonl","columns":["endpointType"]}`:                    "{}\n",
		`{"startDate":0,"format":"jsonl","view":"activity-log"}`:                         `{"userName":"jack","action":"Add","endpointType":"","createdDate":1750000000002}` + "\n",
		`{"startDate":0,"endDate":0,"columns":["id"]}`:                                   "Id\r\n",
		`{"startDate":0,"endDate":0,"format":"jsonl"}`:                                   "",
	} {
		if got, status, _ := b.exportAs(t, t, manager, body); got != want || status != "complete" {
			t.Errorf("%s: %s %q, want %q", body, status, got, want)
		}
	}
	w := b.do(t, &manager, "POST", exportPath, `{"startDate":0,"endDate":"1750000000002"}`)
	for name, want := range map[string]string{
		"Content-Type": "text/csv; charset=utf-8; header=present", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"X-Export-Row-Limit": "1000000", "X-Export-Time-Limit-Sec": "900", "X-Export-Start-Date": "0", "X-Export-End-Date": "1750000000002", "X-Export-Timeframe-Days": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := w.Header().Get("Content-Disposition"); !strings.HasPrefix(got, `attachment; filename="audit-events-20`) || !strings.HasSuffix(got, `Z.csv"`) {
		t.Errorf("file name: %s", got)
	}
	if got := b.do(t, &manager, "POST", exportPath, "").Header().Get("X-Export-Timeframe-Days"); got != "30" {
		t.Errorf("default timeframe: %q", got)
	}
}

func TestExportsAreCompressedOnDemand(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, nasty...)
	b := newBench(t, db.cfg, nil)
	plain, _, _ := b.exportAs(t, t, manager, `{"startDate":0}`)
	for accept, zipped := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "*": true, "gzip;q=0, *": false, "br": false, "": false} {
		w := b.do(t, &manager, "POST", exportPath, `{"startDate":0}`, "Accept-Encoding", accept)
		if got := w.Header().Get("Content-Encoding"); (got == "gzip") != zipped {
			t.Errorf("%q: %q", accept, got)
			continue
		}
		body := io.Reader(w.Body)
		if zipped {
			zip, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = zip
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != plain {
			t.Errorf("%q: %v %q", accept, err, got)
		}
	}
}

func TestBadExportsAreExplained(t *testing.T) {
	b := newBench(t, away(t), nil)
	for body, want := range map[string]string{
		`{"format":"xlsx"}`:                           "format: must be csv or jsonl",
		`{"columns":"id"}`:                            "columns: must be a list",
		`{"columns":[]}`:                              "leave it out",
		`{"columns":["id","nope"]}`:                   "columns[1]: must be one of id, auditEnabledAppId",
		`{"columns":["id","ID"]}`:                     "columns[1]: is given more than once",
		`{"columns":[{}]}`:                            "columns[0]: must be a string",
		`{"timezone":"Mars/Base"}`:                    "such as Europe/Berlin",
		`{"timezone":"Local"}`:                        "such as Europe/Berlin",
		`{"timezone":"../../etc/passwd"}`:             "such as Europe/Berlin",
		`{"timezone":"Asia/Tokyo","format":"jsonl"}`:  "goes with format csv only",
		`{"view":"x"}`:                                "view: must be",
		`{"sort":"action"}`:                           "sort: is not known",
		`{"startDate":1750000000}`:                    "looks like seconds",
		`{"columns":["x"],"format":1,"timezone":"x"}`: "format: must be a string",
	} {
		w := b.do(t, &manager, "POST", exportPath, body)
		if w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %q", body, w.Code, w.Body, want)
		}
	}
	b.audited(t, 0)
}

func TestExportsAreAuditEvents(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, nasty...)
	b := newBench(t, db.cfg, func(c *Config) { c.ExportRows = 2 })
	b.exportAs(t, t, manager, `{"startDate":1750000000002,"format":"jsonl","columns":["id","action"]}`)
	type told struct{ Action, Status, TargetType, TargetName, AuditComment string }
	var got []told
	for _, e := range b.audited(t, 2) {
		got = append(got, told{e.Action, e.Status, e.TargetType, e.TargetName, e.AuditComment})
	}
	about := "export for everything, from 2025-06-15T15:06:40Z to open; columns id action: "
	if d := cmp.Diff(got, []told{
		{"Export", "Started", "Audit Log", "jsonl", about + "1 events when it began"},
		{"Export", "Success", "Audit Log", "jsonl", about + "complete, 1 events sent"},
	}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

// TestWithoutAnAuditEventThereIsNoExport takes Kafka away: not a byte leaves.
func TestWithoutAnAuditEventThereIsNoExport(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, nasty...)
	b := newBench(t, db.cfg, nil)
	nowhere := b.cfg.Kafka
	nowhere.Addr = away(t).Addr
	emitter, err := openEmitter(nowhere, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := closeEmitter(b.emitter); err != nil {
		t.Fatal(err)
	}
	b.emitter = emitter
	w := b.do(t, &manager, "POST", exportPath, `{"startDate":0}`)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "must be recorded") || strings.Contains(w.Body.String(), "jack") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestMoreEventsThanTheLimitAreRefused(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, nasty...)
	b := newBench(t, db.cfg, func(c *Config) { c.ExportRows = 1 })
	w := b.do(t, &manager, "POST", exportPath, `{"startDate":0}`)
	if w.Code != 422 || !strings.Contains(w.Body.String(), "would have 2 events; the limit is 1 (--export-rows). Narrow it") || w.Header().Get("X-Export-Row-Limit") != "1" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	b.audited(t, 0)
	unlimited := newBench(t, db.cfg, func(c *Config) { c.ExportRows = -1 }).do(t, &manager, "POST", exportPath, `{"startDate":0}`)
	if got := unlimited.Header().Get("X-Export-Row-Limit"); unlimited.Code != 200 || got != "none" {
		t.Errorf("without a limit: %d, %q", unlimited.Code, got)
	}
	if _, status, rows := b.exportAs(t, t, manager, `{"startDate":1750000000002}`); status != "complete" || rows != "1" {
		t.Errorf("at the limit: %s %s", status, rows)
	}
}

func TestExportsHavePlacesOfTheirOwn(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, func(c *Config) { c.QueueWait, c.Concurrency = 50*time.Millisecond, 1 })
	leave, err := b.exports.enter(t.Context(), manager.CustomerUUID)
	if err != nil {
		t.Fatal(err)
	}
	w := b.do(t, &manager, "POST", exportPath, "")
	if w.Code != 503 || !strings.Contains(w.Body.String(), "Exports running at a time are limited to 1 for one subscription") || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	b.searchAs(t, t, manager, "{}")
	other := manager
	other.CustomerUUID = "tenant-two"
	b.exportAs(t, t, other, "")
	leave()
	b.exportAs(t, t, manager, "")
}

// fillWide stores events that no buffer on the way holds: 60 MB that do not
// compress.
func (db *database) fillWide(t testing.TB, customer string) {
	t.Helper()
	db.exec(t, `INSERT INTO audit_events (id, customer_uuid, created_date, action, audit_comment, topic_id, kafka_partition, kafka_offset, appended_at, retention_days)
		SELECT generateUUIDv4(), '`+customer+`', toDateTime64('2026-06-30 00:00:00', 3, 'UTC') - toIntervalSecond(number), 'Add',
		base64Encode(randomString(1000)), toUUID('00000000-0000-0000-0000-000000000001'), 0, number, now64(3), 20000 FROM numbers(45000)`)
}

// open begins an export over HTTP and returns once its first piece is there.
func (b *bench) open(t *testing.T, ctx context.Context, body string) (*http.Response, *bufio.Reader) {
	t.Helper()
	srv := httptest.NewServer(b.Handler())
	t.Cleanup(srv.Close)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+exportPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.token(t, manager))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		t.Fatal(resp.StatusCode, string(body))
	}
	first := bufio.NewReader(resp.Body)
	if _, err := first.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return resp, first
}

// lines reads what is left: how many lines, and the last one.
func lines(t *testing.T, r *bufio.Reader) (n int, last string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			return n, last
		}
		if err != nil {
			t.Fatalf("after %d lines: %v", n, err)
		}
		n, last = n+1, line
	}
}

// brokenOff checks how an export that began ended: the file and the trailers
// tell the same story, and so does its audit event.
func (b *bench) brokenOff(t *testing.T, resp *http.Response, r *bufio.Reader, format, why string) {
	t.Helper()
	n, last := lines(t, r)
	if format == "jsonl" {
		n++ // open has read an event, not a header
	}
	events := n - 1
	row := fmt.Sprintf("# incomplete after %d rows: ", events)
	if format == "jsonl" {
		row = `{"error":{"detail":"`
		if !strings.Contains(last, fmt.Sprintf(`"events":%d}}`, events)) {
			t.Errorf("the last line: %s", last)
		}
	}
	if !strings.HasPrefix(last, row) || !strings.Contains(last, why) {
		t.Errorf("the last line: %q, want %q and %q", last, row, why)
	}
	if got := resp.Trailer.Get(exportStatus) + " " + resp.Trailer.Get(exportRows); got != fmt.Sprintf("incomplete %d", events) {
		t.Errorf("trailers: %s, file: %d", got, events)
	}
	until(t, "outcome", func() bool { return testutil.ToFloat64(b.metrics.exports.WithLabelValues("incomplete")) == 1 })
	b.Drain()
	audited := b.ended(t)
	if audited.Status != "Failure" || !strings.Contains(audited.AuditComment, fmt.Sprintf("incomplete, %d events sent", events)) {
		t.Errorf("audit event: %+v", audited)
	}
}

// ended is the audit event of the export's end, which follows its last byte.
func (b *bench) ended(t *testing.T) (e audit.Event) {
	t.Helper()
	until(t, "access log", func() bool { return b.logs.FilterField(zap.String("endpoint", "export")).Len() == 1 })
	return b.audited(t, 2)[1]
}

func TestAnEngineThatDiesLeavesATrailerRow(t *testing.T) {
	for _, format := range []string{"csv", "jsonl"} {
		t.Run(format, func(t *testing.T) {
			e := testenv.NewEngine(t)
			if _, err := store.Migrate(t.Context(), e.Config(), zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			conn, err := store.Open(t.Context(), e.Config())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			db := &database{cfg: e.Config(), conn: conn}
			db.fillWide(t, manager.CustomerUUID)
			b := newBench(t, db.cfg, nil)
			resp, body := b.open(t, t.Context(), `{"startDate":0,"format":"`+format+`"}`)
			e.Kill()
			b.brokenOff(t, resp, body, format, "The store cannot be reached")
		})
	}
}

func TestTheTimeLimitOfExports(t *testing.T) {
	db := newDatabase(t)
	db.fillWide(t, manager.CustomerUUID)
	b := newBench(t, db.cfg, func(c *Config) { c.ExportTimeout = 2 * time.Second })
	resp, body := b.open(t, t.Context(), `{"startDate":0}`)
	// The client reads nothing until the statement has ended.
	until(t, "the statement ends", func() bool { return db.running(t) == 0 })
	b.brokenOff(t, resp, body, "csv", "The export took longer than the limit of 2s (--export-timeout)")
	if resp.Header.Get("X-Export-Time-Limit-Sec") != "2" {
		t.Errorf("headers: %v", resp.Header)
	}
}

func TestAnExportThatCannotBeginHasAStatus(t *testing.T) {
	db := newDatabase(t)
	db.endless(t)
	b := newBench(t, db.cfg, func(c *Config) { c.ExportTimeout = 300 * time.Millisecond })
	if w := b.do(t, &manager, "POST", exportPath, `{"startDate":0}`); w.Code != 422 || !strings.Contains(w.Body.String(), "limit of 300ms (--export-timeout)") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	b.audited(t, 0)
	if w := newBench(t, away(t), nil).do(t, &manager, "POST", exportPath, ""); w.Code != 503 {
		t.Errorf("without a store: %d", w.Code)
	}
}

func TestAServiceThatStopsEndsExports(t *testing.T) {
	db := newDatabase(t)
	db.fillWide(t, manager.CustomerUUID)
	b := newBench(t, db.cfg, nil)
	resp, body := b.open(t, t.Context(), `{"startDate":0}`)
	b.Drain()
	b.brokenOff(t, resp, body, "csv", "The service is stopping")
	until(t, "the statement ends", func() bool { return db.running(t) == 0 })
	if w := b.do(t, &manager, "POST", exportPath, ""); w.Code != 503 {
		t.Errorf("a new one: %d", w.Code)
	}
}

func TestAClientThatHangsUpEndsItsExport(t *testing.T) {
	db := newDatabase(t)
	db.fillWide(t, manager.CustomerUUID)
	b := newBench(t, db.cfg, nil)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	b.open(t, ctx, `{"startDate":0}`)
	if db.running(t) == 0 {
		t.Error("the whole file is in buffers: nothing is tried")
	}
	var priority, threads string
	if err := db.conn.QueryRow(t.Context(), "SELECT Settings['priority'], Settings['max_threads'] FROM system.processes WHERE query LIKE '%FROM audit_events WHERE%' AND query NOT LIKE '%system.processes%' LIMIT 1").Scan(&priority, &threads); err != nil || priority != "2" || threads != "2" {
		t.Errorf("the statement runs with priority %q on %q threads: %v", priority, threads, err)
	}
	hangUp()
	until(t, "the statement ends", func() bool { return db.running(t) == 0 })
	if e := b.ended(t); e.Status != "Failure" || !strings.Contains(e.AuditComment, ": gone, ") {
		t.Errorf("audit event: %+v", e)
	}
	if got := testutil.ToFloat64(b.metrics.exports.WithLabelValues("gone")); got != 1 {
		t.Errorf("metric: %v", got)
	}
}

// stuck is a client that stops reading: its write deadline passes.
type stuck struct {
	*httptest.ResponseRecorder
	room int // bytes that it still takes
}

func (w *stuck) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

func TestAClientThatStopsReadingIsCutOff(t *testing.T) {
	db := newDatabase(t)
	db.fillWide(t, manager.CustomerUUID)
	b := newBench(t, db.cfg, nil)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, exportPath, strings.NewReader(`{"startDate":0}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+b.token(t, manager))
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				t.Errorf("the connection is not cut: %v", v)
			}
		}()
		b.Handler().ServeHTTP(&stuck{httptest.NewRecorder(), 1 << 20}, r)
	}()
	if e := b.ended(t); e.Status != "Failure" || !strings.Contains(e.AuditComment, ": gone, ") {
		t.Errorf("audit event: %+v", e)
	}
	until(t, "the statement ends", func() bool { return db.running(t) == 0 })
}

// measured is a client that takes everything and looks at the process's live
// memory now and then.
type measured struct {
	header           http.Header
	pieces, every    int
	most, bytes      uint64
	deadlines, moved int
	last             time.Time
	late             bool // a deadline had passed when it was set
}

func (m *measured) Header() http.Header { return m.header }
func (m *measured) WriteHeader(int)     {}
func (m *measured) Write(p []byte) (int, error) {
	m.bytes += uint64(len(p))
	if m.pieces++; m.pieces%m.every == 0 {
		var mem runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&mem)
		m.most = max(m.most, mem.HeapAlloc)
	}
	return len(p), nil
}

func (m *measured) SetWriteDeadline(at time.Time) error {
	m.deadlines++
	if at.After(m.last) {
		m.moved++
	}
	m.last, m.late = at, m.late || !at.After(time.Now())
	return nil
}

// TestExportsTakeConstantMemory exports 10,000 and 1,000,000 events and compares
// what is alive in the process meanwhile. Every piece moves the write deadline,
// and the end has one.
func TestExportsTakeConstantMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a million events")
	}
	db := newDatabase(t)
	db.fillMany(t, manager.CustomerUUID, "1000000")
	b := newBench(t, db.cfg, nil)
	export := func(body string, every int) *measured {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, exportPath, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+b.token(t, manager))
		m := &measured{header: http.Header{}, every: every}
		b.Handler().ServeHTTP(m, r)
		if got := m.header.Get(exportStatus); got != "complete" {
			t.Fatalf("%s: %s", body, got)
		}
		return m
	}
	first := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC).Add(-9_999 * time.Second).UnixMilli()
	few := export(fmt.Sprintf(`{"startDate":%d}`, first), 10)
	many := export(`{"startDate":0}`, 500)
	for m, rows := range map[*measured]string{few: "10000", many: "1000000"} {
		if got := m.header.Get(exportRows); got != rows {
			t.Errorf("%s events, want %s", got, rows)
		}
		if m.most == 0 || m.moved < m.pieces-1 || m.late {
			t.Errorf("%s events: %d pieces, %d deadlines of which %d moved on, the last %v", rows, m.pieces, m.deadlines, m.moved, m.last)
		}
	}
	t.Logf("10,000 events: %d KiB, %d KiB alive; 1,000,000: %d KiB, %d KiB alive", few.bytes>>10, few.most>>10, many.bytes>>10, many.most>>10)
	if many.most > few.most+16<<20 {
		t.Errorf("%d KiB alive with 1,000,000 events, %d KiB with 10,000", many.most>>10, few.most>>10)
	}
}
