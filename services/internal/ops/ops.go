// Package ops serves what operators look at: /healthz, /readyz and /metrics,
// the same way for every service.
package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

const (
	// readyTimeout bounds all checks of one /readyz: probes commonly give up
	// after a few seconds, and an answer that names the slow check is better.
	readyTimeout = 2 * time.Second
	// readHeaderTimeout closes connections that never send their header.
	readHeaderTimeout = 5 * time.Second
	// readTimeout bounds a request's body. Bodies are at most 64 KiB.
	readTimeout = 30 * time.Second
	// idleTimeout closes kept-alive connections that nobody uses.
	idleTimeout = 2 * time.Minute
	maxHeader   = 32 << 10
)

// DefaultDrain is how long Serve may wait for requests in hand where none takes
// long, such as those of operators.
const DefaultDrain = 10 * time.Second

// Check says why a part is not ready, or nil. It must heed ctx.
type Check func(ctx context.Context) error

// Ops collects metrics and readiness checks of one process. Safe for
// concurrent use.
type Ops struct {
	// Registry holds the process's metrics, Go's and the process's own included.
	Registry *prometheus.Registry

	log      *zap.Logger
	draining atomic.Bool
	mu       sync.Mutex
	checks   map[string]Check // guarded by mu
}

// New returns an Ops with no checks.
func New(log *zap.Logger) *Ops {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Ops{Registry: r, log: log, checks: map[string]Check{}}
}

// Ready adds a readiness check. A check of the same name is replaced.
func (o *Ops) Ready(name string, check Check) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checks[name] = check
}

// Drain makes /readyz say no from now on, so that load balancers move away.
func (o *Ops) Drain() { o.draining.Store(true) }

// Mount adds /healthz, /readyz and /metrics to mux.
func (o *Ops) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { o.write(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{Registry: o.Registry}))
}

func (o *Ops) readyz(w http.ResponseWriter, r *http.Request) {
	if o.draining.Load() {
		o.write(w, http.StatusServiceUnavailable, "draining\n")
		return
	}
	results := o.run(r.Context())
	status, names := http.StatusOK, make([]string, 0, len(results))
	for name, err := range results {
		names = append(names, name)
		if err != nil {
			status = http.StatusServiceUnavailable
		}
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		if err := results[name]; err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
		} else {
			fmt.Fprintf(&b, "%s: ok\n", name)
		}
	}
	o.write(w, status, b.String())
}

// run executes all checks side by side; one that outlasts the deadline counts
// as failed even if it ignores its context.
func (o *Ops) run(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	o.mu.Lock()
	type result struct {
		name string
		err  error
	}
	done := make(chan result, len(o.checks))
	results := make(map[string]error, len(o.checks))
	for name, check := range o.checks {
		results[name] = fmt.Errorf("no answer within %s", readyTimeout)
		go func() { done <- result{name, check(ctx)} }()
	}
	n := len(o.checks)
	o.mu.Unlock()
	for range n {
		select {
		case r := <-done:
			results[r.name] = r.err
		case <-ctx.Done():
			return results
		}
	}
	return results
}

func (o *Ops) write(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write([]byte(body)); err != nil {
		o.log.Debug("ops answer not sent", zap.Error(err))
	}
}

// Listen takes addr, with an error that says what to do when it is taken.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w (choose another address with --http-addr)", err)
	}
	return ln, nil
}

// Serve answers on ln until ctx ends, then lets requests in hand finish, for
// drain at most, and returns nil: at once when there are none. It closes ln.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, drain time.Duration, log *zap.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(log),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(draining); err != nil {
		_ = srv.Close() // the drain ran out of time; what is left is cut
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("drain %s: %w", ln.Addr(), err)
		}
		log.Warn("requests cut off at the end of the drain", zap.Duration("took", drain))
	}
	return nil
}
