//go:build !noengine && (linux || darwin)

package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// content stands for the library.
var content = bytes.Repeat([]byte("libchdb"), 10_000)

func testPin() pin {
	sum := sha256.Sum256(content)
	return pin{platform: "test", sha256: hex.EncodeToString(sum[:]), size: int64(len(content)), packed: 1000}
}

// archive writes a package that holds body under name.
func archive(t *testing.T, name string, body []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range []struct {
		name string
		body []byte
	}{{"package/package.json", []byte("{}")}, {name, body}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "package.tgz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeNPM puts a script in place of npm. It counts its calls in a file.
func fakeNPM(t *testing.T, script string) (calls func() int) {
	t.Helper()
	dir := t.TempDir()
	count := filepath.Join(dir, "calls")
	script = "#!/bin/sh\necho called >> '" + count + "'\n" + script
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return func() int {
		b, _ := os.ReadFile(count)
		return bytes.Count(b, []byte("\n"))
	}
}

// copies is an npm that gives path: npm pack PACKAGE --pack-destination DIR ...
func copies(path string) string { return "cp '" + path + "' \"$4/\"\n" }

// entries are the names in the cache, less the lock's.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != "fetch.lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestFetchOnce(t *testing.T) {
	calls := fakeNPM(t, copies(archive(t, "package/libchdb.so", content)))
	s := store{dir: filepath.Join(t.TempDir(), "new", "cache"), pin: testPin()}
	if s.ready() {
		t.Fatal("ready before the fetch")
	}
	// Several processes at once: flock is per open file, so goroutines do.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.fetch(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !s.ready() {
		t.Fatal("not ready after the fetch")
	}
	if got, err := os.ReadFile(s.library()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the library is not the package's: %v", err)
	}
	if n := calls(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
	if got := entries(t, s.dir); len(got) != 1 {
		t.Errorf("left in the cache: %v", got)
	}
}

func TestFetchWithoutAChecksumSaysSo(t *testing.T) {
	calls := fakeNPM(t, copies(archive(t, "package/libchdb.so", content)))
	s := store{dir: t.TempDir(), pin: pin{platform: "test", packed: 1000}}
	out, err := os.Create(filepath.Join(t.TempDir(), "progress"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := s.fetch(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if !s.ready() || calls() != 1 {
		t.Errorf("ready: %v after %d downloads", s.ready(), calls())
	}
	if told, err := os.ReadFile(out.Name()); err != nil || !strings.Contains(string(told), "no checksum is pinned for test") {
		t.Errorf("got %q, %v", told, err)
	}
	// Once a checksum is known, what was fetched without one does not do.
	s.pin = testPin()
	if s.ready() {
		t.Error("an unverified library passes for a verified one")
	}
}

// TestFetchHealsTheCache: what a fetch that died left goes, and a library that
// was cut short is fetched again.
func TestFetchHealsTheCache(t *testing.T) {
	fakeNPM(t, copies(archive(t, "package/libchdb.so", content)))
	s := store{dir: t.TempDir(), pin: testPin()}
	for _, dir := range []string{filepath.Join(s.dir, "fetch-123", "npm"), s.home()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, body := range map[string]string{s.library(): "short", filepath.Join(s.home(), stampName): s.stamp()} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s.ready() {
		t.Fatal("a short library passes")
	}
	if err := s.fetch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, s.dir); len(got) != 1 || !s.ready() {
		t.Errorf("left in the cache: %v", got)
	}
}

func TestFetchErrors(t *testing.T) {
	wrong := bytes.Clone(content)
	wrong[0] ^= 1
	for name, c := range map[string]struct {
		script string
		want   string
	}{
		"offline":    {"echo 'npm warn x' >&2; echo 'npm error network timed out' >&2; exit 1\n", "could not be fetched: npm pack @chdb/lib-test@" + Version + ": exit status 1: network timed out; connect to a package registry or set AUDITRAIL_CHDB_LIBRARY"},
		"nothing":    {"exit 0\n", "left 0 packages"},
		"corrupted":  {copies(archive(t, "package/libchdb.so", wrong)), "is not the pinned one"},
		"longer":     {copies(archive(t, "package/libchdb.so", append(bytes.Clone(content), 'x'))), "is not the pinned one"},
		"other file": {copies(archive(t, "package/other.so", content)), "has no libchdb.so"},
		"no archive": {"echo junk > \"$4/x.tgz\"\n", "could not be unpacked"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeNPM(t, c.script)
			s := store{dir: t.TempDir(), pin: testPin()}
			if err := s.fetch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if got := entries(t, s.dir); len(got) != 0 || s.ready() {
				t.Errorf("left in the cache: %v", got)
			}
		})
	}
	t.Run("no npm", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		err := store{dir: t.TempDir(), pin: testPin()}.fetch(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "npm is not installed") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		fakeNPM(t, "exec sleep 60\n")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := store{dir: t.TempDir(), pin: testPin()}
		if err := s.fetch(ctx, nil); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no home", func(t *testing.T) {
		t.Setenv("HOME", "")
		t.Setenv("XDG_CACHE_HOME", "")
		if _, err := Ensure(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "AUDITRAIL_ENGINE_CACHE") {
			t.Errorf("got %v", err)
		}
	})
}

// TestProgressInALog: few lines, with numbers.
func TestProgressInALog(t *testing.T) {
	fakeNPM(t, copies(archive(t, "package/libchdb.so", content)))
	out, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := (store{dir: t.TempDir(), pin: testPin()}).fetch(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(out)
	if text := string(b); !strings.HasPrefix(text, "fetching the ClickHouse engine: 0 of 0 MB (0%)\n") || strings.Contains(text, "\r") || strings.Count(text, "\n") > 5 {
		t.Errorf("progress: %q", text)
	}
}

func TestPlatforms(t *testing.T) {
	for platform, want := range map[string]string{
		"linux/amd64": "linux-x64-gnu", "linux/arm64": "linux-arm64-gnu", "darwin/amd64": "darwin-x64", "darwin/arm64": "darwin-arm64",
	} {
		if p, err := pinFor(platform, "glibc"); err != nil || p.pkg() != "@chdb/lib-"+want+"@"+Version {
			t.Errorf("%v, %v", p, err)
		}
	}
	for _, c := range []struct{ platform, libc, want string }{
		{"linux/amd64", "musl", "linux/amd64 with musl; run a ClickHouse server"},
		{"freebsd/amd64", "", "does not exist for freebsd/amd64"},
	} {
		if _, err := pinFor(c.platform, c.libc); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.platform, c.libc, err, c.want)
		}
	}
}

// TestReadyTrustsNoFileThatOthersCanWrite: it is loaded into the process.
func TestReadyTrustsNoFileThatOthersCanWrite(t *testing.T) {
	fakeNPM(t, `case "$*" in *--ignore-scripts*) ;; *) exit 1 ;; esac
`+copies(archive(t, "package/libchdb.so", content)))
	s := store{dir: t.TempDir(), pin: testPin()}
	for _, path := range []string{s.home(), filepath.Join(s.home(), stampName), s.library()} {
		if err := s.fetch(t.Context(), nil); err != nil || !s.ready() {
			t.Fatalf("fetch: %v, ready %v", err, s.ready())
		}
		for _, mode := range []os.FileMode{0o775, 0o757} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if s.ready() {
				t.Errorf("%s with mode %v is trusted", path, mode)
			}
		}
	}
}
