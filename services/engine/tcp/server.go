//go:build !noengine && (linux || darwin)

// Package tcp serves ClickHouse's native protocol from the embedded engine, as
// far as clickhouse-go and ch-go use it: queries, inserts, parameters, settings,
// cancellation, compression. Not: external tables, Distributed, TLS.
package tcp

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine/access"
	"github.com/auditrail/auditrail/services/engine/session"
)

// maxConnections bounds the engine's sessions; a connection costs a session and
// two buffers.
const maxConnections = 1024

// Server accepts connections. Its fields are set before Serve.
type Server struct {
	Sessions *session.Manager
	Login    access.Login
	Log      *zap.Logger

	mu       sync.Mutex
	conns    map[*conn]struct{} // guarded by mu
	draining bool               // guarded by mu
	started  chan struct{}      // closed when draining begins; guarded by mu
	wg       sync.WaitGroup     // one for each conn
}

// Serve accepts on ln until it is closed, by Shutdown or from outside. It
// returns nil after Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	var wait time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if s.isDraining() && errors.Is(err, net.ErrClosed) {
				return nil
			}
			if !passing(err) {
				return err
			}
			wait = min(max(2*wait, acceptWait), acceptWaitMax)
			s.Log.Warn("accept", zap.Error(err), zap.Duration("again_in", wait))
			select {
			case <-time.After(wait):
			case <-s.drain(): // the listener is closed next
			}
			continue
		}
		wait = 0
		c := newConn(s, nc)
		if !s.add(c) {
			c.refuse()
			continue
		}
		go func() {
			defer s.remove(c)
			c.serve()
		}()
	}
}

// acceptWait is the wait after an Accept that did not work, doubled each time up
// to acceptWaitMax; as net/http does.
const (
	acceptWait    = 5 * time.Millisecond
	acceptWaitMax = time.Second
)

// passing says whether an error of Accept is one of the moment: no file
// descriptors or memory left, or a client that gave up while it waited.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// StartDrain makes Serve end without an error once its listener is closed, and
// every connection end after its query. Shutdown comes next.
func (s *Server) StartDrain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		close(s.drained())
	}
}

// drain is closed by StartDrain.
func (s *Server) drain() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drained()
}

// drained makes the channel on first use, under mu.
func (s *Server) drained() chan struct{} {
	if s.started == nil {
		s.started = make(chan struct{})
	}
	return s.started
}

// killTimeout bounds the wait for killed queries. The engine looks for a kill
// between blocks, which takes milliseconds but for rare functions.
const killTimeout = 3 * time.Second

// Shutdown closes idle connections and those with a running query, waits until
// running inserts are done or ctx is, and closes the rest. StartDrain and the
// listener's Close come before. It returns false when a query would not die:
// then its session is still in use.
func (s *Server) Shutdown(ctx context.Context) bool {
	s.mu.Lock()
	for c := range s.conns {
		if !c.inserting.Load() {
			c.close()
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.close()
	}
	s.mu.Unlock()
	select {
	case <-done:
		return true
	case <-time.After(killTimeout):
		return false
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || len(s.conns) >= maxConnections {
		return false
	}
	if s.conns == nil {
		s.conns = map[*conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.wg.Done()
}
