package native

import "io"

// ReadRowBinaryHeader reads the columns at the start of RowBinaryWithNamesAndTypes.
func ReadRowBinaryHeader(b []byte) ([]Column, error) {
	in := Bytes(b)
	s := &scanner{in: &in, out: io.Discard}
	n, err := s.uvarint()
	if err != nil {
		return nil, err
	}
	if n > maxColumns {
		return nil, errLength
	}
	var names, types []string
	for range n {
		name, err := s.name()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	for range n {
		name, err := s.name()
		if err != nil {
			return nil, err
		}
		types = append(types, name)
	}
	out := make([]Column, n)
	for i := range out {
		out[i] = Column{Name: names[i], Type: types[i]}
	}
	return out, nil
}
