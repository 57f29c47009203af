//go:build !noengine && (linux || darwin)

package library

import (
	"fmt"
	"path/filepath"
	"runtime"
)

// Version is the version of the packages that carry the library.
const Version = "26.7.3-stable.1"

// fileName is the library's name in its package and in the cache, on every platform.
const fileName = "libchdb.so"

// pin is one platform's package and what is expected in it.
type pin struct {
	platform string // as in the package's name
	// sha256 and size are those of libchdb.so. Empty where the package could not
	// be had when the pins were made: then npm's own integrity check of exactly
	// this version has to do, and the fetch says so.
	sha256 string
	size   int64
	// packed is the package's size, for the percentage.
	packed int64
}

// aboutPacked stands in for the size of a package that nobody weighed.
const aboutPacked = 180_000_000

// pins is by GOOS/GOARCH. The chdb-core wheels of the same release are no other
// source: they carry a Python module that exports none of the C functions.
var pins = map[string]pin{
	"linux/amd64": {
		platform: "linux-x64-gnu",
		sha256:   "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
		size:     566_330_096,
		packed:   177_817_999,
	},
	"linux/arm64":  {platform: "linux-arm64-gnu", packed: aboutPacked},
	"darwin/amd64": {platform: "darwin-x64", packed: aboutPacked},
	"darwin/arm64": {platform: "darwin-arm64", packed: aboutPacked},
}

// pinned says whether the library is checked against a checksum of ours.
func (p pin) pinned() bool { return p.sha256 != "" }

// most is how many bytes the library has, or may have where that is not known.
func (p pin) most() int64 {
	if p.pinned() {
		return p.size
	}
	return 2 << 30
}

// pkg is the package's name with its version, as npm takes it.
func (p pin) pkg() string { return "@chdb/lib-" + p.platform + "@" + Version }

const (
	useServer  = "run a ClickHouse server instead and point --clickhouse-addr at it"
	useLibrary = "set AUDITRAIL_CHDB_LIBRARY to a libchdb.so"
)

// pinFor is the pin of a platform. libc is "musl" or anything else.
func pinFor(platform, libc string) (pin, error) {
	p, ok := pins[platform]
	if !ok || libc == "musl" {
		if libc == "musl" {
			platform += " with musl"
		}
		return pin{}, fmt.Errorf("the embedded ClickHouse engine does not exist for %s; %s", platform, useServer)
	}
	return p, nil
}

// platform is this machine's, and its C library as far as it matters.
func platform() (name, libc string) {
	if runtime.GOOS == "linux" {
		if found, _ := filepath.Glob("/lib*/ld-linux-*.so.*"); len(found) > 0 {
			libc = "glibc"
		} else if found, _ := filepath.Glob("/lib/ld-musl-*.so.1"); len(found) > 0 {
			libc = "musl"
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH, libc
}
