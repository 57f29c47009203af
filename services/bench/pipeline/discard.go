package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/auditrail/auditrail/services/internal/store"
)

// discardRevision is the protocol's revision that the server speaks: parameters
// are known, later additions are not.
const discardRevision = 54459

// discard is a ClickHouse server that decodes and counts what is inserted, and
// throws it away. To queries it answers as an empty database with the newest
// schema would.
type discard struct {
	ln    net.Listener
	conns sync.WaitGroup

	mu     sync.Mutex
	rows   int
	want   int
	filled chan struct{} // closed when rows reaches want; nil: nobody waits
	failed error         // the first connection that broke
}

func newDiscard(ctx context.Context) (*discard, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &discard{ln: ln}
	d.conns.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			d.conns.Go(func() {
				defer nc.Close() //nolint:errcheck // the client is gone or broken
				if err := newDiscardConn(d, nc).serve(); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					d.fail(err)
				}
			})
		}
	})
	return d, nil
}

func (d *discard) addr() string { return d.ln.Addr().String() }

// close ends the server. Clients must be gone before.
func (d *discard) close() {
	_ = d.ln.Close() // only to wake Accept
	d.conns.Wait()
}

// expect counts anew. The channel is closed when n rows have come, or
// something broke.
func (d *discard) expect(n int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows, d.want, d.filled = 0, n, make(chan struct{})
	return d.filled
}

// count is the rows since expect, and what broke.
func (d *discard) count() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows, d.failed
}

func (d *discard) add(rows int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows += rows; d.rows >= d.want {
		d.wake()
	}
}

func (d *discard) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = err
	}
	d.wake()
}

// wake tells who waits; d.mu is held.
func (d *discard) wake() {
	if d.filled != nil {
		close(d.filled)
		d.filled = nil
	}
}

// discardConn is one connection.
type discardConn struct {
	server *discard
	nc     net.Conn
	in     *proto.Reader
	out    proto.Buffer
	packer *compress.Writer
	rev    int
}

func newDiscardConn(d *discard, nc net.Conn) *discardConn {
	return &discardConn{server: d, nc: nc, in: proto.NewReader(nc), packer: compress.NewWriter(compress.LevelZero, compress.LZ4)}
}

// serve answers until the connection ends or breaks, and returns why.
func (c *discardConn) serve() error {
	if err := c.hello(); err != nil {
		return err
	}
	for {
		p, err := c.in.UVarInt()
		if err != nil {
			return err
		}
		switch proto.ClientCode(p) {
		case proto.ClientCodePing:
			proto.ServerCodePong.Encode(&c.out)
		case proto.ClientCodeQuery:
			if err := c.query(); err != nil {
				return err
			}
		default:
			return errors.New("discard: unexpected packet " + proto.ClientCode(p).String())
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
}

func (c *discardConn) hello() error {
	if _, err := c.in.UVarInt(); err != nil {
		return err
	}
	var hello proto.ClientHello
	if err := hello.Decode(c.in); err != nil {
		return err
	}
	c.rev = min(hello.ProtocolVersion, discardRevision)
	answer := proto.ServerHello{Name: "ClickHouse", Major: 25, Minor: 1, Revision: discardRevision, Timezone: "UTC", DisplayName: "discard", Patch: 1}
	answer.EncodeAware(&c.out, c.rev)
	if err := c.flush(); err != nil {
		return err
	}
	if !proto.FeatureAddendum.In(c.rev) {
		return nil
	}
	_, err := c.in.Str() // the quota key
	return err
}

func (c *discardConn) flush() error {
	_, err := c.nc.Write(c.out.Buf)
	c.out.Reset()
	return err
}

// query answers one query.
func (c *discardConn) query() error {
	var q proto.Query
	if err := q.DecodeAware(c.in, c.rev); err != nil {
		return err
	}
	packed := q.Compression == proto.CompressionEnabled
	if _, err := c.block(packed); err != nil { // the end of external tables
		return err
	}
	if strings.HasPrefix(q.Body, "INSERT") {
		if err := c.insert(packed); err != nil {
			return err
		}
	} else if err := c.send(answerTo(q.Body), packed); err != nil {
		return err
	}
	proto.ServerCodeEndOfStream.Encode(&c.out)
	return nil
}

// insert takes the blocks of an insert. The header it sends first has a column
// that nobody has, so that clients keep the types of their own.
func (c *discardConn) insert(packed bool) error {
	if err := c.send(proto.Input{{Name: "discarded", Data: new(proto.ColUInt8)}}, packed); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	rows := 0
	for {
		b, err := c.block(packed)
		if err != nil {
			return err
		}
		if b.End() {
			break
		}
		rows += b.Rows
	}
	c.server.add(rows)
	return nil
}

// block reads one block of data.
func (c *discardConn) block(packed bool) (proto.Block, error) {
	var (
		b       proto.Block
		data    proto.ClientData
		results proto.Results
	)
	p, err := c.in.UVarInt()
	if err != nil {
		return b, err
	}
	if proto.ClientCode(p) != proto.ClientCodeData {
		return b, errors.New("discard: data expected, not " + proto.ClientCode(p).String())
	}
	if err := data.DecodeAware(c.in, c.rev); err != nil {
		return b, err
	}
	if packed {
		c.in.EnableCompression()
		defer c.in.DisableCompression()
	}
	return b, b.DecodeBlock(c.in, c.rev, results.Auto())
}

// send puts one block of data into the answer.
func (c *discardConn) send(columns proto.Input, packed bool) error {
	b := proto.Block{Columns: len(columns), Info: proto.BlockInfo{BucketNum: -1}}
	if len(columns) > 0 {
		b.Rows = columns[0].Data.Rows()
	}
	proto.ServerCodeData.Encode(&c.out)
	c.out.PutString("")
	var buf proto.Buffer
	if err := b.EncodeBlock(&buf, c.rev, columns); err != nil {
		return err
	}
	if !packed {
		c.out.Buf = append(c.out.Buf, buf.Buf...)
		return nil
	}
	if err := c.packer.Compress(buf.Buf); err != nil {
		return err
	}
	c.out.Buf = append(c.out.Buf, c.packer.Data...)
	return nil
}

// answerTo is what an empty database says. Queries for rows find none.
func answerTo(query string) proto.Input {
	switch {
	case strings.Contains(query, "max(version_id)"):
		return proto.Input{{Name: "version", Data: &proto.ColInt64{store.SchemaVersion}}}
	case strings.Contains(query, "groupArray(name)"):
		return proto.Input{{Name: "names", Data: oneEmpty(new(proto.ColStr).Array())}}
	case strings.Contains(query, "FROM system.mutations"):
		return proto.Input{{Name: "unfinished", Data: &proto.ColUInt64{0}}, {Name: "failing", Data: &proto.ColUInt64{0}}}
	case strings.Contains(query, "now64"):
		return proto.Input{{Name: "now", Data: &proto.ColInt64{time.Now().UnixMilli()}}}
	case strings.Contains(query, "if(count() = 0, -1"):
		return proto.Input{{Name: "last", Data: &proto.ColInt64{-1}}}
	}
	return nil
}

func oneEmpty(c *proto.ColArr[string]) *proto.ColArr[string] {
	c.Append(nil)
	return c
}
