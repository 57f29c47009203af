package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/report"
)

// someParts are parts of a file, of which none fits a buffer.
func someParts(n int) (parts [][]byte) {
	random := rand.NewChaCha8([32]byte{1})
	for i := range n {
		part := make([]byte, 100_000*i+17)
		_, _ = random.Read(part) // never fails
		parts = append(parts, part)
	}
	return parts
}

// served is a report's file, over HTTP.
type served struct {
	*bench
	*httptest.Server
	id    int64
	token string
	file  []byte
	m     *report.Manifest
}

func newServed(t *testing.T, body string, parts ...[]byte) *served {
	t.Helper()
	b := newReportBench(t, away(t), nil)
	s := &served{bench: b, Server: httptest.NewServer(b.Handler()), id: b.submit(t, manager, body).ReportID, token: b.token(t, manager), file: bytes.Join(parts, nil)}
	t.Cleanup(s.Close)
	s.m = b.finish(t, s.id, parts...)
	return s
}

func (s *served) Close() { s.Server.Close() }

func (s *served) get(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Accept-Encoding", "gzip, zstd")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// TestADownloadIsTheFile: whole, in ranges, and not twice.
func TestADownloadIsTheFile(t *testing.T) {
	s := newServed(t, changedReport(t, "reportName", `"Größe 5% \"x\""`, "compression", `"gzip"`), someParts(5)...)
	path := reportAt(s.id, "/download")
	etag, size := `"`+s.m.SHA256+`"`, len(s.file)
	for _, c := range []struct {
		what, method string
		header       []string
		status       int
		want         []byte
	}{
		{"whole", "GET", nil, 200, s.file},
		{"head", "HEAD", nil, 200, nil},
		{"the first byte", "GET", []string{"Range", "bytes=0-0"}, 206, s.file[:1]},
		{"from within a part over borders", "GET", []string{"Range", "bytes=100000-900000"}, 206, s.file[100000:900001]},
		{"the rest", "GET", []string{"Range", fmt.Sprintf("bytes=%d-", size-5), "If-Range", etag}, 206, s.file[size-5:]},
		{"the last", "GET", []string{"Range", "bytes=-7"}, 206, s.file[size-7:]},
		{"a range of another file", "GET", []string{"Range", "bytes=5-", "If-Range", `"other"`}, 200, s.file},
		{"known", "GET", []string{"If-None-Match", etag}, 304, nil},
		{"several ranges", "GET", []string{"Range", "bytes=0-1,20-29"}, 200, s.file},
		{"the file that is meant", "GET", []string{"If-Match", etag, "Range", "bytes=0-0"}, 206, s.file[:1]},
	} {
		resp := s.get(t, c.method, path, c.header...)
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != c.status || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d, %d bytes, %v", c.what, resp.StatusCode, len(got), err)
		}
		if c.status == 304 {
			continue
		}
		if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err != nil || params["filename"] != `Größe 5% "x".csv.gz` {
			t.Errorf("%s: %v %v", c.what, params, err)
		}
		if h := resp.Header; h.Get("Content-Type") != "application/gzip" || h.Get("Content-Encoding") != "" || h.Get("ETag") != etag || h.Get("Accept-Ranges") != "bytes" ||
			c.method == "HEAD" && h.Get("Content-Length") != fmt.Sprint(size) {
			t.Errorf("%s: %v", c.what, h)
		}
	}
	for _, ranges := range []string{fmt.Sprintf("bytes=%d-", size), "bytes=x"} {
		resp := s.get(t, "GET", path, "Range", ranges)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 416 || !strings.Contains(string(body), fmt.Sprintf("has %d bytes", size)) || resp.Header.Get("ETag") != "" || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %v %s", ranges, resp.StatusCode, resp.Header, body)
		}
	}
	for name, value := range map[string]string{"If-Match": `"other"`, "If-Unmodified-Since": "Mon, 02 Jan 2006 15:04:05 GMT"} {
		resp := s.get(t, "GET", path, name, value)
		body, _ := io.ReadAll(resp.Body)
		if h := resp.Header; resp.StatusCode != 412 || !strings.Contains(string(body), `"status":412`) || h.Get("Content-Type") != "application/problem+json" || h.Get("Content-Disposition") != "" {
			t.Errorf("%s: %d %v %s", name, resp.StatusCode, h, body)
		}
	}
	// What is sent is recorded, from where on; what is not, is not.
	var did []string
	for _, e := range s.audited(t, 2+8)[2:] {
		if e.Action != "Download" || e.TargetType != "Report" || e.Status != "Started" {
			t.Errorf("%+v", e)
		}
		what, _, _ := strings.Cut(e.AuditComment, ": ")
		did = append(did, what)
	}
	want := fmt.Sprintf("report 1|resumed, bytes 0-0/%[1]d|resumed, bytes 100000-900000/%[1]d|resumed, bytes %[2]d-%[3]d/%[1]d|resumed, bytes %[4]d-%[3]d/%[1]d|report 1|report 1|resumed, bytes 0-0/%[1]d", size, size-5, size-1, size-7)
	if got := strings.Join(did, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEveryFormatHasItsType: also an empty file.
func TestEveryFormatHasItsType(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	for _, c := range []struct{ format, compression, media, suffix string }{
		{"csv", "none", "text/csv; charset=utf-8; header=present", ".csv"},
		{"csv", "zstd", "application/zstd", ".csv.zst"},
		{"jsonl", "none", "application/jsonl", ".jsonl"},
		{"jsonl", "gzip", "application/gzip", ".jsonl.gz"},
		{"parquet", "none", "application/vnd.apache.parquet", ".parquet"},
	} {
		id := b.submit(t, manager, changedReport(t, "format", `"`+c.format+`"`, "compression", `"`+c.compression+`"`)).ReportID
		parts := [][]byte{[]byte(`{"id":"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"}` + "\n")}
		if c.suffix == ".jsonl" {
			parts = nil
		}
		b.finish(t, id, parts...)
		for _, method := range []string{"GET", "HEAD"} {
			w := b.do(t, &manager, method, reportAt(id, "/download"), "")
			if w.Code != 200 || w.Header().Get("Content-Type") != c.media || w.Header().Get("Content-Disposition") != `attachment; filename="r`+c.suffix+`"; filename*=UTF-8''r`+c.suffix {
				t.Errorf("%s %s %s: %d %v %s", method, c.format, c.compression, w.Code, w.Header(), w.Body)
			}
			if method == "GET" && w.Body.Len() != len(bytes.Join(parts, nil)) {
				t.Errorf("%s: %d bytes", c.format, w.Body.Len())
			}
		}
	}
}

// TestADamagedFileBreaksOff: whatever differs from the manifest, and wherever,
// the client does not get as many bytes as it was promised.
func TestADamagedFileBreaksOff(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"another byte":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"the first":       func(b []byte) []byte { b[3] ^= 1; return b },
		"too short":       func(b []byte) []byte { return b[:len(b)-1] },
		"nothing left":    func([]byte) []byte { return nil },
		"missing":         nil,
		"longer is as it": func(b []byte) []byte { return append(b, 'x') }, // the manifest says how much of it is the part
	} {
		for n := range 3 {
			t.Run(fmt.Sprintf("%s, part %d", name, n), func(t *testing.T) {
				s := newServed(t, smallReport, someParts(3)...)
				object, bucket := s.m.Parts[n].Object, s.reports.files.Bucket()
				if damage == nil {
					if err := bucket.Delete(t.Context(), object); err != nil {
						t.Fatal(err)
					}
				} else {
					b, err := bucket.ReadAll(t.Context(), object)
					if err != nil {
						t.Fatal(err)
					}
					s.object(t, object, damage(b))
				}
				resp, err := s.Client().Do(s.request(t, reportAt(s.id, "/download")))
				var got []byte
				status := 0
				if err == nil {
					defer func() { _ = resp.Body.Close() }()
					got, err = io.ReadAll(resp.Body)
					status = resp.StatusCode
				}
				switch {
				case name == "longer is as it":
					if err != nil || !bytes.Equal(got, s.file) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
					return
				case status == 410, status == 503: // nothing was sent
					if n > 0 || (status == 410) != (name == "missing") || s.logs.FilterMessage("a download broke off").Len() > 0 {
						t.Errorf("503 %s", got)
					}
					return
				}
				if err == nil || name != "the first" && !bytes.HasPrefix(s.file, got) || len(got) >= len(s.file) {
					t.Errorf("%d: %d of %d bytes, %v", status, len(got), len(s.file), err)
				}
				until(t, "the log", func() bool {
					return s.logs.FilterMessage("a download broke off").FilterField(zap.Int64("report", s.id)).Len() == 1
				})
			})
		}
	}
}

// TestAManifestThatIsNotTheJobs: neither it nor a file is handed out.
func TestAManifestThatIsNotTheJobs(t *testing.T) {
	s := newServed(t, smallReport, []byte("one"), []byte("two"))
	end := s.reports.table.Job(s.id).End
	good, err := s.reports.files.Bucket().ReadAll(t.Context(), end.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if w := s.do(t, &manager, "GET", reportAt(s.id, "/manifest"), ""); !bytes.Equal(w.Body.Bytes(), good) {
		t.Errorf("%s\nis not what is in the store\n%s", w.Body, good)
	}
	j := *s.reports.table.Job(s.id)
	for what, edit := range map[string]func(m *report.Manifest){
		"another report":   func(m *report.Manifest) { m.ReportID++ },
		"another job":      func(m *report.Manifest) { m.Job = "x" },
		"another file":     func(m *report.Manifest) { m.SHA256 = digestOf([]byte("x")) },
		"more bytes":       func(m *report.Manifest) { m.Bytes++; m.Parts[0].Bytes++ },
		"more rows":        func(m *report.Manifest) { m.Rows++; m.Parts[0].Rows++ },
		"what adds up not": func(m *report.Manifest) { m.Parts = m.Parts[1:] },
		"another's part":   func(m *report.Manifest) { m.Parts[0].Object = "0190a0a5-b21e-7f43-9dfe-578a88ae01c9/x" },
		"a part outside":   func(m *report.Manifest) { m.Parts[0].Object = "../secret" },
		"a part before":    func(m *report.Manifest) { m.Parts[0].Offset = -1 },
	} {
		m := new(report.Manifest)
		if err := json.Unmarshal(good, m); err != nil {
			t.Fatal(err)
		}
		edit(m)
		bad, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		s.object(t, end.Manifest, bad)
		for _, path := range []string{"/manifest", "/download"} { // by its SHA-256
			s.refused(t, manager, "GET", reportAt(s.id, path), 500)
		}
		own := *end
		own.ManifestSHA256, j.End = digestOf(bad), &own // and by what it says
		if _, _, err := s.manifest(t.Context(), &j); !errors.Is(err, report.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.object(t, end.Manifest, good[:len(good)-1])
	s.refused(t, manager, "GET", reportAt(s.id, "/manifest"), 500)
	if n := s.logs.FilterMessageSnippet("").FilterLevelExact(zap.ErrorLevel).Len(); n == 0 {
		t.Error("that is not logged")
	}
	if err := s.reports.files.Bucket().Delete(t.Context(), end.Manifest); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/manifest", "/download"} {
		w := s.do(t, &manager, "GET", reportAt(s.id, path), "")
		if w.Code != 410 || !strings.Contains(w.Body.String(), "is gone from the store of reports. POST") || w.Header().Get("Retry-After") != "" {
			t.Errorf("%s of a file that is lost: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
	}
}

// TestADownloadMeetsTheEndOfItsReport: one that was deleted, or expired, since the
// download began is not broken.
func TestADownloadMeetsTheEndOfItsReport(t *testing.T) {
	for what, end := range map[string]func(*served) error{
		"deleted": func(s *served) error { return s.reports.table.Remove(t.Context(), s.id) },
		"expired": func(s *served) error {
			_, err := s.reports.table.Expire(t.Context(), s.id, "kept for 720h0m0s")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newServed(t, smallReport, someParts(25)...) // 30 MB, far more than the network buffers
			resp := s.get(t, "GET", reportAt(s.id, "/download"))
			if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			job := s.reports.table.Job(s.id).Spec.Job
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			if err := s.reports.files.Delete(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%d bytes and no error", len(rest))
			}
			until(t, "it is counted", func() bool { return testutil.ToFloat64(s.metrics.downloads.WithLabelValues("gone")) == 1 })
			if n := s.logs.FilterMessage("a download broke off").Len(); n > 0 || testutil.ToFloat64(s.metrics.downloads.WithLabelValues("broken")) > 0 {
				t.Error("it is counted as broken")
			}
		})
	}
}

func (s *served) request(t *testing.T, path string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// TestWithoutItsAuditEventNothingIsDownloaded.
func TestWithoutItsAuditEventNothingIsDownloaded(t *testing.T) {
	s := newServed(t, smallReport, []byte("secret"))
	nowhere := s.cfg.Kafka
	nowhere.Addr = away(t).Addr
	emitter, err := openEmitter(nowhere, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	old := s.emitter
	s.emitter = emitter
	if err := closeEmitter(old); err != nil {
		t.Fatal(err)
	}
	w := s.do(t, &manager, "GET", reportAt(s.id, "/download"), "")
	if w.Code != 503 || strings.Contains(w.Body.String(), "secret") || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for _, c := range []struct{ method, path string }{{"POST", reportPath}, {"DELETE", reportAt(s.id)}, {"POST", reportAt(s.id, "/rerun")}} {
		body := ""
		if c.path == reportPath {
			body = smallReport
		}
		if w := s.do(t, &manager, c.method, c.path, body); w.Code != 503 || !strings.Contains(w.Body.String(), "Nothing was done") {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
	if all := s.reports.table.Jobs(); len(all) != 1 || all[s.id].State != report.StateFinished {
		t.Errorf("%v", all)
	}
}

// TestADamagedFileIsNotResumed: who goes on within a part that differs, or at its
// first byte, or before it, does not get what makes up the file's length.
func TestADamagedFileIsNotResumed(t *testing.T) {
	s := newServed(t, smallReport, someParts(3)...)
	bucket, begin := s.reports.files.Bucket(), 0
	for n, part := range s.m.Parts {
		good, err := bucket.ReadAll(t.Context(), part.Object)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[part.Offset] ^= 1
		for from := range map[int]bool{max(0, begin-5): true, begin: true, begin + 1: true, begin + int(part.Bytes) - 1: true} {
			for _, damaged := range []bool{true, false} {
				s.object(t, part.Object, map[bool][]byte{true: bad, false: good}[damaged])
				resp, err := s.Client().Do(s.request(t, reportAt(s.id, "/download"), "Range", fmt.Sprintf("bytes=%d-", from)))
				var got []byte
				if err == nil {
					got, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
				if whole := err == nil && resp.StatusCode < 300 && bytes.Equal(got, s.file[from:]); whole == damaged || damaged && err == nil && resp.StatusCode < 300 {
					t.Errorf("part %d is damaged: %v, from %d on: %d bytes of %d, %v", n, damaged, from, len(got), len(s.file)-from, err)
				}
			}
		}
		begin += int(part.Bytes)
	}
}

// TestADownloadEndsWithTheService: it breaks off when the service drains, and a
// range goes on behind it.
func TestADownloadEndsWithTheService(t *testing.T) {
	s := newServed(t, smallReport, someParts(25)...) // 30 MB, far more than the network buffers
	resp := s.get(t, "GET", reportAt(s.id, "/download"))
	first := make([]byte, 1000)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	s.Drain()
	rest, err := io.ReadAll(resp.Body)
	if err == nil || len(rest) == len(s.file)-len(first) {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if got := slices.Concat(first, rest); !bytes.HasPrefix(s.file, got) {
		t.Error("not the file")
	}
	if s.logs.FilterMessage("a download broke off").Len() > 0 {
		t.Error("that is no damage")
	}
}

// TestTheFileIsReadAsBytesAre: seeks and reads of any size, against the bytes.
func TestTheFileIsReadAsBytesAre(t *testing.T) {
	s := newServed(t, smallReport, []byte("a"), nil, []byte("bc"), someParts(2)[1], nil)
	f := &reportFile{ctx: t.Context(), files: s.reports.files, m: s.m}
	defer f.close()
	like := bytes.NewReader(s.file)
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		if random.IntN(3) == 0 {
			offset, whence := random.Int64N(int64(len(s.file)+3)), random.IntN(3)
			offset -= map[int]int64{io.SeekCurrent: f.at, io.SeekEnd: int64(len(s.file))}[whence]
			got, err := f.Seek(offset, whence)
			want, errLike := like.Seek(offset, whence)
			if got != want || (err == nil) != (errLike == nil) {
				t.Fatalf("seek %d %d: %d %v, want %d %v", offset, whence, got, err, want, errLike)
			}
		}
		b := make([]byte, random.IntN(40_000))
		n, err := f.Read(b)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		want := make([]byte, n)
		if _, err := io.ReadFull(like, want); err != nil || !bytes.Equal(b[:n], want) || n == 0 && len(b) > 0 && like.Len() > 0 {
			t.Fatalf("read %d of %d, %v", n, len(b), err)
		}
	}
}

func TestNamesOfFiles(t *testing.T) {
	for name, want := range map[string]string{
		"a b.csv":   `attachment; filename="a b.csv"; filename*=UTF-8''a%20b.csv`,
		`a"b\;.csv`: `attachment; filename="a_b_;.csv"; filename*=UTF-8''a%22b%5C%3B.csv`,
		"é':*.csv":  `attachment; filename="_'__.csv"; filename*=UTF-8''%C3%A9%27%3A%2A.csv`,
	} {
		if got := attachment(name); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", name, got, want)
		}
	}
}
