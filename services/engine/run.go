//go:build !noengine && (linux || darwin)

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/engine/access"
	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/library"
	"github.com/auditrail/auditrail/services/engine/session"
	"github.com/auditrail/auditrail/services/engine/tcp"
	"github.com/auditrail/auditrail/services/engine/web"
	"github.com/auditrail/auditrail/services/internal/filelock"
)

// drainTimeout bounds how long running inserts hold up the end: longer than a
// large insert takes, shorter than supervisors wait before they kill.
const drainTimeout = 10 * time.Second

func run(ctx context.Context, cfg Config, deps Deps) (err error) {
	if err := errors.Join(loopback("--clickhouse-addr", cfg.Addr), loopback("--clickhouse-http-addr", cfg.HTTPAddr)); err != nil {
		return err
	}
	if cfg.ExitWithParent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		// It ends with the process: a read of standard input cannot be interrupted.
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	lib, err := fetch(ctx, cfg)
	if err != nil {
		return err
	}
	dir, lock, err := openDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, errStuck) {
			held.Store(lock) // the engine lives, and so does its lock
			return
		}
		lock.Release()
	}()
	native, err := listen(ctx, "--clickhouse-addr", cfg.Addr)
	if err != nil {
		return err
	}
	defer native.Close() //nolint:errcheck // closed before in most cases
	http, err := listen(ctx, "--clickhouse-http-addr", cfg.HTTPAddr)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := chdb.Load(lib); err != nil {
		return fmt.Errorf("embedded ClickHouse engine: %w", err)
	}
	sessions, err := session.Open(dir)
	if err != nil {
		return fmt.Errorf("embedded ClickHouse engine on %s: %w", dir, err)
	}
	deps.Log.Info("engine ready", zap.String("version", chdb.Version()), zap.Stringer("native", native.Addr()),
		zap.String("dir", dir), zap.Duration("took", time.Since(start)))
	err = serve(ctx, cfg, deps, sessions, dir, native, http)
	if errors.Is(err, errStuck) {
		// Closing the engine would wait for the query; the process's end does not.
		deps.Log.Error("engine left running", zap.Error(err))
		return err
	}
	sessions.Close()
	return err
}

// errStuck: a query did not react to its kill.
var errStuck = errors.New("a killed query goes on; the engine ends with the process")

// held keeps the lock of an engine that could not be stopped: a lock that nobody
// refers to is released by the garbage collector.
var held atomic.Pointer[filelock.Lock]

// serve runs both servers until ctx is done or one of them fails. The error is
// errStuck, whatever else it is, when a session is still in use.
func serve(ctx context.Context, cfg Config, deps Deps, sessions *session.Manager, dir string, native, http net.Listener) error {
	login := access.Login{User: cfg.User, Password: cfg.Password}
	if login.User == "" {
		login.User = "default"
	}
	tcpServer := &tcp.Server{Sessions: sessions, Login: login, Log: deps.Log}
	webServer, err := web.New( //nolint:contextcheck // its queries end by Shutdown, after ctx
		web.Config{Sessions: sessions, Login: login, Log: deps.Log, TempDir: filepath.Join(dir, tempDir)})
	if err != nil {
		return err
	}
	var stuck atomic.Bool
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return tcpServer.Serve(native) })
	var httpAddr net.Addr
	if http != nil {
		httpAddr = http.Addr()
		group.Go(func() error { return webServer.Serve(http) })
	}
	group.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		var both errgroup.Group
		report := func(ended bool) error {
			if !ended {
				stuck.Store(true)
				return errStuck
			}
			return nil
		}
		both.Go(func() error {
			tcpServer.StartDrain()
			_ = native.Close()
			return report(tcpServer.Shutdown(drain))
		})
		both.Go(func() error { return report(webServer.Shutdown(drain)) })
		return both.Wait()
	})
	if deps.Ready != nil {
		deps.Ready(native.Addr(), httpAddr)
	}
	// The group tells its first error alone, which may be the reason for the end.
	err = group.Wait()
	if stuck.Load() && !errors.Is(err, errStuck) {
		err = errors.Join(err, errStuck)
	}
	return err
}

func fetch(ctx context.Context, cfg Config) (string, error) {
	return library.Ensure(ctx, library.Options{Library: cfg.Library, Cache: cfg.Cache, Progress: os.Stderr})
}

// loopback refuses addresses that other machines reach.
func loopback(flag, addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %s: %w", flag, addr, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s %s: the embedded engine serves this machine alone (127.0.0.1, ::1 or localhost), "+
		"because it has one user and no TLS; for other machines run a ClickHouse server and point --clickhouse-addr of the services at it", flag, addr)
}

func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; stop what uses the port, or set another one", flag, err)
	}
	return ln, nil
}
