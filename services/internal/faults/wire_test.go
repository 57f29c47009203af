package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync/atomic"
)

// kafkaWire carries Kafka's protocol: a unit is a request or an answer with the
// four bytes of its length before it.
type kafkaWire struct{}

const (
	maxFrame = 64 << 20
	// frameHeader is length, API key, API version and correlation id.
	frameHeader = 12

	produceKey, commitKey = 0, 8
)

var errFrame = errors.New("not a frame of Kafka's protocol")

func (kafkaWire) read(r *bufio.Reader, buf []byte) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n < 4 || n > maxFrame {
		return nil, errFrame
	}
	buf = slices.Grow(buf[:0], n+4)[:n+4]
	_, err = io.ReadFull(r, buf)
	return buf, err
}

func (kafkaWire) write(unit []byte) string {
	if len(unit) < frameHeader {
		return ""
	}
	switch binary.BigEndian.Uint16(unit[4:]) {
	case produceKey:
		return "produce"
	case commitKey:
		return "commit"
	}
	return ""
}

func (kafkaWire) answer(unit []byte, _ *atomic.Int64) func([]byte) (withhold, done bool) {
	correlation := slices.Clone(unit[8:12])
	return func(unit []byte) (withhold, done bool) {
		mine := bytes.Equal(unit[4:8], correlation)
		return mine, mine
	}
}

func (kafkaWire) starve(unit []byte) []byte { return unit }

// engineWire carries ClickHouse's native protocol: a unit is what arrived
// together. A client writes a query as a whole and waits for the header of the
// table before it sends the rows.
type engineWire struct{}

func (engineWire) read(r *bufio.Reader, buf []byte) ([]byte, error) { return readSome(r, buf) }

var (
	insertText = []byte("INSERT INTO audit_events")
	// tokenSetting is how the name of a setting that every insert has is sent.
	tokenSetting = []byte("\x1ainsert_deduplication_token")
	// noMemory are two settings, as name, flag (important) and value: the
	// query may have a byte, and every byte is counted.
	noMemory = []byte("\x10max_memory_usage\x01\x011" + "\x14max_untracked_memory\x01\x011")
)

func (engineWire) write(unit []byte) string {
	if bytes.Contains(unit, insertText) {
		return "insert"
	}
	return ""
}

// Packets of the server.
const (
	packetException   = 2
	packetEndOfStream = 5
)

func (engineWire) answer(_ []byte, sent *atomic.Int64) func([]byte) (withhold, done bool) {
	query := sent.Load()
	return func(unit []byte) (withhold, done bool) {
		if sent.Load() == query {
			return false, false // the header of the table
		}
		return true, unit[0] == packetException || unit[len(unit)-1] == packetEndOfStream
	}
}

func (engineWire) starve(unit []byte) []byte {
	return bytes.Replace(unit, tokenSetting, slices.Concat(noMemory, tokenSetting), 1)
}
