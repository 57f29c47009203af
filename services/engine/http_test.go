package engine_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

// post sends a query and returns the status, the head, and the body.
func post(t testing.TB, e *testenv.Engine, params url.Values, body io.Reader) (*http.Response, []byte, error) {
	t.Helper()
	if params == nil {
		params = url.Values{}
	}
	params.Set("database", e.Database)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.HTTPAddr+"/?"+params.Encode(), body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(e.User, e.Password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

// ask posts a query that must succeed.
func ask(t testing.TB, e *testenv.Engine, query string) string {
	t.Helper()
	res, body, err := post(t, e, nil, strings.NewReader(query))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%.80s: status %d, %v: %.200s", query, res.StatusCode, err, body)
	}
	return string(body)
}

// streamed is far more than the engine gives in one piece.
const streamed = 150_000

func TestHTTPFormatsAreOneDocument(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	query := fmt.Sprintf("SELECT number AS id, concat('line\n\"', toString(number), '\"') AS `na\nme`, [number] AS list FROM numbers(%d) FORMAT ", streamed)
	dir := t.TempDir()
	for _, format := range []string{
		"Parquet", "Native", "JSONEachRow", "JSONCompactEachRowWithNames", "CSVWithNames", "CSVWithNamesAndTypes", "TSV", "TSVWithNames",
		"RowBinaryWithNamesAndTypes", "Arrow", "ArrowStream", "ORC", "JSONCompact", "Avro", "MsgPack",
	} {
		body := ask(t, e, strings.Replace(query, "`na\nme`", "name", 1)+format)
		path := filepath.Join(dir, format)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		// The engine itself reads it back: a repeated header or footer breaks that.
		structure := ", 'id UInt64, name String, list Array(UInt64)'"
		got := ask(t, e, "SELECT count(), sum(id), uniqExact(name), sum(list[1]) FROM file('"+path+"', '"+format+"'"+structure+")")
		want := fmt.Sprintf("%d\t%d\t%d\t%d\n", streamed, streamed*(streamed-1)/2, streamed, streamed*(streamed-1)/2)
		if got != want {
			t.Errorf("%s: read back %q, want %q", format, got, want)
		}
	}
	// A header with a line end in it, once.
	records, err := csv.NewReader(strings.NewReader(ask(t, e, query+"CSVWithNames"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	headers := 0
	for _, r := range records {
		if r[1] == "na\nme" {
			headers++
		}
	}
	if headers != 1 || len(records) != streamed+1 {
		t.Errorf("%d headers in %d records", headers, len(records))
	}
	if got := ask(t, e, "SELECT 1 AS a, 2 AS b WHERE 0 FORMAT CSVWithNames"); got != "\"a\",\"b\"\n" {
		t.Errorf("empty result: %q", got)
	}
	if got := ask(t, e, "SHOW TABLES FORMAT TSVWithNames"); got != "name\n" {
		t.Errorf("SHOW: %q", got)
	}
}

func TestHTTPWrites(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	ask(t, e, "CREATE TABLE w (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
	ask(t, e, "INSERT INTO w VALUES (1, 'x;'), (2, 'y')")
	ask(t, e, "INSERT INTO w (s, a) FORMAT CSV\n\"c\",3\n\"d\",4\n")
	ask(t, e, "INSERT INTO w SELECT number + 5, 'n' FROM numbers(2)")
	var rows bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&rows, "{\"a\":%d,\"s\":\"j\"}\n", i+7)
	}
	res, body, err := post(t, e, url.Values{"query": {"INSERT INTO w FORMAT JSONEachRow"}}, &rows)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("X-ClickHouse-Summary"), `"written_rows":"100000"`) {
		t.Errorf("insert: %d %v %s %s", res.StatusCode, err, res.Header.Get("X-ClickHouse-Summary"), body)
	}
	if got, want := ask(t, e, "SELECT count(), uniqExact(a) FROM w"), "100006\t100006\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHTTPParametersAndSettings(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	_, body, err := post(t, e, url.Values{
		"query":   {"SELECT {s:String}, {n:UInt8}, getSetting('max_threads'), currentDatabase()"},
		"param_s": {`it's a \\ and a \n`}, "param_n": {"7"}, "max_threads": {"3"}, "default_format": {"JSONCompactEachRow"},
	}, http.NoBody)
	if want := fmt.Sprintf(`["it's a \\ and a \n", 7, 3, "%s"]`+"\n", e.Database); err != nil || string(body) != want {
		t.Errorf("got %s %v, want %s", body, err, want)
	}
}

func TestHTTPErrors(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	for _, c := range []struct {
		params url.Values
		query  string
		status int
		code   int
	}{
		{nil, "SELECT * FROM nosuch", 404, 60},
		{nil, "SELECT * FROM nosuch FORMAT Parquet", 404, 60},
		{nil, "SELEC 1", 400, 62},
		{nil, "SELECT 1; SELECT 2", 400, 62},
		{nil, "", 400, 62},
		{nil, "SELECT 1 INTO OUTFILE 'x'", 400, 62},
		{nil, "INSERT INTO FUNCTION null('a UInt8') FORMAT CSV\nx\n", 400, 117},
		{nil, "SELECT 1 FORMAT NoSuchFormat", 404, 73},
		{url.Values{"no_such_setting": {"1"}}, "SELECT 1", 404, 115},
		{url.Values{"max_execution_time": {"1"}}, "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_block_size = 1", 408, 159},
		{url.Values{"max_memory_usage": {"10000000"}}, "SELECT groupArray(number) FROM numbers(100000000)", 500, 241},
		{url.Values{"session_id": {"s"}}, "SELECT 1", 501, 48},
		{url.Values{"compress": {"1"}}, "SELECT 1", 501, 48},
	} {
		res, body, err := post(t, e, c.params, strings.NewReader(c.query))
		if err != nil || res.StatusCode != c.status || res.Header.Get("X-ClickHouse-Exception-Code") != strconv.Itoa(c.code) ||
			!strings.HasPrefix(string(body), fmt.Sprintf("Code: %d. DB::Exception: ", c.code)) {
			t.Errorf("%v %q: status %d, code %s, %v, %q; want %d and %d", c.params, c.query, res.StatusCode,
				res.Header.Get("X-ClickHouse-Exception-Code"), err, body, c.status, c.code)
		}
	}
	for path, want := range map[string]int{"/?query=DROP+TABLE+x": 403, "/ping": 200, "/": 200, "/nosuch": 404, "/?query=SELECT+1&password=wrong&user=default": 403} {
		if got := get(t, "http://"+e.HTTPAddr+path, nil); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	if got := get(t, "http://"+e.HTTPAddr+"/?query=SELECT+1", http.Header{"Origin": {"http://evil.example"}}); got != http.StatusForbidden {
		t.Errorf("from a web page: %d", got)
	}
}

func get(t *testing.T, target string, header http.Header) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// TestHTTPMidStreamErrorBreaksTheBody: nobody may take half a result for whole.
func TestHTTPMidStreamErrorBreaksTheBody(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	res, body, err := post(t, e, nil, strings.NewReader("SELECT number, throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_threads = 1 FORMAT CSV"))
	if res.StatusCode != http.StatusOK || err == nil || !bytes.Contains(body[max(0, len(body)-1000):], []byte("Code: 395. DB::Exception: ")) {
		t.Errorf("status %d, error %v, end %q; want 200, a broken body, and the exception in it", res.StatusCode, err, body[max(0, len(body)-200):])
	}
}

// TestSlowReaderHoldsNothing: a client that does not read stops the engine, in
// memory that does not depend on the size of the result.
func TestSlowReaderHoldsNothing(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	before := rss(t, e.Pid())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.HTTPAddr+"/",
		strings.NewReader("SELECT number, repeat('x', 200) FROM numbers(20000000) FORMAT CSV")) // 4 GB
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	conn := connect(t, e.Config().Options())
	// Read a little at a time; the engine must not get ahead of it.
	for range 20 {
		if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if read := number(t, conn, "SELECT sum(read_rows) FROM system.processes WHERE query LIKE '%repeat%' AND query NOT LIKE '%processes%'"); read > 5_000_000 {
		t.Errorf("the engine read %d rows for a reader of 100000", read)
	}
	if grown := rss(t, e.Pid()) - before; grown > 300<<20 {
		t.Errorf("the engine grew by %d MB", grown>>20)
	}
}

// rss is the resident memory of a process in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Skip("no /proc on this system")
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
