//go:build !noengine && (linux || darwin)

// Package web serves ClickHouse's HTTP interface from the embedded engine, as
// far as reading and simple writing go: queries in any output format, inserts in
// any input format, parameters, settings. Not: sessions, compression.
package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine/access"
	"github.com/auditrail/auditrail/services/engine/session"
)

// headerTimeout bounds how long a request's head may take.
const headerTimeout = 10 * time.Second

// killTimeout bounds the wait for killed queries after the connections are closed.
const killTimeout = 3 * time.Second

// Config is what a Server needs.
type Config struct {
	Sessions *session.Manager
	Login    access.Login
	Log      *zap.Logger
	// TempDir is a folder for results that are complete files, absolute. It is
	// the server's own: New empties it.
	TempDir string
}

// Server is the HTTP interface.
type Server struct {
	Config
	http  *http.Server
	stop  context.CancelFunc // cancels the running queries
	files atomic.Uint64      // number of the last file in TempDir

	mu       sync.Mutex
	stopped  bool           // no more requests; guarded by mu
	requests sync.WaitGroup // one for each request with a session; Add under mu
}

// New makes a Server and removes what a crash left in its folder.
func New(cfg Config) (*Server, error) {
	if err := os.RemoveAll(cfg.TempDir); err != nil {
		return nil, fmt.Errorf("temporary results: %w", err)
	}
	if err := os.MkdirAll(cfg.TempDir, 0o700); err != nil {
		return nil, fmt.Errorf("temporary results: %w", err)
	}
	s := &Server{Config: cfg}
	base, stop := context.WithCancel(context.Background())
	s.stop = stop
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", s.ping)
	mux.HandleFunc("/{$}", s.root)
	s.http = &http.Server{
		Handler: local(mux), ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    zap.NewStdLog(cfg.Log),
	}
	return s, nil
}

// Serve accepts on ln until Shutdown, and then returns nil.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting, kills running queries, waits for running inserts
// until ctx is done, and closes what is left. It returns false when a query
// would not die: then its session is still in use.
func (s *Server) Shutdown(ctx context.Context) bool {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // breaks the bodies that inserts wait for
	}
	s.mu.Lock()
	s.stopped = true // a handler that starts now would not be waited for
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(killTimeout):
		return false
	}
}

// begin counts a request in, unless Shutdown waits already.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.requests.Add(1)
	}
	return !s.stopped
}

// ping answers without the engine.
func (s *Server) ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	_, _ = w.Write([]byte("Ok.\n"))
}

// local refuses what a web page could send: what a page's script or form sends
// (Origin), what an image or a link of a page fetches (Sec-Fetch-Site), and names
// that were made to resolve to this machine. The engine has no other guard
// against a browser. What a user types into the address bar passes.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip := net.ParseIP(host)
		site := r.Header.Get("Sec-Fetch-Site")
		if r.Header.Get("Origin") != "" || (site != "" && site != "none") || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
			http.Error(w, "The embedded engine does not serve web pages: no Origin header, no Sec-Fetch-Site but none, and a loopback Host.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
