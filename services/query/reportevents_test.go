package query

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// sse is a server-sent event; one without a name is a comment.
type sse struct {
	id, name string
	reportStatus
}

// watching reads the events of a stream.
type watching struct {
	*http.Response
	lines *bufio.Scanner
}

// watchReport begins a stream, with a token that holds for a while.
func (b *bench) watchReport(t *testing.T, srv *httptest.Server, id identity.Identity, n int64, holds time.Duration, header ...string) *watching {
	t.Helper()
	token, err := b.issuer.Mint(id, holds)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+reportAt(n, "/events"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &watching{resp, bufio.NewScanner(resp.Body)}
}

// next returns the next event; false at the end of the stream.
func (w *watching) next(t *testing.T) (e sse, ok bool) {
	t.Helper()
	for w.lines.Scan() {
		line := w.lines.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "":
			return e, true // an empty line, or a comment
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.reportStatus); err != nil {
				t.Fatal(line, err)
			}
		default:
			t.Fatal(line)
		}
	}
	return e, false
}

// progress passes over comments.
func (w *watching) progress(t *testing.T) sse {
	t.Helper()
	for {
		e, ok := w.next(t)
		if !ok {
			t.Fatal("the stream has ended: ", w.lines.Err())
		}
		if e.name != "" {
			return e
		}
	}
}

func TestAReportIsWatchedToItsEnd(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	b.reports.alive = 20 * time.Millisecond
	srv := httptest.NewUnstartedServer(b.Handler())
	srv.Config.ReadTimeout = 300 * time.Millisecond // of ops.Serve: it must not end a stream
	srv.Start()
	defer srv.Close()
	id := b.submit(t, manager, smallReport).ReportID
	w := b.watchReport(t, srv, manager, id, time.Hour)
	if w.StatusCode != 200 || w.Header.Get("Content-Type") != "text/event-stream" || w.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", w.StatusCode, w.Header)
	}
	e := w.progress(t)
	if e.name != "progress" || e.id == "" || e.State != report.StateQueued || e.QueuePlace != 1 {
		t.Errorf("%+v", e)
	}
	for alive := 0; alive < 20; { // comments, while nothing happens
		if e, ok := w.next(t); !ok || e.name != "" {
			t.Fatalf("%+v, %v", e, ok)
		}
		alive++
	}
	epoch := b.claim(t, id)
	ids := map[string]bool{e.id: true}
	for rows := int64(1); rows <= 50; rows++ {
		if _, err := b.reports.table.SetProgress(t.Context(), id, epoch, report.Progress{Rows: rows}); err != nil {
			t.Fatal(err)
		}
	}
	began, events := time.Now(), 0
	for e.Rows < 50 {
		next := w.progress(t)
		if next.name != "progress" || next.State != report.StateRunning || next.Rows < e.Rows || ids[next.id] {
			t.Errorf("%+v after %+v", next, e)
		}
		e, ids[next.id], events = next, true, events+1
	}
	if most := 2 + int(time.Since(began)/streamEvery); events > most {
		t.Errorf("%d events in %s", events, time.Since(began))
	}
	if _, err := b.reports.table.SetEnd(t.Context(), id, epoch, report.End{State: report.StateFailed, Reason: "full"}); err != nil {
		t.Fatal(err)
	}
	if e = w.progress(t); e.name != "end" || e.State != report.StateFailed || e.Reason != "full" {
		t.Errorf("%+v", e)
	}
	if more, ok := w.next(t); ok {
		t.Errorf("behind the end: %+v", more)
	}
	// A browser comes back with the id of the end, and is told to stop.
	if again := b.watchReport(t, srv, manager, id, time.Hour, "Last-Event-ID", e.id); again.StatusCode != http.StatusNoContent {
		t.Errorf("%d", again.StatusCode)
	}
	if end := b.watchReport(t, srv, manager, id, time.Hour, "Last-Event-ID", "1").progress(t); end.name != "end" {
		t.Errorf("%+v", end)
	}
}

// TestAStreamEndsWithItsTokenTheServiceAndTheReport.
func TestAStreamEndsWithItsTokenTheServiceAndTheReport(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	b.reports.alive = 10 * time.Millisecond
	srv := httptest.NewServer(b.Handler())
	defer srv.Close()
	id := b.submit(t, manager, smallReport).ReportID
	ends := func(w *watching) {
		t.Helper()
		for {
			e, ok := w.next(t)
			if !ok {
				break
			}
			if e.name == "end" {
				t.Errorf("%+v", e)
			}
		}
		if err := w.lines.Err(); err != nil {
			t.Error(err)
		}
	}
	ends(b.watchReport(t, srv, manager, id, 2*time.Second))

	second := b.submit(t, manager, smallReport).ReportID
	w := b.watchReport(t, srv, manager, second, time.Hour)
	w.progress(t)
	if err := b.reports.table.Remove(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if e := w.progress(t); e.name != "end" || e.ReportID != second {
		t.Errorf("%+v", e)
	}

	w = b.watchReport(t, srv, manager, id, time.Hour)
	w.progress(t)
	b.Drain()
	ends(w)
	until(t, "places are given back", func() bool {
		b.reports.mu.Lock()
		defer b.reports.mu.Unlock()
		return len(b.reports.streams) == 0
	})
}

// TestStreamsAreBounded: for each subscription; and they hold no place among
// calls.
func TestStreamsAreBounded(t *testing.T) {
	b := newLimitedBench(t, away(t), nil, nil)
	srv := httptest.NewServer(b.Handler())
	defer srv.Close()
	defer b.Drain()                  // or the server would wait for the streams
	one, other := standard, standard // two calls at a time
	other.CustomerUUID = "tenant-two"
	id, theirs := b.submit(t, one, smallReport).ReportID, b.submit(t, other, smallReport).ReportID
	var open []*watching
	for range maxStreams {
		w := b.watchReport(t, srv, one, id, time.Hour)
		w.progress(t)
		open = append(open, w)
	}
	w := b.watchReport(t, srv, one, id, time.Hour)
	body, _ := io.ReadAll(w.Body)
	if w.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(body), fmt.Sprintf("the limit is %d", maxStreams)) || w.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", w.StatusCode, body)
	}
	b.shows(t, one, id)
	b.watchReport(t, srv, other, theirs, time.Hour).progress(t)
	_ = open[0].Body.Close()
	until(t, "a place", func() bool {
		b.reports.mu.Lock()
		defer b.reports.mu.Unlock()
		return b.reports.streams[one.CustomerUUID] < maxStreams
	})
	b.watchReport(t, srv, one, id, time.Hour).progress(t)
}

// TestReportsComeWithKafka: the service starts while Kafka is away, and says so.
func TestReportsComeWithKafka(t *testing.T) {
	if testenv.OnApacheKafka() {
		t.Skip("starts its broker in the middle, which only the embedded one can")
	}
	at := kafka.Config{Addr: away(t).Addr}
	p := openReports(at, report.FilesConfig{URL: t.TempDir()}, zap.NewNop())
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	if q := problem.From(p.opened(t.Context())); q == nil || q.Kind != problem.KindUnavailable || q.RetryAfter == 0 {
		t.Errorf("without Kafka: %v", q)
	}
	k, err := broker.Start(context.WithoutCancel(t.Context()), broker.Config{Addr: at.Addr[0], DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: time.Hour}, broker.Deps{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	until(t, "to say what is missing", func() bool {
		err := p.ready(t.Context())
		return err != nil && strings.Contains(err.Error(), topic.Reports+" is one: run auditrail migrate")
	})
	cl, err := kafka.Open(t.Context(), at, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	until(t, "reports to be read", func() bool { return p.ready(t.Context()) == nil })
}

// TestWhatIsToldOfAWriteThatFailed: whether it may have been done.
func TestWhatIsToldOfAWriteThatFailed(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		says   string
		retry  bool
	}{
		{fmt.Errorf("report 5: %w", ktable.ErrUnconfirmed), 503, "may or may not be done. Look at the report, or the list, GET /audit-log/admin/report, before you repeat it.", false},
		{fmt.Errorf("made: %w", &report.DoubtError{ID: 17}), 503, "there may or may not be a report 17. Look at it, GET /audit-log/admin/report/17, before you ask again.", false},
		{errors.New("refused"), 503, "Nothing was done", true},
		{errNoReport, 404, "no such report", false},
		{conflict(&report.Job{State: report.StateFinished}, "so."), 409, "The report is Finished: so.", false},
	} {
		p := problem.From(writeFailed(c.err))
		if p.HTTPStatus() != c.status || !strings.Contains(p.Detail, c.says) || c.retry != (p.RetryAfter > 0) {
			t.Errorf("%v: %d %s", c.err, p.HTTPStatus(), p.Detail)
		}
	}
	if err := writeFailed(nil); err != nil {
		t.Error(err)
	}
}
