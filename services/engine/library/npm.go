//go:build !noengine && (linux || darwin)

package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// npmGrace is how long npm may take to end after it is told to.
const npmGrace = 5 * time.Second

// download has npm put the package into dir and returns its path. npm's cache is
// in dir too: its growth is the progress, and nothing stays in the user's.
func (p pin) download(ctx context.Context, dir string) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not installed; it comes with Node.js")
	}
	cmd := exec.CommandContext(ctx, npm, "pack", p.pkg(), //nolint:gosec // arguments are constants
		"--pack-destination", dir, "--cache", filepath.Join(dir, "npm"), "--ignore-scripts", "--no-update-notifier", "--no-fund", "--no-audit")
	cmd.Dir = dir // away from a package.json or .npmrc of the current folder
	cmd.WaitDelay = npmGrace
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("npm pack %s: %w%s", p.pkg(), err, lastWords(stderr.String()))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d packages, not 1", p.pkg(), len(found))
	}
	return found[0], nil
}

// lastWords picks npm's reasons out of its output, without the log's path and
// the warnings.
func lastWords(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, "npm error"), "npm ERR!"))
		if line == "" || strings.HasPrefix(line, "npm warn") || strings.HasPrefix(line, "npm WARN") || strings.Contains(line, "complete log") {
			continue
		}
		if lines = append(lines, line); len(lines) == maxReasons {
			break
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, "; ")
}

const maxReasons = 4

// unpack writes the library out of the package at archive to dest, verified.
func (p pin) unpack(ctx context.Context, archive, dest string) (err error) {
	f, err := os.Open(archive) //nolint:gosec // a path of ours
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("package %s: %w", p.pkg(), err)
	}
	for files := tar.NewReader(z); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := files.Next()
		if err == io.EOF {
			return fmt.Errorf("package %s has no %s", p.pkg(), fileName)
		}
		if err != nil {
			return fmt.Errorf("package %s: %w", p.pkg(), err)
		}
		if h.Typeflag == tar.TypeReg && path.Base(h.Name) == fileName {
			return p.write(files, dest)
		}
	}
}

// write copies the library to dest while hashing it. It reads at most one byte
// more than it may have.
func (p pin) write(in io.Reader, dest string) error {
	out, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // a shared library
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(in, p.most()+1))
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	if err != nil {
		return err
	}
	if !p.pinned() {
		if n == 0 || n > p.most() {
			return fmt.Errorf("%s in %s has %d bytes, which cannot be; it was thrown away", fileName, p.pkg(), n)
		}
		return nil
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != p.size || got != p.sha256 {
		return fmt.Errorf("%s in %s is not the pinned one: %d bytes with SHA-256 %s, want %d bytes with %s; it was thrown away",
			fileName, p.pkg(), n, got, p.size, p.sha256)
	}
	return nil
}
