// Package broker runs the embedded Kafka: franz-go's kfake with its data on
// disk, and with append times (see stamper). It is for development and tests on one machine; production uses Apache
// Kafka. The services cannot tell: they speak the Kafka protocol to an address.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/bytesize"
	"github.com/auditrail/auditrail/services/internal/filelock"
)

// Config of the embedded broker. Its tags are flags; see auditrail --help.
type Config struct {
	Addr           string         `name:"kafka-addr" help:"Address to listen on, loopback only, host:port. Port 0 takes a free one." default:"127.0.0.1:9092"`
	DataDir        string         `name:"data-dir" help:"Folder for the data; the broker keeps its own in <data-dir>/kafka." default:"./data"`
	RetentionBytes bytesize.Bytes `name:"broker-retention-bytes" help:"Bytes kept a partition, at most." default:"1GiB"`
	Retention      time.Duration  `name:"broker-retention" help:"Time records are kept, at most." default:"168h"`
	// Advertised is the address that clients are told, host:port, when a proxy
	// stands before the broker. Empty: the one it listens on.
	Advertised string `name:"kafka-advertised-addr" hidden:"" help:"Address that clients are told, host:port. Empty: the one listened on."`
}

const (
	// segmentBytes is small, so that retention, which drops whole segments,
	// follows its bound closely.
	segmentBytes = 32 << 20
	// cleanEvery is how often retention is applied.
	cleanEvery = time.Minute
)

// Deps of the embedded broker.
type Deps struct {
	Log *zap.Logger
}

// Broker is a running embedded broker.
type Broker struct {
	stamps  *stamper
	cluster *kfake.Cluster
	lock    *filelock.Lock
}

// Start opens the data folder, listens and returns once clients can connect.
// The caller closes the broker.
func Start(ctx context.Context, cfg Config, deps Deps) (*Broker, error) {
	host, port, err := loopback(cfg.Addr)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.DataDir, "kafka")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder of the broker: %w", err)
	}
	lock, err := filelock.Take(filepath.Join(dir, "lock"), 0)
	if err != nil {
		return nil, fmt.Errorf("data folder of the broker: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(port),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			// kfake binds its own host; the port is what it chose or was given.
			_, p, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			ln, err := (&net.ListenConfig{}).Listen(ctx, network, net.JoinHostPort(host, p))
			if err != nil || cfg.Advertised == "" {
				return ln, err
			}
			return advertised{ln, cfg.Advertised}, nil
		}),
		kfake.DataDir(dir),
		kfake.ClusterID("auditrail-embedded"),
		kfake.DefaultNumPartitions(2),
		kfake.WithLogger(logger{deps.Log}),
		kfake.BrokerConfigs(map[string]string{
			"default.replication.factor": "1",
			"log.segment.bytes":          strconv.Itoa(segmentBytes),
			"log.retention.bytes":        strconv.FormatInt(int64(cfg.RetentionBytes), 10),
			"log.retention.ms":           strconv.FormatInt(cfg.Retention.Milliseconds(), 10),
			"log.cleaner.backoff.ms":     strconv.FormatInt(cleanEvery.Milliseconds(), 10),
		}),
	)
	if err != nil {
		lock.Release()
		return nil, fmt.Errorf("embedded broker on %s (choose another address with --kafka-addr): %w", cfg.Addr, err)
	}
	stamps, err := newStamper(cluster)
	if err != nil {
		cluster.Close()
		lock.Release()
		return nil, err
	}
	cluster.ControlKey(int16(kmsg.Produce), stamps.control)
	return &Broker{cluster: cluster, lock: lock, stamps: stamps}, nil
}

// advertised is a listener behind a proxy: kfake tells clients its address.
type advertised struct {
	net.Listener
	addr string
}

// Addr is the proxy's address.
func (a advertised) Addr() net.Addr { return proxyAddr(a.addr) }

type proxyAddr string

// Network implements net.Addr.
func (proxyAddr) Network() string  { return "tcp" }
func (a proxyAddr) String() string { return string(a) }

// Addr is the address clients connect to, host:port.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Close flushes everything to disk and stops. Clients must be gone before.
func (b *Broker) Close() {
	b.cluster.Close()
	b.lock.Release()
}

// Run is Start, until ctx ends, then Close.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	b, err := Start(ctx, cfg, deps)
	if err != nil {
		return err
	}
	deps.Log.Info("broker is ready", zap.String("addr", b.Addr()))
	<-ctx.Done()
	b.Close()
	return nil
}

// loopback splits addr and refuses hosts that others could reach: the embedded
// broker asks nobody for a password.
func loopback(addr string) (string, int, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("--kafka-addr: %w", err)
	}
	port, err := strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("--kafka-addr %s: %q is not a port, 0 to 65535", addr, p)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, errors.New("--kafka-addr: the embedded broker has no authentication and listens on loopback addresses only; run Apache Kafka to be reached from elsewhere")
	}
	return host, port, nil
}

// logger hands kfake's log to zap: warnings and errors, nothing finer.
type logger struct{ log *zap.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("broker", zap.String("message", fmt.Sprintf(format, args...)))
	case kfake.LogLevelWarn:
		l.log.Warn("broker", zap.String("message", fmt.Sprintf(format, args...)))
	default:
	}
}
