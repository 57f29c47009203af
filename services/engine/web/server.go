//go:build !noengine && (linux || darwin)

// Package web serves ClickHouse's HTTP interface from the embedded engine.
package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine/access"
	"github.com/auditrail/auditrail/services/engine/session"
)

// headerTimeout bounds how long a request's head may take.
const headerTimeout = 10 * time.Second

// Config is what a Server needs.
type Config struct {
	Sessions *session.Manager
	Login    access.Login
	Log      *zap.Logger
	// TempDir is a folder for results that are complete files. It is the
	// server's own: New empties it.
	TempDir string
}

// Server is the HTTP interface.
type Server struct {
	Config
	http *http.Server
	stop context.CancelFunc // cancels the running queries
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	s := &Server{Config: cfg}
	base, stop := context.WithCancel(context.Background())
	s.stop = stop
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", s.ping)
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout,
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
// until ctx is done, and closes what is left.
func (s *Server) Shutdown(ctx context.Context) {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
}

func (s *Server) ping(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("Ok.\n"))
}
