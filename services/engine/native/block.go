// Package native re-frames blocks of ClickHouse's Native format between the two
// forms it has here: plain, as the engine library reads and writes it (protocol
// revision 0), and framed, as the TCP protocol carries it (block info in front,
// a custom-serialization byte a column).
//
// Values are never decoded. A block is walked only as far as it takes to find
// where its columns end, window by window: memory does not grow with the block.
package native

import (
	"errors"
	"fmt"
	"io"
)

// Limits of what is believed; each is far above anything real.
const (
	maxColumns     = 10_000
	maxRows        = 1 << 32
	maxName        = 1 << 20 // an Enum's type name holds all of its values
	maxString      = 1 << 32
	maxColumnBytes = 1 << 40
)

// blockInfo is the info of a block that is neither overflow nor bucket.
var blockInfo = []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0}

// Size is what a block holds.
type Size struct {
	Columns, Rows uint64
}

// Framing says what the framed form carries; it depends on the revision that
// client and server agreed on.
type Framing struct {
	// CustomByte is true from protocol revision 54454 on.
	CustomByte bool
}

// Frame copies the next plain block of in to out, framed. It leaves in right
// after the block.
func Frame(out io.Writer, in Source, f Framing) (Size, error) {
	s := &scanner{in: in, out: out}
	if err := s.insert(blockInfo...); err != nil {
		return Size{}, err
	}
	return s.columns(func() error {
		if !f.CustomByte {
			return nil
		}
		return s.insert(0)
	})
}

// Unframe copies the next framed block of in to out, plain. It leaves in right
// after the block.
func Unframe(out io.Writer, in Source, f Framing) (Size, error) {
	s := &scanner{in: in, out: out}
	if err := s.leaveOut(s.blockInfo); err != nil {
		return Size{}, err
	}
	return s.columns(func() error {
		if !f.CustomByte {
			return nil
		}
		return s.leaveOut(s.customByte)
	})
}

func (s *scanner) customByte() error {
	custom, err := s.byte()
	if err == nil && custom != 0 {
		err = errors.New("native block: sparse and other custom serializations are not supported")
	}
	return err
}

func (s *scanner) blockInfo() error {
	for {
		field, err := s.uvarint()
		if err != nil {
			return err
		}
		switch field {
		case 0:
			return nil
		case 1: // is_overflows
			err = s.skip(1)
		case 2: // bucket_num
			err = s.skip(4)
		default:
			err = fmt.Errorf("native block: unknown info field %d", field)
		}
		if err != nil {
			return err
		}
	}
}

// columns copies a block from its counts on; afterType is called where the
// framed form has its byte.
func (s *scanner) columns(afterType func() error) (Size, error) {
	var size Size
	var err error
	if size.Columns, err = s.uvarint(); err != nil {
		return size, err
	}
	if size.Rows, err = s.uvarint(); err != nil {
		return size, err
	}
	if size.Columns > maxColumns {
		return size, fmt.Errorf("native block: %d columns, %d at most", size.Columns, maxColumns)
	}
	if size.Rows > maxRows {
		return size, fmt.Errorf("native block: %d rows, %d at most", size.Rows, uint64(maxRows))
	}
	for range size.Columns {
		if err := s.column(size.Rows, afterType); err != nil {
			return size, err
		}
	}
	return size, s.release()
}

func (s *scanner) column(rows uint64, afterType func() error) error {
	name, err := s.name()
	if err != nil {
		return err
	}
	typeName, err := s.name()
	if err != nil {
		return err
	}
	if err := afterType(); err != nil {
		return err
	}
	if rows == 0 {
		return nil
	}
	t, err := parseType(typeName)
	if err != nil {
		return fmt.Errorf("column %s: %w", name, err)
	}
	if err := t.skipPrefix(s); err != nil {
		return fmt.Errorf("column %s %s: %w", name, typeName, err)
	}
	if err := t.skipValues(s, rows); err != nil {
		return fmt.Errorf("column %s %s: %w", name, typeName, err)
	}
	return nil
}

// Column is a name and a type.
type Column struct{ Name, Type string }

// AppendHeader appends a framed block of these columns without rows.
func AppendHeader(b []byte, columns []Column, f Framing) []byte {
	b = append(b, blockInfo...)
	b = appendUvarint(b, uint64(len(columns)))
	b = append(b, 0)
	for _, c := range columns {
		b = appendString(b, c.Name)
		b = appendString(b, c.Type)
		if f.CustomByte {
			b = append(b, 0)
		}
	}
	return b
}
