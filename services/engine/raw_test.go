package engine_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

// rawConn speaks the protocol by hand, for what the clients never do.
type rawConn struct {
	t  *testing.T
	nc net.Conn
	r  *proto.Reader
}

const rawVersion = 54460

func dialRaw(t *testing.T, e *testenv.Engine) *rawConn {
	t.Helper()
	nc, err := net.DialTimeout("tcp", e.Addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	c := &rawConn{t: t, nc: nc, r: proto.NewReader(bufio.NewReader(nc))}
	var b proto.Buffer
	proto.ClientHello{Name: "raw", ProtocolVersion: rawVersion, User: e.User, Password: e.Password, Database: e.Database}.Encode(&b)
	c.send(b.Buf)
	if p, err := c.r.UVarInt(); err != nil || p != uint64(proto.ServerCodeHello) {
		t.Fatalf("hello: packet %d, %v", p, err)
	}
	var hello proto.ServerHello
	if err := hello.DecodeAware(c.r, rawVersion); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.PutString("") // quota key
	c.send(b.Buf)
	return c
}

func (c *rawConn) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawConn) query(text string) {
	c.t.Helper()
	var b proto.Buffer
	proto.Query{Body: text, Stage: proto.StageComplete, Info: proto.ClientInfo{
		ProtocolVersion: rawVersion, Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial,
	}}.EncodeAware(&b, rawVersion)
	c.send(append(b.Buf, emptyData...))
}

// emptyData is a Data packet with a block of no columns.
var emptyData = []byte{2, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0}

func (c *rawConn) cancel() {
	c.t.Helper()
	c.send([]byte{byte(proto.ClientCodeCancel)})
}

// untilEnd reads until the end of the stream, or returns the exception.
func (c *rawConn) untilEnd() error {
	for {
		p, err := c.r.UVarInt()
		if err != nil {
			return err
		}
		switch proto.ServerCode(p) {
		case proto.ServerCodeEndOfStream:
			return nil
		case proto.ServerCodeException:
			var e proto.Exception
			if err := e.DecodeAware(c.r, rawVersion); err != nil {
				return err
			}
			return fmt.Errorf("%w: %s", e.Code, e.Message)
		case proto.ServerCodeProgress:
			var p proto.Progress
			err = p.DecodeAware(c.r, rawVersion)
		case proto.ServerCodeProfile:
			var p proto.Profile
			err = p.DecodeAware(c.r, rawVersion)
		case proto.ServerCodeData, proto.ServerProfileEvents:
			if _, err := c.r.Str(); err != nil {
				return err
			}
			var block proto.Block
			var result proto.Results
			err = block.DecodeBlock(c.r, rawVersion, result.Auto())
		default:
			return fmt.Errorf("packet %d", p)
		}
		if err != nil {
			return err
		}
	}
}

// block reads one packet with a block and wants it to be of this kind.
func (c *rawConn) block(want proto.ServerCode) {
	c.t.Helper()
	p, err := c.r.UVarInt()
	if err == nil && proto.ServerCode(p) == proto.ServerCodeException {
		var e proto.Exception
		err = e.DecodeAware(c.r, rawVersion)
		c.t.Errorf("%s", e.Message)
	}
	if err != nil || proto.ServerCode(p) != want {
		c.t.Fatalf("packet %d, %v, want %d", p, err, want)
	}
	if _, err := c.r.Str(); err != nil {
		c.t.Fatal(err)
	}
	var block proto.Block
	var result proto.Results
	if err := block.DecodeBlock(c.r, rawVersion, result.Auto()); err != nil {
		c.t.Fatal(err)
	}
}

// TestInsertBlocksAreAnswered: clients such as Python's clickhouse-driver wait
// for a ProfileEvents packet after each block, the empty one included, before
// they send the next.
func TestInsertBlocksAreAnswered(t *testing.T) {
	t.Parallel()
	c := dialRaw(t, testenv.ClickHouse(t))
	c.query("INSERT INTO FUNCTION null('a UInt8') VALUES")
	c.block(proto.ServerCodeData)
	for range 3 {
		c.send([]byte{2, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 1, 1, 1, 'a', 5, 'U', 'I', 'n', 't', '8', 0, 7})
		c.block(proto.ServerProfileEvents)
	}
	c.send(emptyData)
	c.block(proto.ServerProfileEvents)
	if err := c.untilEnd(); err != nil {
		t.Fatal(err)
	}
}

// TestExtraRowsAreRefused: totals and extremes would be missing without a word.
func TestExtraRowsAreRefused(t *testing.T) {
	t.Parallel()
	conn := open(t)
	for _, query := range []string{
		"SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k WITH TOTALS",
		"SELECT * FROM (SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k with totals)",
		"SELECT 1 SETTINGS extremes = 1",
		"SET extremes = 1",
		"SET max_threads = 2, extremes = true",
	} {
		if err := conn.Exec(t.Context(), query); code(err) != 48 || !strings.Contains(err.Error(), "is not supported by the embedded engine") {
			t.Errorf("%s: %v, want code 48", query, err)
		}
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"extremes": 1}))
	if err := conn.Exec(ctx, "SELECT 1"); code(err) != 48 {
		t.Errorf("setting: %v, want code 48", err)
	}
	for _, query := range []string{"SELECT 1 SETTINGS extremes = 0", "SELECT 1 AS extremes, 2 AS totals WHERE extremes != 2", "SET extremes = 0"} {
		if err := conn.Exec(t.Context(), query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestQueryEntriesAreBounded: what is too much is refused, not cut off.
func TestQueryEntriesAreBounded(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	head := func() *proto.Buffer {
		var b proto.Buffer
		b.PutUVarInt(uint64(proto.ClientCodeQuery))
		b.PutString("") // query id
		b.PutByte(0)    // no client info
		return &b
	}
	many := head()
	for range 100_001 {
		many.PutString("x")
		many.PutUVarInt(0)
		many.PutString("")
	}
	large := head()
	value := strings.Repeat("x", 100<<20)
	for range 2 {
		large.PutString("x")
		large.PutUVarInt(0)
		large.PutString(value)
	}
	for name, b := range map[string][]byte{"entries": many.Buf, "bytes": large.Buf} {
		c := dialRaw(t, e)
		go func() { _, _ = c.nc.Write(b) }() // the server stops reading
		if err := c.untilEnd(); err == nil || !strings.Contains(err.Error(), "TOO_LARGE") {
			t.Errorf("%s: %v, want TOO_LARGE", name, err)
		}
	}
}

// TestHostileBytes: whatever arrives, the server answers with an exception or
// closes, and goes on serving others.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t)
	huge := binary.AppendUvarint(nil, 1<<62)
	cases := map[string]func(c *rawConn){
		"unknown packet":     func(c *rawConn) { c.send([]byte{77}) },
		"endless number":     func(c *rawConn) { c.send([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) },
		"huge query id":      func(c *rawConn) { c.send(append([]byte{1}, huge...)) },
		"data without query": func(c *rawConn) { c.send(emptyData) },
		"huge block": func(c *rawConn) {
			c.query("INSERT INTO FUNCTION null('a String') VALUES")
			c.send(append([]byte{2, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 1}, huge...))
		},
		"huge string": func(c *rawConn) {
			c.query("INSERT INTO FUNCTION null('a String') VALUES")
			b := []byte{2, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 1, 1, 1, 'a', 6}
			c.send(append(append(append(b, "String"...), 0), huge...))
		},
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, e)
			f(c)
			if _, err := io.Copy(io.Discard, c.nc); err != nil {
				t.Errorf("%v, want an answer and the end", err)
			}
		})
	}
}
