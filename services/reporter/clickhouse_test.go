package reporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

var everything = asked{
	see:  visibility.For(identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Role: identity.RoleManager}),
	pin:  sqlgen.Pin{Watermark: 1 << 40},
	span: sqlgen.TimeSpan{From: 0, To: 1 << 40}, columns: titled,
}

// asCSV is the statement for all of it.
func (a asked) asCSV() sqlgen.Statement {
	return sqlgen.ReportRows(a.see, a.filter, a.pin, a.span, a.columns, sqlgen.CSV{})
}

const tag = "abcdefghijklmnop"

// TestFailuresAreToldApart holds what of ClickHouse's answers is worth another
// try, and that no exception passes for data.
func TestFailuresAreToldApart(t *testing.T) {
	exception := func(status, code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(code))
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, "Code: %d. DB::Exception: %s\n", code, text)
		}
	}
	// inside sends an exception as ClickHouse does in the middle of an answer, and
	// may break off then.
	inside := func(text string, abort bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-ClickHouse-Exception-Tag", tag)
			_, _ = fmt.Fprintf(w, "\"a\"\r\n%s\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", strings.Repeat("\"b\"\r\n", 100_000), tag, text, len(text), tag)
			if abort {
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
		says   string
	}{
		"too many queries":     {exception(503, 202, "Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)"), errBusy, "Too many simultaneous"},
		"memory of the server": {exception(500, 241, "(total) memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"), errBusy, "memory"},
		"memory of the query":  {exception(500, 241, "Query memory limit exceeded: would use 2 GiB. (MEMORY_LIMIT_EXCEEDED)"), errRefused, "memory"},
		"rows":                 {exception(500, 158, "Limit for rows exceeded"), errRefused, "rows"},
		"syntax":               {exception(400, 62, "Syntax error"), errRefused, "Syntax error"},
		"password":             {exception(403, 516, "Authentication failed"), errAway, "Authentication"},
		"killed":               {exception(500, 394, "Query was cancelled"), errBusy, "cancelled"},
		"a proxy":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, errAway, "502"},
		"a page":               {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, errRefused, "404"},
		"elsewhere":            {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, errRefused, "302"},
		"inside, clean end":    {inside("Code: 241. DB::Exception: Query memory limit exceeded", false), errRefused, "memory limit"},
		"inside, broken off":   {inside("Code: 394. DB::Exception: Query was cancelled", true), errBusy, "was cancelled"},
		"inside, long":         {inside("Code: 62. DB::Exception: "+strings.Repeat("x ", 8<<10), false), errRefused, "DB::Exception"},
		"broken off": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("\"a\"\r\n"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, errBroken, "EOF"},
		"half a row": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\"a\"\r\n\"b")) }, errBroken, "whole"},
		"looks like an exception": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-ClickHouse-Exception-Tag", tag)
			_, _ = w.Write([]byte("\"Code: 241. DB::Exception\r\n__exception__\r\nxyz\"\r\n"))
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(c.answer)
			srv.Config.ErrorLog = nil
			srv.Start()
			defer srv.Close()
			ch, err := newClickHouse(store.Config{Database: "d", User: "u", Password: "secret"}, store.HTTPConfig{Addr: []string{srv.URL}}, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer ch.close()
			_, err = ch.chunk(t.Context(), everything.asCSV(), report.CSV, report.None, nil, new(strings.Builder), func(int64, int64) {})
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
}

// TestWhatIsSent holds that credentials are in no URL, and neither is told when
// nobody listens.
func TestWhatIsSent(t *testing.T) {
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = w.Write([]byte("3\t-4\n5\t6\n"))
	}))
	ch, err := newClickHouse(store.Config{Database: "d", User: "someone", Password: "secret"}, store.HTTPConfig{Addr: []string{srv.URL}}, 3, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.close()
	rows, err := ch.numbers(t.Context(), sqlgen.ReportHistogram(everything.see, everything.filter, everything.pin, everything.span, 10))
	if err != nil || len(rows) != 2 || rows[0][1] != -4 || rows[1][0] != 5 {
		t.Errorf("%v, %v", rows, err)
	}
	v := got.URL.Query()
	if strings.Contains(got.URL.String(), "secret") || strings.Contains(got.URL.String(), "someone") || got.Header.Get("X-ClickHouse-Key") != "secret" ||
		v.Get("param_see_customer") != "c1" || v.Get("max_threads") != "3" || v.Get("priority") != "3" || got.Method != http.MethodPost {
		t.Errorf("%s %v", got.URL, got.Header)
	}
	srv.Close()
	_, err = ch.numbers(t.Context(), sqlgen.ReportCount(everything.see, everything.filter, everything.pin, everything.span))
	if !errors.Is(err, errAway) || strings.Contains(err.Error(), "see_customer") {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ch.stream(ctx, everything.asCSV(), func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, addr := range []string{"http://u:p@h:1", "ftp://h", "http://h/x", "http://h?a=b", "http://"} {
		if _, err := newClickHouse(store.Config{}, store.HTTPConfig{Addr: []string{addr}}, 1, 1); err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestTheNextAddress holds that a client with two addresses goes on with the
// second when the first is dead.
func TestTheNextAddress(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	lives := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("7\n")) }))
	defer lives.Close()
	ch, err := newClickHouse(store.Config{}, store.HTTPConfig{Addr: []string{dead.URL, lives.URL}}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.close()
	stmt := sqlgen.ReportCount(everything.see, everything.filter, everything.pin, everything.span)
	if _, err := ch.numbers(t.Context(), stmt); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	if n, err := ch.numbers(t.Context(), stmt); err != nil || n[0][0] != 7 {
		t.Error(n, err)
	}
}

// TestTheEngineFailsInTheMiddle holds the same on the engine: after rows were
// sent, its exception is told, with its words.
func TestTheEngineFailsInTheMiddle(t *testing.T) {
	conn, c := openStore(t, testenv.ClickHouse(t))
	insert(t, conn, someRows(2000))
	c.settings["max_result_rows"], c.settings["max_block_size"] = "1000", "50"
	rows := 0
	err := c.stream(t.Context(), everything.asCSV(), func([]byte) error {
		rows++
		return nil
	})
	if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "Code: 396") || rows == 0 {
		t.Errorf("after %d pieces: %v", rows, err)
	}
	c.settings["max_result_rows"] = "0"
	full := errors.New("no room")
	_, err = c.chunk(t.Context(), everything.asCSV(), report.CSV, report.Gzip, nil, writerFunc(func([]byte) (int, error) { return 0, full }), func(int64, int64) {})
	if !errors.Is(err, errStored) || !errors.Is(err, full) {
		t.Errorf("a store that is full: %v", err)
	}
}

// TestWhatWeLeaveIsKilled: a statement that we do not wait for, where it runs; on
// the engine, which cannot be asked, nothing goes wrong.
func TestWhatWeLeaveIsKilled(t *testing.T) {
	t.Parallel()
	running, killed := make(chan string, 1), make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sql, _ := io.ReadAll(r.Body)
		if strings.HasPrefix(string(sql), "KILL QUERY WHERE query_id = {id:String}") {
			killed <- r.URL.Query().Get("param_id")
			return
		}
		running <- r.URL.Query().Get("query_id")
		<-r.Context().Done()
	}))
	defer srv.Close()
	c, err := newClickHouse(store.Config{}, store.HTTPConfig{Addr: []string{srv.URL}}, 1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	ctx, cancel := context.WithCancel(t.Context())
	var id string
	go func() {
		id = <-running
		cancel()
	}()
	if err := c.stream(ctx, everything.asCSV(), func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := <-killed; got == "" || got != id {
		t.Errorf("killed %q, want %q", got, id)
	}
	if id == "" {
		t.Error("the statement has no id")
	}
	// One that ended is left alone.
	conn, c := openStore(t, testenv.ClickHouse(t))
	core, logs := observer.New(zap.DebugLevel)
	c.log = zap.New(core)
	insert(t, conn, someRows(2000))
	if err := c.stream(t.Context(), everything.asCSV(), func([]byte) error { return nil }); err != nil || logs.Len() != 0 {
		t.Errorf("%v, %v", err, logs.All())
	}
	stop := errors.New("enough")
	if err := c.stream(t.Context(), everything.asCSV(), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	t.Log("the engine's answer to a kill:", logs.All())
	if err := c.stream(t.Context(), everything.asCSV(), func([]byte) error { return nil }); err != nil {
		t.Errorf("behind a kill: %v", err)
	}
}
