// Package engine runs the embedded ClickHouse engine: libchdb.so in this
// process, behind ClickHouse's own native protocol and HTTP interface, for
// development, tests and small installations. Whoever speaks to it cannot tell
// it from a server; production runs a real one.
//
// The way of a query: tcp or web reads it, sqltext tells its kind, session
// brings the settings in force, chdb runs it in the library, and native re-frames
// the blocks. library finds libchdb.so, or fetches it.
package engine

import (
	"context"
	"net"

	"go.uber.org/zap"
)

// Config is the engine's configuration. Its tags are flags; see auditrail
// engine --help.
type Config struct {
	// Addr is where the native protocol is served, host:port. Loopback only:
	// the engine has one user and no TLS. Port 0 picks a free one.
	Addr string `name:"clickhouse-addr" help:"Address to serve ClickHouse's native protocol on, host:port; loopback only." default:"127.0.0.1:9000"`
	// HTTPAddr is where the HTTP interface is served, host:port. Loopback only.
	// Empty: no HTTP interface.
	HTTPAddr string `name:"clickhouse-http-addr" help:"Address to serve ClickHouse's HTTP interface on, host:port; loopback only. Empty turns it off." default:"127.0.0.1:8123"`
	// DataDir holds the engine's data, in its folder clickhouse. One process at a time.
	DataDir string `name:"data-dir" help:"Folder for data; the engine uses the folder clickhouse in it." default:"./data"`
	// User is the only user. Empty means default.
	User string `name:"clickhouse-user" help:"The one ClickHouse user that may connect." default:"default"`
	// Password is the user's. Empty, the default, admits the user without one.
	Password string `name:"clickhouse-password" help:"The user's password; empty for none. Prefer the environment variable: a flag shows in the process list." default:""`
	// Cache is the folder that libchdb.so is fetched into, about 570 MB. Empty:
	// auditrail in the user's cache folder.
	Cache string `name:"engine-cache" env:"AUDITRAIL_ENGINE_CACHE" help:"Folder to keep the ClickHouse engine (libchdb.so) in; empty for auditrail in the user's cache folder."`
	// Library is a libchdb.so to load instead of the pinned one. Not verified.
	Library string `name:"chdb-library" env:"AUDITRAIL_CHDB_LIBRARY" help:"A libchdb.so to load as it is, instead of the pinned one from the cache."`
	// ExitWithParent ends the engine when standard input ends, which it does when
	// the process that started it dies, however it dies.
	ExitWithParent bool `name:"exit-with-parent" hidden:"" help:"End when standard input does."`
}

// Deps is what Run takes from outside.
type Deps struct {
	// Log takes the engine's own words. Required.
	Log *zap.Logger
	// Ready, if set, is called once when both addresses are served, with the
	// ports that were picked. http is nil without an HTTP interface.
	Ready func(native, http net.Addr)
}

// Run serves until ctx is done, and then returns nil after running inserts have
// ended or drainTimeout has passed. Errors: an address that is not loopback or
// is taken, a data folder that cannot be used or that another process uses, a
// library that cannot be had or loaded, a killed query that goes on: then the
// engine still runs and holds its folder, until the process ends.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	return run(ctx, cfg, deps)
}

// Fetch makes sure that libchdb.so is in the cache, telling its progress on
// standard error, and returns its path. With the library in place it returns at
// once. Safe for several processes at a time.
func Fetch(ctx context.Context, cfg Config) (string, error) {
	return fetch(ctx, cfg)
}
