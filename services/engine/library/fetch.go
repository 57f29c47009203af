//go:build !noengine && (linux || darwin)

// Package library finds libchdb.so, the ClickHouse engine as a shared library,
// and fetches it once, with the user's own npm, into a cache outside the tree.
package library

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/auditrail/auditrail/services/internal/filelock"
)

// Options say where the library is and where to put it.
type Options struct {
	// Library is the path of a libchdb.so to use as it is, unverified. Empty: the cache.
	Library string
	// Cache is the folder to keep the library in. Empty: auditrail in the
	// user's cache folder.
	Cache string
	// Progress is where the download's progress is told. Nil: nowhere.
	Progress *os.File
}

// Ensure returns the path of the library, fetching it when it is missing. Once
// it is there, that takes a look at three files: it is verified when it is
// fetched, not at every start. From then on it is trusted as far as nobody but
// the user and root can change it. Several processes may call it at once; one fetches.
func Ensure(ctx context.Context, o Options) (string, error) {
	if o.Library != "" {
		if _, err := os.Stat(o.Library); err != nil {
			return "", fmt.Errorf("engine library: %w", err)
		}
		return filepath.Abs(o.Library)
	}
	p, err := pinFor(platform())
	if err != nil {
		return "", err
	}
	cache := o.Cache
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder to keep the ClickHouse engine in: %w; set HOME, or AUDITRAIL_ENGINE_CACHE to a folder", err)
		}
		cache = filepath.Join(user, "auditrail")
	}
	// The loader searches its own path for a name without a slash.
	if cache, err = filepath.Abs(cache); err != nil {
		return "", err
	}
	s := store{dir: cache, pin: p}
	if s.ready() {
		return s.library(), nil
	}
	if err := s.fetch(ctx, o.Progress); err != nil {
		return "", err
	}
	return s.library(), nil
}

// store is the cache folder, for one pin.
type store struct {
	dir string
	pin pin
}

func (s store) home() string    { return filepath.Join(s.dir, "chdb-"+Version+"-"+s.pin.platform) }
func (s store) library() string { return filepath.Join(s.home(), fileName) }

// stampName is the file that says which library was verified. It comes into
// place together with the library, by one rename.
const stampName = "verified"

func (s store) stamp() string {
	if !s.pin.pinned() {
		return "by npm alone\n"
	}
	return s.pin.sha256 + "\n"
}

// ready says whether the verified library is in place.
func (s store) ready() bool {
	stamp, err := os.ReadFile(filepath.Join(s.home(), stampName))
	if err != nil || string(stamp) != s.stamp() {
		return false
	}
	for _, path := range []string{s.home(), filepath.Join(s.home(), stampName), s.library()} {
		if !ours(path) {
			return false
		}
	}
	info, err := os.Stat(s.library())
	return err == nil && (info.Size() == s.pin.size || !s.pin.pinned() && info.Size() > 0)
}

// ours says whether only the user and root can write to path.
func ours(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSymlink != 0 || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Getuid())
}

// workPrefix begins the name of a folder that a fetch works in.
const workPrefix = "fetch-"

func (s store) fetch(ctx context.Context, progress *os.File) (err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil { //nolint:gosec // a cache of public files
		return fmt.Errorf("engine cache: %w; set AUDITRAIL_ENGINE_CACHE to a folder that can be written", err)
	}
	lock, err := filelock.Wait(ctx, filepath.Join(s.dir, "fetch.lock"), func() {
		if progress != nil {
			_, _ = fmt.Fprintln(progress, "another process fetches the ClickHouse engine; waiting for it")
		}
	})
	if err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	defer lock.Release()
	if s.ready() { // another process was first
		return nil
	}
	// Under the lock, so what is there was left by a process that died.
	if err := s.sweep(); err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	work, err := os.MkdirTemp(s.dir, workPrefix)
	if err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	report := newReport(progress, work, s.pin.packed)
	if !s.pin.pinned() {
		report.say("no checksum is pinned for " + s.pin.platform + ": npm's own integrity check of " + s.pin.pkg() + " has to do")
	}
	archive, err := s.pin.download(ctx, work)
	report.stop()
	if err != nil {
		return fmt.Errorf("the ClickHouse engine could not be fetched: %w; connect to a package registry or %s", err, useLibrary)
	}
	report.say("unpacking and verifying the ClickHouse engine")
	home := filepath.Join(work, "new")
	if err := os.Mkdir(home, 0o755); err != nil { //nolint:gosec // a cache of public files
		return fmt.Errorf("engine cache: %w", err)
	}
	if err := s.pin.unpack(ctx, archive, filepath.Join(home, fileName)); err != nil {
		return fmt.Errorf("the ClickHouse engine could not be unpacked: %w", err)
	}
	if err := os.WriteFile(filepath.Join(home, stampName), []byte(s.stamp()), 0o644); err != nil { //nolint:gosec // a cache of public files
		return fmt.Errorf("engine cache: %w", err)
	}
	if err := os.RemoveAll(s.home()); err != nil { // broken, or ready would have said yes
		return fmt.Errorf("engine cache: %w", err)
	}
	// If we die before this line nothing is in place; after it everything is.
	if err := os.Rename(home, s.home()); err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	report.say("the ClickHouse engine is in " + s.home())
	return nil
}

// sweep removes the work folders of fetches that died.
func (s store) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), workPrefix) && e.IsDir() {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
