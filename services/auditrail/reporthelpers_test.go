package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

const reportPath = "/audit-log/admin/report"

// Ids and dates of testdata/report-request.json, which is the body that the
// report API is documented with, and what its customer is here.
const (
	bodyCustomer, bodyUser = "33fe8ca3-d843-53ac-82e3-21cfb833d389", "7688c5b4-d815-46b2-818d-749156bb85c2"
	bodyStart, bodyEnd     = "1736942490000", "1744718490000"
)

// documentedRequest is that body, with ids and dates of its own.
func documentedRequest(t *testing.T, customer, user string, start, end int64) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "report-request.json"))
	if err != nil {
		t.Fatal(err)
	}
	body := string(raw)
	for old, new := range map[string]string{bodyCustomer: customer, bodyUser: user, bodyStart: fmt.Sprint(start), bodyEnd: fmt.Sprint(end)} {
		if strings.Count(body, old) != 1 {
			t.Fatalf("%s is not once in the documented body", old)
		}
		body = strings.Replace(body, old, new, 1)
	}
	return body
}

// reportStatus is a report as its status and its events have it.
type reportStatus struct {
	ReportID int64   `json:"reportId"`
	State    string  `json:"state"`
	Reason   string  `json:"reason"`
	Rows     int64   `json:"rows"`
	Bytes    int64   `json:"bytes"`
	Percent  float64 `json:"percent"`
}

func (s reportStatus) over() bool { return s.State != "Queued" && s.State != "Running" }

// submit asks for a report.
func (c caller) submit(t *testing.T, body string) (id int64) {
	t.Helper()
	r := c.call(t, http.MethodPost, reportPath, body)
	var a struct {
		Message     string
		ReportID    int64
		CreatedDate int64
	}
	if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != http.StatusOK {
		t.Fatalf("the report is not taken: %v %d %s", err, r.status, r.body)
	}
	if age := time.Since(time.UnixMilli(a.CreatedDate)); a.Message != "Request for report submitted successfully" || a.ReportID < 1 || age < -time.Minute || age > time.Minute {
		t.Fatalf("the report is taken with %s", r.body)
	}
	return a.ReportID
}

func reportAt(id int64, what string) string {
	return reportPath + "/" + strconv.FormatInt(id, 10) + what
}

// report is the status of a report; false while it cannot be told.
func (c caller) report(t *testing.T, id int64) (s reportStatus, said string, ok bool) {
	t.Helper()
	r := c.do(t.Context(), http.MethodGet, reportAt(id, ""), nil)
	if r.err != nil {
		return s, r.err.Error(), false
	}
	if r.status != http.StatusOK {
		return s, fmt.Sprint(r.status, r.body), false
	}
	if err := json.Unmarshal([]byte(r.body), &s); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return s, r.body, true
}

// watch follows the report's events until it is over, and returns what they said.
// A connection that breaks is made again.
func (c caller) watch(t *testing.T, id int64) []reportStatus {
	t.Helper()
	var seen []reportStatus
	testenv.Until(t, 2*deadline, nil, fmt.Sprintf("the end of report %d by its events", id), func() (bool, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.addr+reportAt(id, "/events"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		resp, err := c.client.Do(req)
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
			return false, fmt.Sprint(resp.StatusCode, resp.Header)
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data:")
			if !ok {
				continue
			}
			var s reportStatus
			if err := json.Unmarshal([]byte(data), &s); err != nil {
				t.Fatalf("%v in the event %s", err, data)
			}
			if seen = append(seen, s); s.over() {
				return true, ""
			}
		}
		return false, fmt.Sprintf("the events ended: %v after %+v", lines.Err(), seen)
	})
	return seen
}

// fetch downloads something of a report, or a range of bytes of it.
func (c caller) fetch(t *testing.T, id int64, what, bytesOf string) (body []byte, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.addr+reportAt(id, what), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	want := http.StatusOK
	if bytesOf != "" {
		req.Header.Set("Range", "bytes="+bytesOf)
		want = http.StatusPartialContent
	}
	resp, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: %v %d %.300s", what, bytesOf, err, resp.StatusCode, body)
	}
	return body, resp.Header
}

// verified downloads a report, whole and in two pieces, and its manifest, and has
// auditrail report verify look at it. It returns the file.
func (c caller) verified(t *testing.T, id int64) []byte {
	t.Helper()
	whole, header := c.fetch(t, id, "/download", "")
	half := len(whole) / 2
	first, firstHeader := c.fetch(t, id, "/download", fmt.Sprintf("0-%d", half-1))
	second, secondHeader := c.fetch(t, id, "/download", fmt.Sprintf("%d-", half))
	if !bytes.Equal(append(first, second...), whole) {
		t.Error("two halves are not the whole")
	}
	for h, want := range map[*http.Header]string{
		&firstHeader:  fmt.Sprintf("bytes 0-%d/%d", half-1, len(whole)),
		&secondHeader: fmt.Sprintf("bytes %d-%d/%d", half, len(whole)-1, len(whole)),
	} {
		if got := h.Get("Content-Range"); got != want {
			t.Errorf("Content-Range is %q, want %q", got, want)
		}
	}
	if header.Get("Content-Length") != fmt.Sprint(len(whole)) || header.Get("Accept-Ranges") != "bytes" || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment;") {
		t.Errorf("a download of %d bytes has the headers %v", len(whole), header)
	}
	manifest, _ := c.fetch(t, id, "/manifest", "")
	dir := t.TempDir()
	for name, data := range map[string][]byte{"report": whole, "manifest.json": manifest} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"report", "verify", filepath.Join(dir, "report"), "--manifest", filepath.Join(dir, "manifest.json")}
	stdout, stderr, code := auditrail(t, "", args...)
	if code != 0 || !strings.HasPrefix(stdout, fmt.Sprintf("report %d is what its manifest says\n", id)) {
		t.Errorf("verify says %d %s%s", code, stdout, stderr)
	}
	t.Logf("%s", stdout)
	damaged := bytes.Clone(whole)
	damaged[half] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "report"), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code = auditrail(t, "", args...); code != 1 || !strings.Contains(stderr, " differs: bytes ") {
		t.Errorf("of a damaged file verify says %d %s", code, stderr)
	}
	return whole
}

// reporter starts auditrail reporter beside dev.
func (d *devProcess) reporter(t *testing.T, args ...string) *testenv.Command {
	t.Helper()
	_, process := d.beside(t, "reporter", append([]string{
		"--kafka-addr", d.kafka, "--clickhouse-addr", d.native, "--clickhouse-http-addr", d.clickhouseHTTP,
		"--report-store", filepath.Join(d.data, "reports"),
	}, args...)...)
	return process
}

// reportEvent is the i-th event of those that reports are tested with, and says
// whether the documented request asks for it, its date aside: each fifth it does
// not.
func reportEvent(i int, customer, user string, created int64) (line string, asked bool) {
	e := map[string]any{
		"id": uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, customer, i)).String(), "customerUuid": customer, "userUuid": user, "createdDate": created,
		"moduleCode": []string{"PC", "ADMIN", "VM", "VMDR"}[i%4], "moduleName": "Module, the " + strconv.Itoa(i%4) + "th",
		"userName": []string{"User_1", "User_2"}[i/4%2], "userRole": []string{"Manager", "Reader"}[i/8%2],
		"targetType": []string{"Account", "Auth"}[i/16%2], "action": []string{"Login", "Update"}[i/32%2],
		"targetName": strconv.Itoa(i), "status": "Success", "client": "Chrome", "sourceIp": []string{"191.160.45.90", "2001:db8::1"}[i%2],
		"auditComment": []string{"", "plain", "=1+1", `say "so"`, "two\r\nlines", "a, b", "-", "-1", "@x", "é🙂", "+49"}[i%11],
	}
	if i%5 == 4 { // one thing about it is another
		off := []struct{ name, value string }{{"moduleCode", "PM"}, {"userName", "User_3"}, {"userRole", "Scanner"}, {"targetType", "Host"}, {"action", "Delete"}}[i/5%5]
		e[off.name] = off.value
	}
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(raw), i%5 != 4
}

// emitReportEvents emits n events around a range that has all but six of them,
// several at each instant, waits until they are stored, and returns how many of
// the range the documented request asks for.
func (d *devProcess) emitReportEvents(n int, customer, user string, start, end int64) (asked int) {
	d.t.Helper()
	defer d.until(fmt.Sprintf("%d events", n), func() (bool, string) {
		a := d.search(d.token("--customer", customer), `{"startDate":0,"pageSize":1,"qql":"NOT moduleCode:AUDIT"}`)
		return a.TotalCount == n, fmt.Sprintf("%d: %.500s", a.TotalCount, a.body)
	})
	var lines strings.Builder
	for i := range n {
		created := start + (end-start)*int64(i/7*7)/int64(n)
		switch i {
		case 0:
			created = start
		case 1:
			created = end
		case 2, 5, 8:
			created = start - 1
		case 3, 6, 10:
			created = end + 1
		}
		line, want := reportEvent(i, customer, user, created)
		if want && created >= start && created <= end {
			asked++
		}
		lines.WriteString(line + "\n")
	}
	if _, stderr, code := auditrail(d.t, lines.String(), "emit", "--kafka-addr", d.kafka); code != 0 {
		d.t.Fatalf("emit: %s", stderr)
	}
	return asked
}

// searched is what a search finds, page by page, as the documented report's rows
// must be.
func (d *devProcess) searched(token string, start, end int64) [][]string {
	d.t.Helper()
	where := map[string]any{
		"startDate": start, "endDate": end, "pageSize": 200,
		"qql": "userName:[`User_1`,`User_2`] AND userRole:[`Manager`,`Reader`] AND targetType:[`Account`,`Auth`] AND action:[`Login`,`Update`] AND moduleCode:[`PC`,`ADMIN`,`VM`,`VMDR`]",
	}
	var rows [][]string
	for {
		body, err := json.Marshal(where)
		if err != nil {
			d.t.Fatal(err)
		}
		a := d.search(token, string(body))
		var more struct{ SearchAfter any }
		if err := json.Unmarshal([]byte(a.body), &more); err != nil || a.status != http.StatusOK {
			d.t.Fatalf("%v %d %s", err, a.status, a.body)
		}
		for _, r := range a.AuditRecords {
			var row []string
			for _, name := range []string{"id", "action", "moduleName", "moduleCode", "userName", "userRole", "status", "userUuid", "customerUuid", "client", "sourceIp", "createdDate", "targetType", "targetName", "auditComment"} {
				switch v := r[name].(type) {
				case float64:
					row = append(row, time.UnixMilli(int64(v)).UTC().Format("2006-01-02T15:04:05.000Z"))
				case string:
					if len(v) > 1 && strings.ContainsAny(v[:1], "=+-@") { // or a spreadsheet would run it
						v = "'" + v
					}
					row = append(row, v)
				default:
					d.t.Fatalf("%s is %v in %v", name, v, r)
				}
			}
			rows = append(rows, row)
		}
		if more.SearchAfter == nil {
			return rows
		}
		where["searchAfter"] = more.SearchAfter
	}
}
