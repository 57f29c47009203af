package audit

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"
)

// NewID makes a version 7 UUID (RFC 9562) for an event made at the given time.
func NewID(at time.Time) string {
	var id [36]byte
	PutID(&id, at)
	return string(id[:])
}

// PutID is NewID into an array of the caller's. Twelve bits after the
// milliseconds count fractions of one, so that ids of one host sort by time.
// The other 62 come from the runtime's ChaCha8 generator: an id must be
// unique, not secret.
func PutID(id *[36]byte, at time.Time) {
	var b [16]byte
	fraction := int64(at.Nanosecond()) % 1e6 << 12 / 1e6
	head := at.UnixMilli()<<16 | 7<<12 | fraction
	tail := rand.Uint64()&(1<<62-1) | 1<<63 //nolint:gosec // unique is enough, see above
	binary.BigEndian.PutUint64(b[:8], uint64(head))
	binary.BigEndian.PutUint64(b[8:], tail)
	hex.Encode(id[0:8], b[0:4])
	id[8] = '-'
	hex.Encode(id[9:13], b[4:6])
	id[13] = '-'
	hex.Encode(id[14:18], b[6:8])
	id[18] = '-'
	hex.Encode(id[19:23], b[8:10])
	id[23] = '-'
	hex.Encode(id[24:36], b[10:16])
}
