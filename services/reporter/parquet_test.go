package reporter

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/filelock"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// pyarrow is the reader of Parquet that is not ours, and its pinned version.
const pyarrow = "26.0.1"

//go:embed testdata/read.py
var readParquet string

// python is an interpreter that has pyarrow, installed once a machine. Without a
// way to get one it skips the test, but not where tests must be complete.
func python(t *testing.T) string {
	t.Helper()
	missing := func(why string, err error) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatalf("%s: %v", why, err)
		}
		t.Skipf("NO INDEPENDENT READER LOOKED AT THE PARQUET FILES: %s: %v", why, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		missing("no cache folder", err)
	}
	dir := filepath.Join(cache, "auditrail", "pyarrow-"+pyarrow)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	bin, done := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "complete")
	lock, err := filelock.Wait(t.Context(), filepath.Join(dir, "lock"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := os.Stat(done); err == nil {
		return bin
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", dir},
		{bin, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "pyarrow==" + pyarrow},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			missing("pyarrow cannot be installed: "+string(out), err)
		}
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return bin
}

// parquetFile makes a report's file of the spans' chunks.
func parquetFile(t *testing.T, c *clickHouse, a asked, spans []sqlgen.TimeSpan) []byte {
	t.Helper()
	file := bytes.NewBufferString(parquetMagic)
	objects := map[string][]byte{}
	var chunks []*report.Chunk
	sum, err := report.Sum(nil).After([]byte(parquetMagic))
	if err != nil {
		t.Fatal(err)
	}
	for i, span := range spans {
		a.span = span
		var object bytes.Buffer
		chunk, err := c.chunk(t.Context(), sqlgen.ReportRows(a.see, a.filter, a.pin, a.span, a.columns, sqlgen.Parquet{}), report.Parquet, report.None, sum, &object, func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		chunk.N, chunk.Object, sum = i, string(rune('a'+i)), chunk.Sum
		objects[chunk.Object] = object.Bytes()
		part := object.Bytes()[chunk.Offset : chunk.Offset+chunk.Bytes]
		file.Write(part)
		if got, err := sum.Hex(); err != nil || got != digest(file.Bytes()) {
			t.Errorf("chunk %d: the running hash is not that of the file so far: %s, %v", i, got, err)
		}
		chunks = append(chunks, &chunk)
	}
	end, err := footer(chunks, func(object string, offset int64) ([]byte, error) { return objects[object][offset:], nil })
	if err != nil {
		t.Fatal(err)
	}
	file.Write(end)
	return file.Bytes()
}

// TestAnotherReaderReadsParquet holds the files against a reader that is not
// ours: one footer, whatever the number of chunks, and every value.
func TestAnotherReaderReadsParquet(t *testing.T) {
	py := python(t)
	conn, c := openStore(t, testenv.ClickHouse(t))
	rows := someRows(400)
	insert(t, conn, rows)
	a := asked{
		see: visibility.For(identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Role: identity.RoleManager}),
		pin: sqlgen.Pin{Watermark: 1 << 40}, columns: titled,
	}
	for name, spans := range map[string][]sqlgen.TimeSpan{
		"several chunks": {{From: 900 * day, To: 1 << 50}, {From: 880*day + 3, To: 900 * day}, {From: 800*day + 3, To: 880*day + 3}, {From: 10 * day, To: 11 * day}, {From: 0, To: 10 * day}},
		"one chunk":      {{From: 0, To: 1 << 50}},
		"no rows":        {{From: 10 * day, To: 11 * day}},
		"no rows, twice": {{From: 11 * day, To: 12 * day}, {From: 10 * day, To: 11 * day}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "report.parquet")
			if err := os.WriteFile(path, parquetFile(t, c, a, spans), 0o600); err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), py, "-c", readParquet, path)
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			var got struct {
				Types map[string]string
				Rows  []map[string]any
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			var want []map[string]any
			for _, span := range spans {
				of := a
				of.span = span
				for _, r := range of.oracle(rows) {
					values := map[string]any{}
					for _, f := range titled {
						values[f.Name] = r.value(f)
					}
					want = append(want, values)
				}
			}
			if name == "several chunks" && (len(want) < 100 || len(want) == len(rows)) {
				t.Fatalf("%d of %d rows say little", len(want), len(rows))
			}
			if d := gocmp.Diff(got.Rows, slices.Clip(want), gocmp.Transformer("none", func(r []map[string]any) []map[string]any { return append([]map[string]any{}, r...) })); d != "" {
				t.Errorf("rows (-got +want)\n%s", d)
			}
			types := map[string]string{}
			for _, f := range titled {
				switch f.Type {
				case field.Instant:
					types[f.Name] = "timestamp[ms, tz=UTC]"
				case field.Number:
					types[f.Name] = "uint32"
				default:
					types[f.Name] = "string"
				}
			}
			if d := gocmp.Diff(got.Types, types); d != "" {
				t.Errorf("types (-got +want)\n%s", d)
			}
		})
	}
}
