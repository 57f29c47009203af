// Package store opens ClickHouse. Every service reaches it through here, so
// that addresses, credentials and pool sizes are said one way.
package store

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Config says where ClickHouse is. Its tags are flags; see auditrail --help.
type Config struct {
	Addr     []string `name:"clickhouse-addr" help:"ClickHouse native protocol address, host:port (repeatable or comma separated)." default:"127.0.0.1:9000" sep:","`
	Database string   `name:"clickhouse-database" help:"ClickHouse database." default:"default"`
	User     string   `name:"clickhouse-user" help:"ClickHouse user." default:"default"`
	Password string   `name:"clickhouse-password" help:"ClickHouse password. Prefer the environment variable: a flag shows in the process list." default:""`
}

// identifier is what a database name may look like.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// dialTimeout bounds a connection attempt: long enough for a busy loopback,
// short enough that a dead engine is noticed at once.
const dialTimeout = 5 * time.Second

// Options is the client configuration for clickhouse-go. Compression is LZ4.
func (c Config) Options() *clickhouse.Options {
	return &clickhouse.Options{
		Addr:        c.Addr,
		Auth:        clickhouse.Auth{Database: c.Database, Username: c.User, Password: c.Password},
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		DialTimeout: dialTimeout,
	}
}

// Open connects and pings. The caller closes the connection pool.
func Open(ctx context.Context, c Config) (driver.Conn, error) {
	conn, err := clickhouse.Open(c.Options())
	if err != nil {
		return nil, fmt.Errorf("clickhouse %v: %w", c.Addr, err)
	}
	if err := conn.Ping(ctx); err != nil {
		_ = conn.Close() // the ping's error is the one to tell
		return nil, fmt.Errorf("clickhouse %v: %w", c.Addr, err)
	}
	return conn, nil
}
