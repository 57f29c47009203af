package report

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
)

// Sum is the state of the SHA-256 of a file up to some byte, as
// encoding.BinaryMarshaler of crypto/sha256 has it: whoever reads or writes the
// next byte goes on from it. nil is that before the first byte.
type Sum []byte

// SumOf is the state of a hash that Sum.Hash returned.
func SumOf(h hash.Hash) (Sum, error) { return h.(encoding.BinaryMarshaler).MarshalBinary() }

// Hash goes on from the state.
func (s Sum) Hash() (hash.Hash, error) {
	h := sha256.New()
	if s == nil {
		return h, nil
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s); err != nil {
		return nil, fmt.Errorf("state of a SHA-256: %w", err)
	}
	return h, nil
}

// After is the state after b.
func (s Sum) After(b []byte) (Sum, error) {
	h, err := s.Hash()
	if err != nil {
		return nil, err
	}
	h.Write(b)
	return SumOf(h)
}

// Hex is the SHA-256 of what came so far, hexadecimal.
func (s Sum) Hex() (string, error) {
	h, err := s.Hash()
	if err != nil {
		return "", err
	}
	return digest(h), nil
}

// digest is what a hash has so far, hexadecimal. The hash can go on.
func digest(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
