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
	// sha256 and size are those of libchdb.so. Empty where nobody has verified
	// the package yet: then it is not fetched.
	sha256 string
	size   int64
	// packed is the package's size, for the percentage.
	packed int64
}

// pins is by GOOS/GOARCH. The chdb-core wheels of the same release are no other
// source: they carry a Python module that exports none of the C functions.
var pins = map[string]pin{
	"linux/amd64": {
		platform: "linux-x64-gnu",
		sha256:   "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
		size:     566_330_096,
		packed:   177_817_999,
	},
	"linux/arm64":  {platform: "linux-arm64-gnu"},
	"darwin/amd64": {platform: "darwin-x64"},
	"darwin/arm64": {platform: "darwin-arm64"},
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
	if p.sha256 == "" {
		return pin{}, fmt.Errorf("no checksum of the ClickHouse engine is pinned for %s, so it is not fetched: "+
			"fetch it yourself with 'npm pack %s', unpack %s from it and %s; or %s", platform, p.pkg(), fileName, useLibrary, useServer)
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
