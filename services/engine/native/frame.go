package native

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/go-faster/city"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A compressed frame: 16 bytes of CityHash over the rest, a method byte, the
// frame's size from the method byte on, the size of the data, the data.
const (
	frameHash   = 16
	frameHeader = 9
	methodNone  = 0x02
	methodLZ4   = 0x82
	methodZSTD  = 0x90
)

// maxFrame is ClickHouse's own limit for both sizes. Clients that compress a
// whole block at once send large ones.
const maxFrame = 1 << 30

// lz4MaxRatio is the most that LZ4 can expand.
const lz4MaxRatio = 255

// growStep is how far a buffer runs ahead of the bytes that arrived.
const growStep = 1 << 20

// FrameReader is a Source of decompressed data over compressed frames.
type FrameReader struct {
	in   *bufio.Reader
	raw  bytes.Buffer // the frame from its method byte on
	data []byte       // decompressed
	pos  int          // of the first unread byte of data
	zstd *zstd.Decoder
}

// NewFrameReader reads frames from in, and not a byte more than asked for.
func NewFrameReader(in *bufio.Reader) *FrameReader { return &FrameReader{in: in} }

// Window returns the rest of the current frame, or the next frame.
func (r *FrameReader) Window() ([]byte, error) {
	for r.pos == len(r.data) {
		if err := r.next(); err != nil {
			return nil, err
		}
	}
	return r.data[r.pos:], nil
}

// Consume takes n bytes of the window as read.
func (r *FrameReader) Consume(n int) { r.pos += n }

// Rest is how many bytes of the current frame are unread. Clients end a block
// with its frame, so it is 0 after a block.
func (r *FrameReader) Rest() int { return len(r.data) - r.pos }

// Shrink gives large buffers back.
func (r *FrameReader) Shrink() {
	if cap(r.data) > growStep {
		r.data, r.pos = nil, 0
	}
	if r.raw.Cap() > growStep {
		r.raw = bytes.Buffer{}
	}
}

// Close ends the decoder's goroutines.
func (r *FrameReader) Close() {
	if r.zstd != nil {
		r.zstd.Close()
	}
}

func (r *FrameReader) next() error {
	var head [frameHash + frameHeader]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return err
	}
	method := head[frameHash]
	packed := uint64(binary.LittleEndian.Uint32(head[frameHash+1:]))
	size := uint64(binary.LittleEndian.Uint32(head[frameHash+5:]))
	if packed < frameHeader || packed > maxFrame || size > maxFrame {
		return fmt.Errorf("compressed frame: sizes %d and %d are out of bounds", packed, size)
	}
	if err := r.readRaw(head[frameHash:], packed); err != nil {
		return err
	}
	if h := city.CH128(r.raw.Bytes()); h.Low != binary.LittleEndian.Uint64(head[:]) || h.High != binary.LittleEndian.Uint64(head[8:]) {
		return errors.New("compressed frame: checksum does not match")
	}
	body := r.raw.Bytes()[frameHeader:]
	r.pos = 0
	var err error
	switch method {
	case methodNone:
		r.data = append(r.data[:0], body...)
	case methodLZ4:
		err = r.unLZ4(body, size)
	case methodZSTD:
		err = r.unZSTD(body, size)
	default:
		err = fmt.Errorf("compression method 0x%02x is not supported: use LZ4, ZSTD or none", method)
	}
	if err == nil && uint64(len(r.data)) != size {
		err = fmt.Errorf("compressed frame: %d bytes of data, %d announced", len(r.data), size)
	}
	if err != nil {
		r.data = r.data[:0]
		return err
	}
	return nil
}

// readRaw reads the frame, growing no faster than bytes arrive.
func (r *FrameReader) readRaw(head []byte, packed uint64) error {
	r.raw.Reset()
	r.raw.Write(head)
	for left := int64(packed) - frameHeader; left > 0; {
		step := min(left, growStep)
		if _, err := io.CopyN(&r.raw, r.in, step); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		left -= step
	}
	return nil
}

func (r *FrameReader) unLZ4(body []byte, size uint64) error {
	if size > uint64(len(body))*lz4MaxRatio {
		return errors.New("compressed frame: more data announced than LZ4 can hold")
	}
	if uint64(cap(r.data)) < size {
		r.data = make([]byte, size)
	}
	r.data = r.data[:size]
	n, err := lz4.UncompressBlock(body, r.data)
	if err != nil {
		return fmt.Errorf("compressed frame: %w", err)
	}
	r.data = r.data[:n]
	return nil
}

func (r *FrameReader) unZSTD(body []byte, size uint64) error {
	if r.zstd == nil {
		var err error
		if r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxFrame)); err != nil {
			return err
		}
	}
	if err := r.zstd.Reset(bytes.NewReader(body)); err != nil {
		return fmt.Errorf("compressed frame: %w", err)
	}
	out := bytes.NewBuffer(r.data[:0])
	_, err := io.Copy(out, io.LimitReader(r.zstd, int64(size)+1)) // one more, to notice a lie
	r.data = out.Bytes()
	if err != nil {
		return fmt.Errorf("compressed frame: %w", err)
	}
	return nil
}

// FrameWriter compresses with LZ4 what is written to it. Flush ends a frame.
type FrameWriter struct {
	out io.Writer
	buf []byte
	lz4 *compress.Writer
}

// frameSize is how much a written frame holds at most, as in ClickHouse.
const frameSize = 1 << 20

// NewFrameWriter writes frames to out.
func NewFrameWriter(out io.Writer) *FrameWriter {
	return &FrameWriter{out: out, lz4: compress.NewWriter(compress.LevelZero, compress.LZ4)}
}

func (w *FrameWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(w.buf) == 0 && len(p) >= frameSize {
			if err := w.frame(p[:frameSize]); err != nil {
				return 0, err
			}
			p = p[frameSize:]
			continue
		}
		step := min(len(p), frameSize-len(w.buf))
		w.buf = append(w.buf, p[:step]...)
		p = p[step:]
		if len(w.buf) == frameSize {
			if err := w.Flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Flush writes what is collected as one frame.
func (w *FrameWriter) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.frame(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *FrameWriter) frame(data []byte) error {
	if err := w.lz4.Compress(data); err != nil {
		return err
	}
	_, err := w.out.Write(w.lz4.Data)
	return err
}
