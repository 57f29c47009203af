package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/auditrail/auditrail/services/internal/report"
)

// downloaded writes a report of two parts and its manifest.
func downloaded(t *testing.T) (file, manifest string, m *report.Manifest) {
	t.Helper()
	start := int64(1736942490000)
	m = &report.Manifest{
		ReportID: 17, Name: "Logins \x1b[31m of \"March\"", CustomerUUID: "c1", UserUUID: "u1", UserName: "Jack", UserRole: "Manager",
		Format: report.CSV, Compression: report.None, Query: `action:"Login"`, StartDate: &start, From: start, KeptSince: start + 1000, Clipped: true,
		CompleteUpTo: 1744718490000, CreatedDate: 1744718490001, FinishedDate: 1744718490730, Rows: 2,
	}
	content := ""
	var before report.Sum
	for _, part := range []string{"Id,Action\r\n", "1,Login\r\n2,Login\r\n"} {
		content += part
		sum := sha256.Sum256([]byte(content))
		m.Parts = append(m.Parts, report.Part{Bytes: int64(len(part)), SHA256: hex.EncodeToString(sum[:]), Before: before, Rows: int64(2 * len(m.Parts))})
		var err error
		if before, err = before.After([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256([]byte(content))
	m.Bytes, m.SHA256 = int64(len(content)), hex.EncodeToString(sum[:])
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, manifest = filepath.Join(dir, "report.csv"), filepath.Join(dir, "manifest.json")
	for name, data := range map[string][]byte{file: []byte(content), manifest: raw} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file, manifest, m
}

func TestReportVerify(t *testing.T) {
	t.Parallel()
	file, manifest, m := downloaded(t)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.csv")
	if err := os.WriteFile(damaged, bytes.Replace(content, []byte("2,Login"), []byte("2,Logon"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	const good = `report 17 is what its manifest says
  name         "Logins \x1b[31m of \"March\""
  file         csv, 29 B (29 bytes), 2 parts
  rows         2
`
	for name, c := range map[string]struct {
		args    []string
		stdin   string
		code    int
		out, in string // of standard output, at its beginning; of standard error
	}{
		"both are files":     {args: []string{file, "--manifest", manifest}, out: good},
		"the manifest piped": {args: []string{file, "--manifest", "-"}, stdin: string(text), out: good},
		"the file piped":     {args: []string{"-", "--manifest", manifest}, stdin: string(content), out: good},
		"damaged":            {args: []string{damaged, "--manifest", manifest}, code: 1, in: "part 2 of 2 differs: bytes 11 to 28, 2 rows"},
		"half of it piped":   {args: []string{"-", "--manifest", manifest}, stdin: string(content[:15]), code: 1, in: "it ends after 15 bytes, within part 2 of 2: 14 bytes are missing"},
		"changed places":     {args: []string{manifest, "--manifest", file}, code: 1, in: "no manifest of a report"},
		"twice the pipe":     {args: []string{"-", "--manifest", "-"}, code: 1, in: "cannot both be standard input"},
		"no such file":       {args: []string{file + "x", "--manifest", manifest}, code: 1, in: "no such file"},
		"no such manifest":   {args: []string{file, "--manifest", manifest + "x"}, code: 1, in: "--manifest: "},
		"a folder":           {args: []string{filepath.Dir(file), "--manifest", manifest}, code: 1, in: "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := auditrail(t, c.stdin, append([]string{"report", "verify"}, c.args...)...)
			if code != c.code || !strings.HasPrefix(stdout, c.out) || !strings.Contains(stderr, c.in) || code != 0 && stdout != "" {
				t.Errorf("got %d\n%s\n%s", code, stdout, stderr)
			}
			if code == 0 && !strings.Contains(stdout, m.SHA256) {
				t.Errorf("the sum is not in\n%s", stdout)
			}
		})
	}
	if _, _, code := auditrail(t, "", "report", "verify", file); code == 0 {
		t.Error("it needs no manifest")
	}
}

func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	p := &progress{ctx: t.Context(), from: iotest.OneByteReader(strings.NewReader("12345678")), to: &said, size: 8, next: time.Now().Add(-time.Hour)}
	if _, err := io.Copy(io.Discard, p); err != nil {
		t.Fatal(err)
	}
	p.end()
	if got := said.String(); !strings.HasPrefix(got, "\r 12% of 8 B") || !strings.Contains(got, "\r100% of 8 B") || !strings.HasSuffix(got, "\r\033[K") {
		t.Errorf("got %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := io.Copy(io.Discard, &progress{ctx: ctx, from: strings.NewReader("x")}); err == nil {
		t.Error("it goes on after Ctrl-C")
	}
}
