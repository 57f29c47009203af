//go:build !noengine && (linux || darwin)

package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
)

// brokenListener errs a few times, gives one connection, and ends.
type brokenListener struct {
	errs []error
	conn net.Conn
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return nil, io.ErrClosedPipe
}

func (l *brokenListener) Close() error   { return nil }
func (l *brokenListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestServeOutlivesAFailedAccept: no descriptors left is a matter of the moment.
func TestServeOutlivesAFailedAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := net.Pipe()
		ln := &brokenListener{conn: theirs}
		for range 20 {
			ln.errs = append(ln.errs, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)})
		}
		s := &Server{Log: zap.NewNop()}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		go func() { _, _ = mine.Write([]byte{77}) }() // not a hello
		if b, err := io.ReadAll(mine); err != nil || len(b) == 0 || b[0] != serverException {
			t.Errorf("got %q, %v, want an exception", b, err)
		}
		if err := <-served; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Serve: %v, want the listener's last error", err)
		}
		s.wg.Wait()
	})
}

// TestRefusedConnectionsAreSmall: the limit bounds memory, so buffers come after it.
func TestRefusedConnectionsAreSmall(t *testing.T) {
	mine, theirs := net.Pipe()
	s := &Server{Log: zap.NewNop(), draining: true}
	c := newConn(s, theirs)
	go c.refuse()
	if b, err := io.ReadAll(mine); err != nil || len(b) == 0 || b[0] != serverException {
		t.Errorf("got %q, %v, want an exception", b, err)
	}
	if c.in.Reader != nil || c.out.Size() >= bufferSize {
		t.Error("a refused connection has the buffers of a served one")
	}
}
