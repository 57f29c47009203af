package native

import (
	"encoding/binary"

	"github.com/go-faster/city"
)

// resign makes the checksum of a frame right, so that fuzzing gets past it.
func resign(packed []byte) {
	end := len(packed)
	if len(packed) >= frameHash+frameHeader {
		if n := frameHash + int(binary.LittleEndian.Uint32(packed[frameHash+1:])); n < end {
			end = n
		}
	}
	if end < frameHash {
		return
	}
	h := city.CH128(packed[frameHash:end])
	binary.LittleEndian.PutUint64(packed, h.Low)
	binary.LittleEndian.PutUint64(packed[8:], h.High)
}
