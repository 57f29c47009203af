package ingest

import (
	"encoding/binary"

	"github.com/ClickHouse/ch-go/proto"
)

const (
	// maxKeys is how many distinct values a dictionary holds: what 16 bits
	// can name, less a little.
	maxKeys = 65_000
	// keepKeys is how many values stay for the next batch without a look at
	// how many of them this one used.
	keepKeys = 1024
)

// dictionary is a LowCardinality(String) column whose dictionary lives on from
// batch to batch, so that a value is hashed and copied once, not once a row.
type dictionary struct {
	keys     []string          // in the order of their numbers
	number   map[string]uint16 // number of each key
	rows     []uint16          // one number a row
	last     string            // value of the row before: runs are common
	lastRank uint16
}

func (d *dictionary) append(s string) {
	if len(d.rows) > 0 && s == d.last {
		d.rows = append(d.rows, d.lastRank)
		return
	}
	n, ok := d.number[s]
	if !ok {
		if d.number == nil {
			d.number = make(map[string]uint16)
		}
		n = uint16(len(d.keys))
		s = string([]byte(s)) // s points into the fetched record
		d.keys = append(d.keys, s)
		d.number[s] = n
	}
	d.last, d.lastRank = d.keys[n], n
	d.rows = append(d.rows, n)
}

// at is the value of a row.
func (d *dictionary) at(row int) string { return d.keys[d.rows[row]] }

// reset forgets the rows, and the keys too when most of them were dead weight
// in a block of that many rows: every block carries the whole dictionary.
func (d *dictionary) reset(rows int) {
	if len(d.keys) > keepKeys && len(d.keys) > rows/4 {
		*d = dictionary{rows: d.rows}
	}
	d.rows = d.rows[:0]
}

// Type, Rows, EncodeState, EncodeColumn and WriteColumn make it a column that
// ch-go sends.

// Type of the column.
func (d *dictionary) Type() proto.ColumnType { return "LowCardinality(String)" }

// Rows in the column.
func (d *dictionary) Rows() int { return len(d.rows) }

// Serialization of LowCardinality in the native format.
const (
	sharedDictionariesWithAdditionalKeys = 1
	keyUInt16                            = 1
	hasAdditionalKeys                    = 1 << 9
	needUpdateDictionary                 = 1 << 10
)

// EncodeState writes the version of the serialization.
func (d *dictionary) EncodeState(b *proto.Buffer) {
	b.PutInt64(sharedDictionariesWithAdditionalKeys)
}

// EncodeColumn writes the dictionary, then a 16-bit number a row.
func (d *dictionary) EncodeColumn(b *proto.Buffer) {
	if len(d.rows) == 0 {
		return
	}
	b.PutInt64(hasAdditionalKeys | needUpdateDictionary | keyUInt16)
	b.PutInt64(int64(len(d.keys)))
	for _, k := range d.keys {
		b.PutString(k)
	}
	b.PutInt64(int64(len(d.rows)))
	at := len(b.Buf)
	b.Buf = append(b.Buf, make([]byte, 2*len(d.rows))...)
	for i, n := range d.rows {
		binary.LittleEndian.PutUint16(b.Buf[at+2*i:], n)
	}
}

// WriteColumn is EncodeColumn for a chained writer.
func (d *dictionary) WriteColumn(w *proto.Writer) { w.ChainBuffer(d.EncodeColumn) }
