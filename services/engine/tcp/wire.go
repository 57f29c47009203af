//go:build !noengine && (linux || darwin)

package tcp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/native"
)

// Packets of the client.
const (
	clientHello  = 0
	clientQuery  = 1
	clientData   = 2
	clientCancel = 3
	clientPing   = 4
)

// Packets of the server.
const (
	serverHello       = 0
	serverData        = 1
	serverException   = 2
	serverProgress    = 3
	serverPong        = 4
	serverEndOfStream = 5
	serverProfileInfo = 6

	serverProfileEvents = 14
)

// Protocol revisions from which on a field is there.
const (
	revTimezone      = 54058
	revQuotaKey      = 54060
	revDisplayName   = 54372
	revVersionPatch  = 54401
	revWriteInfo     = 54420
	revStringSetting = 54429
	revSecret        = 54441
	revTelemetry     = 54442
	revDepth         = 54448
	revStartTime     = 54449
	revReplicas      = 54453
	revCustomByte    = 54454
	revInsertEvents  = 54456
	revAddendum      = 54458
	revParameters    = 54459
	revQueryTime     = 54460
)

// revision is the newest that clickhouse-go and ch-go speak. Parameters need 54459.
const revision = revQueryTime

// Limits of what a client sends.
const (
	maxShortText = 1 << 20   // names, settings, addresses
	maxQueryText = 128 << 20 // a query with a long IN list or inline rows, a parameter's value
	maxEntries   = 100_000   // settings or parameters of a query
	maxQuery     = 192 << 20 // a query's text, settings and parameters together
)

// bufferSize is that of each direction of a connection.
const bufferSize = 256 << 10

// reader reads the client's fields. The first error sticks, so that a packet is
// checked once, at its end.
type reader struct {
	*bufio.Reader
	err error
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	var v uint64
	v, r.err = binary.ReadUvarint(r.Reader)
	return v
}

func (r *reader) byte() byte {
	if r.err != nil {
		return 0
	}
	var b byte
	b, r.err = r.ReadByte()
	return b
}

func (r *reader) skip(n int) {
	if r.err == nil {
		_, r.err = r.Discard(n)
	}
}

// text reads a string of at most limit bytes, with memory growing as it arrives.
func (r *reader) text(limit uint64) string {
	n := r.uvarint()
	if r.err != nil {
		return ""
	}
	if n > limit {
		r.err = chdb.Errorf(chdb.CodeTooLarge, "TOO_LARGE_STRING_SIZE", "A string of %d bytes, %d at most.", n, limit)
		return ""
	}
	if n <= uint64(r.Buffered()) {
		b, _ := r.Peek(int(n))
		s := string(b)
		_, _ = r.Discard(int(n))
		return s
	}
	var b bytes.Buffer
	if _, r.err = io.CopyN(&b, r.Reader, int64(n)); errors.Is(r.err, io.EOF) {
		r.err = io.ErrUnexpectedEOF
	}
	return b.String()
}

func (r *reader) short() string { return r.text(maxShortText) }

// writer writes the server's fields. Errors stick in bufio and show at Flush.
type writer struct {
	*bufio.Writer
}

func (w writer) uvarint(v uint64) {
	var b [binary.MaxVarintLen64]byte
	_, _ = w.Write(b[:binary.PutUvarint(b[:], v)])
}

func (w writer) text(s string) {
	w.uvarint(uint64(len(s)))
	_, _ = w.WriteString(s)
}

func (w writer) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	_ = w.WriteByte(b)
}

// profileEvents writes a block of no events, never compressed.
func (w writer) profileEvents(f native.Framing) {
	w.uvarint(serverProfileEvents)
	w.text("")
	_, _ = w.Write(native.AppendHeader(nil, eventColumns, f))
}

// eventColumns are those of a server of revision.
var eventColumns = []native.Column{
	{Name: "host_name", Type: "String"}, {Name: "current_time", Type: "DateTime"}, {Name: "thread_id", Type: "UInt64"},
	{Name: "type", Type: "Enum8('increment' = 1, 'gauge' = 2)"}, {Name: "name", Type: "String"}, {Name: "value", Type: "Int64"},
}

// exception writes err, as ClickHouse's own servers word it.
func (w writer) exception(err error) {
	var e *chdb.Error
	if !errors.As(err, &e) {
		e = &chdb.Error{Code: chdb.CodeStdException, Message: err.Error()}
	}
	w.uvarint(serverException)
	_, _ = w.Write(binary.LittleEndian.AppendUint32(nil, uint32(e.Code)))
	w.text("DB::Exception")
	w.text("DB::Exception: " + e.Message)
	w.text("") // stack trace
	w.bool(false)
}

// progress writes what was read and written since the last one.
func (w writer) progress(rev uint64, readRows, readBytes, wroteRows, wroteBytes uint64) {
	w.uvarint(serverProgress)
	w.uvarint(readRows)
	w.uvarint(readBytes)
	w.uvarint(0) // rows to read in all: not known
	if rev >= revWriteInfo {
		w.uvarint(wroteRows)
		w.uvarint(wroteBytes)
	}
	if rev >= revQueryTime {
		w.uvarint(0)
	}
}

// profile writes the size of the result.
func (w writer) profile(rows, blocks, bytes uint64) {
	w.uvarint(serverProfileInfo)
	w.uvarint(rows)
	w.uvarint(blocks)
	w.uvarint(bytes)
	w.bool(false) // applied limit
	w.uvarint(0)  // rows before limit
	w.bool(false) // calculated rows before limit
}

func unexpected(packet uint64, where string) error {
	return chdb.Errorf(chdb.CodeUnexpectedPacket, "UNEXPECTED_PACKET_FROM_CLIENT", "Unexpected packet %d %s.", packet, where)
}

// protocolError makes an exception of an error in what the client sent, or nil
// when the connection itself failed.
func protocolError(err error) error {
	var e *chdb.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isNetError(err) {
		return nil
	}
	return chdb.Errorf(chdb.CodeIncorrectData, "INCORRECT_DATA", "%s.", fmt.Sprint(err))
}
