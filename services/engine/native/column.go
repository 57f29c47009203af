package native

import "errors"

var errJSON = errors.New("native block: JSON travels as strings only")

// Flags and widths of a LowCardinality column.
const (
	dictHasKeys   = 0x200
	dictIndexMask = 0xff // 0..3: indexes of 1, 2, 4, 8 bytes
)

// skipPrefix passes what stands before a column's values, once a block.
func (t *dataType) skipPrefix(s *scanner) error {
	switch t.shape {
	case shapeDict:
		return s.skip(8) // version of the keys' serialization
	case shapeJSON:
		version, err := s.uint64()
		if err == nil && version != 1 {
			return errJSON
		}
		return err
	case shapeFixed, shapeString, shapeNullable, shapeArray, shapeTuple:
		// nothing of their own
	}
	for _, e := range t.elems {
		if err := e.skipPrefix(s); err != nil {
			return err
		}
	}
	return nil
}

// skipValues passes count values.
func (t *dataType) skipValues(s *scanner, count uint64) error {
	if count == 0 {
		return nil
	}
	switch t.shape {
	case shapeFixed:
		return s.skipMany(count, uint64(t.width))
	case shapeString, shapeJSON:
		return s.skipStrings(count)
	case shapeNullable:
		if err := s.skipMany(count, 1); err != nil {
			return err
		}
		return t.elems[0].skipValues(s, count)
	case shapeTuple:
		for _, e := range t.elems {
			if err := e.skipValues(s, count); err != nil {
				return err
			}
		}
		return nil
	case shapeArray:
		if err := s.skipMany(count-1, 8); err != nil {
			return err
		}
		total, err := s.uint64() // the last offset is the number of elements
		if err != nil {
			return err
		}
		if total > maxRows {
			return errLength
		}
		return t.elems[0].skipValues(s, total)
	case shapeDict:
		return t.skipDict(s)
	}
	return errLength
}

func (t *dataType) skipDict(s *scanner) error {
	flags, err := s.uint64()
	if err != nil {
		return err
	}
	width := flags & dictIndexMask
	if width > 3 {
		return errLength
	}
	if flags&dictHasKeys != 0 {
		keys, err := s.uint64()
		if err != nil {
			return err
		}
		if keys > maxRows {
			return errLength
		}
		if err := t.elems[0].skipValues(s, keys); err != nil {
			return err
		}
	}
	rows, err := s.uint64()
	if err != nil {
		return err
	}
	return s.skipMany(rows, 1<<width)
}
