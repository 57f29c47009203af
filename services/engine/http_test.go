package engine_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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
}

// TestHTTPServesNoWebPage: whatever makes a browser send it.
func TestHTTPServesNoWebPage(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	for _, c := range []struct {
		name, value string
		want        int
	}{
		{"Origin", "http://evil.example", 403},
		{"Origin", "null", 403},
		{"Sec-Fetch-Site", "cross-site", 403}, // an image, a script, a link
		{"Sec-Fetch-Site", "same-site", 403},
		{"Sec-Fetch-Site", "same-origin", 403},
		{"Sec-Fetch-Site", "none", 200}, // the address bar
	} {
		if got := get(t, "http://"+e.HTTPAddr+"/?query=SELECT+1", http.Header{c.name: {c.value}}); got != c.want {
			t.Errorf("%s: %s: %d, want %d", c.name, c.value, got, c.want)
		}
	}
}

// TestHTTPGetReachesNoFilesAndServers: a GET is what a link does.
func TestHTTPGetReachesNoFilesAndServers(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret+".csv", []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(t, e, "CREATE TABLE one (a UInt8) ENGINE = Memory AS SELECT 1")
	if got := ask(t, e, "SELECT * FROM file('"+secret+"', LineAsString)"); got != "s3cret\n" {
		t.Fatalf("POST: %q", got)
	}
	target := func(v url.Values) string { return "http://" + e.HTTPAddr + "/?" + v.Encode() }
	for _, query := range []string{
		"SELECT * FROM file('" + secret + "', LineAsString)",
		"DESCRIBE file('" + secret + "', LineAsString)",
		"DESCRIBE file('" + secret + "')",
		"SELECT file('" + secret + "')",
		"SELECT `file`('" + secret + "')",
		"SELECT `\\x66ile` ('" + secret + "')",
		"EXPLAIN SELECT * FROM url('http://" + e.HTTPAddr + "/ping')",
		"EXPLAIN QUERY TREE SELECT * FROM url('http://" + e.HTTPAddr + "/ping')",
		"DESCRIBE (SELECT * FROM url('http://" + e.HTTPAddr + "/ping'))",
		"DESCRIBE TABLE url('http://" + e.HTTPAddr + "/ping')",
		"(SELECT * FROM url('http://" + e.HTTPAddr + "/ping', LineAsString))",
		"SELECT * FROM `" + secret + ".csv`",
		"SELECT * FROM default.`" + secret + ".csv`",
		"SELECT * FROM '" + secret + ".csv'",
		"SHOW CREATE TABLE default.`" + secret + ".csv`",
		"EXISTS TABLE file('" + secret + "')",
		"INSERT INTO FUNCTION url('http://" + e.HTTPAddr + "/ping', CSV, 'a UInt8') SELECT 1",
		"SELECT * FROM url('http://" + e.HTTPAddr + "/ping', LineAsString)",
		"SELECT 1 IN (SELECT length(line) FROM url('http://" + e.HTTPAddr + "/ping', LineAsString, 'line String'))",
		"SELECT * FROM remote('" + e.Addr + "', system.one)",
		"SELECT * FROM s3('http://" + e.HTTPAddr + "/b/k', 'a', 'b', LineAsString)",
		"SELECT * FROM executable('/bin/true', LineAsString, 'a String')",
		"SELECT 1 SETTINGS readonly = 0",
		"SELECT 1 INTO OUTFILE '" + secret + "'",
	} {
		for _, extra := range []string{"", "0", "2"} {
			v := url.Values{"query": {query}}
			if extra != "" {
				v.Set("readonly", extra)
			}
			code, body := fetch(t, target(v))
			if code == http.StatusOK || strings.Contains(body, "s3cret") {
				t.Errorf("%s (readonly %q): %d %q", query, extra, code, body)
			}
		}
	}
	for want, v := range map[string]url.Values{
		"1\n":            {"query": {"SELECT a FROM one"}, "database": {e.Database}},
		"3 7\n":          {"query": {"SELECT getSetting('max_threads'), {n:UInt8} FORMAT CSV"}, "max_threads": {"3"}, "param_n": {"7"}, "format_csv_delimiter": {" "}},
		"{\n\t\"meta\":": {"query": {"SELECT sum(number) AS n FROM numbers(10) FORMAT JSON"}, "wait_end_of_query": {"1"}},
		"2\n":            {"query": {"SELECT 2"}, "wait_end_of_query": {"1"}, "buffer_size": {"1000"}, "send_progress_in_http_headers": {"1"}},
	} {
		if code, body := fetch(t, target(v)); code != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("%v: %d %q, want %q", v, code, body, want)
		}
	}
}

// fetch gets a page.
func fetch(t *testing.T, target string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestHTTPCutBodyStoresNothing: a body that ends before its announced length, or
// in the middle of its chunks, is no insert and no statement.
func TestHTTPCutBodyStoresNothing(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	ask(t, e, "CREATE TABLE cut (a UInt64) ENGINE = MergeTree ORDER BY a")
	long := strings.Repeat("1\n", 400_000) // several pieces
	for name, c := range map[string]struct{ query, head, body string }{
		"length":         {"INSERT INTO cut FORMAT CSV", "Content-Length: 1000", "1\n2\n"},
		"length, long":   {"INSERT INTO cut FORMAT CSV", "Content-Length: 1000000", long},
		"chunked":        {"INSERT INTO cut FORMAT CSV", "Transfer-Encoding: chunked", "4\r\n1\n2\n\r\n"},
		"query in body":  {"", "Content-Length: 1000", "INSERT INTO cut FORMAT CSV\n1\n2\n"},
		"statement":      {"", "Content-Length: 1000", "TRUNCATE TABLE nosuch"},
		"in both":        {"INSERT INTO cut VALUES", "Content-Length: 1000", "(1), (2)"},
		"between chunks": {"INSERT INTO cut FORMAT CSV", "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", 256<<10, long[:256<<10])},
	} {
		nc, err := net.Dial("tcp", e.HTTPAddr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
		target := "/?" + url.Values{"query": {c.query}, "database": {e.Database}}.Encode()
		if _, err := io.WriteString(nc, "POST "+target+" HTTP/1.1\r\nHost: localhost\r\n"+c.head+"\r\n\r\n"+c.body); err != nil {
			t.Fatal(err)
		}
		_ = nc.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(nc)
		_ = nc.Close()
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || !bytes.Contains(answer, []byte("CANNOT_READ_ALL_DATA")) {
			t.Errorf("%s: %v %.300q, want 400 CANNOT_READ_ALL_DATA", name, err, answer)
		}
	}
	if got := ask(t, e, "SELECT count() FROM cut"); got != "0\n" {
		t.Errorf("%s rows are stored", got)
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
