package ingest

import (
	"math/bits"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchPool lends the Kafka client the memory that it unpacks batches of
// records into. A batch's memory comes back once every record of it was
// recycled; until then their bytes stay as they are. A batch of which one never
// is, such as a dead letter, is left to the garbage collector. Safe for
// concurrent use.
type fetchPool struct {
	bytes   [bits.UintSize]sync.Pool // of []byte, by the power of two that they hold at least
	records [bits.UintSize]sync.Pool // of []kgo.Record, likewise
}

var (
	_ kgo.PoolDecompressBytes = (*fetchPool)(nil)
	_ kgo.PoolRecords         = (*fetchPool)(nil)
)

// unpackedFactor is how much longer records mostly are than packed; those that
// are longer still make the client grow the memory that it got.
const unpackedFactor = 4

// GetDecompressBytes lends memory for a batch of which the packed form is given.
func (p *fetchPool) GetDecompressBytes(packed []byte, _ kgo.CompressionCodecType) []byte {
	return lend[byte](&p.bytes, unpackedFactor*len(packed))
}

// PutDecompressBytes takes it back.
func (p *fetchPool) PutDecompressBytes(b []byte) { takeBack(&p.bytes, b) }

// GetRecords lends a slice for n records.
func (p *fetchPool) GetRecords(n int) []kgo.Record { return lend[kgo.Record](&p.records, n) }

// PutRecords takes it back.
func (p *fetchPool) PutRecords(rs []kgo.Record) { takeBack(&p.records, rs) }

// lend gives a slice with room for n elements.
func lend[T any](pools *[bits.UintSize]sync.Pool, n int) []T {
	class := bits.Len(uint(max(n, 1) - 1))
	if s, ok := pools[class].Get().([]T); ok {
		return s
	}
	return make([]T, n, 1<<class)
}

func takeBack[T any](pools *[bits.UintSize]sync.Pool, s []T) {
	if cap(s) > 0 {
		pools[bits.Len(uint(cap(s)))-1].Put(s) //nolint:staticcheck // a slice header a batch is no matter
	}
}
