package store

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// HTTPConfig says where ClickHouse's HTTP interface is; database and user are
// those of Config. Its tags are flags; see auditrail --help.
type HTTPConfig struct {
	Addr []string `name:"clickhouse-http-addr" help:"ClickHouse HTTP interface, host:port or https://host:port (repeatable or comma separated)." default:"127.0.0.1:8123" sep:","`
}

// URLs returns an address for each of Addr.
func (c HTTPConfig) URLs() ([]*url.URL, error) {
	urls := make([]*url.URL, len(c.Addr))
	for i, addr := range c.Addr {
		if !strings.Contains(addr, "://") {
			addr = "http://" + addr
		}
		u, err := url.Parse(addr)
		// A password in it would be written into errors.
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, fmt.Errorf("--clickhouse-http-addr %d of %d: host:port or https://host:port is needed, without a user, a path or parameters", i+1, len(c.Addr))
		}
		urls[i] = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}
	}
	if len(urls) == 0 {
		return nil, errors.New("--clickhouse-http-addr: an address is needed")
	}
	return urls, nil
}
