package audit

import (
	"crypto/sha1" //nolint:gosec // see APICall.ID
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
	putUUID(id, &b)
}

// putUUID writes b as text.
func putUUID(id *[36]byte, b *[16]byte) {
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

// APICallNamespace is the UUID in whose name space the ids of changes of state
// of API calls are made: see APICall.ID.
const APICallNamespace = "5b0e2a3c-7d1f-4c68-9a55-0f6e8d3b1c27"

var apiCallNamespace, _ = parseUUID(APICallNamespace)

// ID identifies the change of state that c tells of, however often and by whom
// it is told: the version 5 UUID (RFC 9562), in APICallNamespace, of CallID in
// lower case followed by State. It is zero when CallID is no UUID.
func (c *APICall) ID() (id [16]byte) {
	call, ok := parseUUID(c.CallID)
	if !ok {
		return id
	}
	var text [36]byte
	putUUID(&text, &call)
	name := append(make([]byte, 0, 96), apiCallNamespace[:]...)
	name = append(name, text[:]...)
	name = append(name, c.State...)
	sum := sha1.Sum(name) //nolint:gosec // what a version 5 UUID is made with
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 5<<4
	id[8] = id[8]&0x3f | 1<<7
	return id
}

// parseUUID reads 8-4-4-4-12 hexadecimal digits.
func parseUUID(s string) (id [16]byte, ok bool) {
	if !isUUID(s) {
		return id, false
	}
	at := 0
	for i := 0; i < len(s); i += 2 {
		if s[i] == '-' {
			i++
		}
		id[at] = byte(hexDigit[s[i]])<<4 | byte(hexDigit[s[i+1]])
		at++
	}
	return id, true
}
