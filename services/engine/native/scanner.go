package native

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

var (
	errVarint = errors.New("native block: a number is longer than 64 bits")
	errLength = errors.New("native block: a length is out of bounds")
)

// Source hands out bytes where they lie, so that nothing is read past the end of
// a block and nothing is copied on the way.
type Source interface {
	// Window returns at least one unread byte, or an error. Valid until Consume.
	Window() ([]byte, error)
	// Consume takes n bytes of the window as read.
	Consume(n int)
}

// Bytes is a Source over memory.
type Bytes []byte

// Window is all that is left.
func (b *Bytes) Window() ([]byte, error) {
	if len(*b) == 0 {
		return nil, io.EOF
	}
	return *b, nil
}

// Consume takes n bytes off.
func (b *Bytes) Consume(n int) { *b = (*b)[n:] }

// Buffered is a Source over a bufio.Reader.
type Buffered struct{ *bufio.Reader }

// Window is what is in the buffer; it reads when there is nothing.
func (b Buffered) Window() ([]byte, error) {
	if b.Buffered() == 0 {
		if _, err := b.Peek(1); err != nil {
			return nil, err
		}
	}
	return b.Peek(b.Buffered())
}

// Consume takes n bytes off the buffer.
func (b Buffered) Consume(n int) { _, _ = b.Discard(n) } // n is within the window

// scanner moves bytes from in to out and lets the caller look at some of them.
// It holds one window at a time, so memory never depends on a length that was read.
type scanner struct {
	in  Source
	out io.Writer
	buf []byte // the window: buf[:mark] is written, buf[mark:pos] read and not yet written
	// 0 <= mark <= pos <= len(buf)
	mark, pos int
}

// fill gets the next window when all of this one is read.
func (s *scanner) fill() error {
	if err := s.release(); err != nil {
		return err
	}
	var err error
	if s.buf, err = s.in.Window(); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// release writes what was read and gives the window back.
func (s *scanner) release() error {
	err := s.flush()
	s.in.Consume(s.pos)
	s.buf, s.mark, s.pos = nil, 0, 0
	return err
}

// flush writes what was read to out.
func (s *scanner) flush() error {
	if s.mark == s.pos {
		return nil
	}
	_, err := s.out.Write(s.buf[s.mark:s.pos])
	s.mark = s.pos
	return err
}

// leaveOut keeps what read reads from the output, also when it lies across windows.
func (s *scanner) leaveOut(read func() error) error {
	if err := s.flush(); err != nil {
		return err
	}
	out := s.out
	s.out = io.Discard
	err := read()
	s.mark = s.pos
	s.out = out
	return err
}

// insert writes b at this place of the output.
func (s *scanner) insert(b ...byte) error {
	if err := s.flush(); err != nil {
		return err
	}
	_, err := s.out.Write(b)
	return err
}

func (s *scanner) skip(n uint64) error {
	for n > 0 {
		if s.pos == len(s.buf) {
			if err := s.fill(); err != nil {
				return err
			}
		}
		step := min(n, uint64(len(s.buf)-s.pos))
		s.pos += int(step)
		n -= step
	}
	return nil
}

// skipMany skips count values of width bytes each.
func (s *scanner) skipMany(count, width uint64) error {
	if width != 0 && count > maxColumnBytes/width {
		return errLength
	}
	return s.skip(count * width)
}

func (s *scanner) byte() (byte, error) {
	if s.pos == len(s.buf) {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	b := s.buf[s.pos]
	s.pos++
	return b, nil
}

func (s *scanner) uvarint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := s.byte()
		if err != nil {
			return 0, err
		}
		if shift == 63 && b > 1 {
			return 0, errVarint
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errVarint
}

func (s *scanner) uint64() (uint64, error) {
	if len(s.buf)-s.pos >= 8 {
		v := binary.LittleEndian.Uint64(s.buf[s.pos:])
		s.pos += 8
		return v, nil
	}
	var v uint64
	for i := range 8 {
		b, err := s.byte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b) << (8 * i)
	}
	return v, nil
}

// name reads a column or type name.
func (s *scanner) name() (string, error) {
	n, err := s.uvarint()
	if err != nil {
		return "", err
	}
	if n > maxName {
		return "", fmt.Errorf("native block: a name of %d bytes, %d at most", n, maxName)
	}
	if uint64(len(s.buf)-s.pos) >= n {
		v := string(s.buf[s.pos : s.pos+int(n)])
		s.pos += int(n)
		return v, nil
	}
	b := make([]byte, 0, min(n, 256))
	for range n {
		c, err := s.byte()
		if err != nil {
			return "", err
		}
		b = append(b, c)
	}
	return string(b), nil
}

// skipStrings skips count strings: length and bytes each.
func (s *scanner) skipStrings(count uint64) error {
	for ; count > 0; count-- {
		// Nearly always the whole string is in the buffer and shorter than 128 bytes.
		if s.pos < len(s.buf) {
			if n := int(s.buf[s.pos]); n < 0x80 && n < len(s.buf)-s.pos {
				s.pos += n + 1
				continue
			}
		}
		n, err := s.uvarint()
		if err != nil {
			return err
		}
		if n > maxString {
			return errLength
		}
		if err := s.skip(n); err != nil {
			return err
		}
	}
	return nil
}

func appendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
