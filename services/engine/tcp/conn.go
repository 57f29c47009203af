//go:build !noengine && (linux || darwin)

package tcp

import (
	"bufio"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/native"
	"github.com/auditrail/auditrail/services/engine/session"
)

// helloTimeout bounds the handshake, so that a port scan holds nothing.
const helloTimeout = 10 * time.Second

// conn is one connection and its session. It is owned by serve's goroutine, but
// for close, inserting, and what watch says.
type conn struct {
	server *Server
	nc     net.Conn
	log    *zap.Logger
	in     reader
	out    writer

	rev     uint64 // the protocol revision that both sides know
	session *session.Session

	frames *native.FrameReader // decompresses blocks; made on first use
	packed *native.FrameWriter // compresses blocks; made on first use

	inserting atomic.Bool // an INSERT runs: Shutdown waits for it
}

// newConn makes a connection without its buffers: it may be refused.
func newConn(s *Server, nc net.Conn) *conn {
	return &conn{
		server: s, nc: nc, log: s.Log.With(zap.Stringer("client", nc.RemoteAddr())),
	}
}

// close makes every read and write fail; the goroutine then ends by itself, and
// watch kills the query.
func (c *conn) close() { _ = c.nc.Close() }

// refuse says why there is no session, and closes.
func (c *conn) refuse() {
	_ = c.nc.SetDeadline(time.Now().Add(time.Second)) // it blocks accepting
	c.out = writer{bufio.NewWriter(c.nc)}
	c.out.exception(chdb.Errorf(chdb.CodeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES", "The embedded engine takes no more connections."))
	_ = c.out.Flush()
	c.close()
}

func (c *conn) serve() {
	defer func() {
		c.close()
		if c.frames != nil {
			c.frames.Close()
		}
		if c.session != nil {
			c.session.Close()
		}
	}()
	c.in.Reader = bufio.NewReaderSize(c.nc, bufferSize)
	c.out = writer{bufio.NewWriterSize(c.nc, bufferSize)}
	err := c.hello()
	for err == nil {
		err = c.packet()
	}
	if errors.Is(err, errDone) {
		return
	}
	if e := protocolError(err); e != nil {
		c.log.Warn("connection ended by a protocol error", zap.Error(e))
		c.out.exception(e)
		_ = c.out.Flush()
	}
}

// errDone ends a connection without a word.
var errDone = errors.New("done")

// packet handles one packet between queries.
func (c *conn) packet() error {
	if c.server.isDraining() {
		return errDone
	}
	p := c.in.uvarint()
	if c.in.err != nil {
		return c.in.err
	}
	switch p {
	case clientPing:
		c.out.uvarint(serverPong)
		return c.out.Flush()
	case clientQuery:
		return c.query()
	case clientCancel:
		return nil // came too late, or was seen by watch
	}
	return unexpected(p, "between queries")
}

func (c *conn) framing() native.Framing {
	return native.Framing{CustomByte: c.rev >= revCustomByte}
}

func isNetError(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, net.ErrClosed)
}
