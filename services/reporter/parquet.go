package reporter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"reflect"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// A Parquet file is a magic, row groups, a footer that says where each column of
// each of them begins, the footer's length, and the magic again. ClickHouse makes
// one of each chunk. The report's file is the magic, the row groups of all
// chunks, and one footer.

// parquetMagic begins and ends the file.
const parquetMagic = "PAR1"

const (
	// footerEnd is the length of what follows a footer.
	footerEnd = 4 + len(parquetMagic)
	// maxFooter bounds that of a chunk: what is held back of it in memory. One of
	// a million rows has 20 KiB.
	maxFooter = 1 << 20
	// maxRowGroups is how many a footer can number.
	maxRowGroups = math.MaxInt16
)

// groups finds the row groups in the file of a chunk that is written to it in
// pieces: it holds back what may be the footer.
type groups struct {
	held  []byte
	begun bool
	bytes int64     // of the row groups so far
	to    hash.Hash // takes them
}

// add takes a piece.
func (g *groups) add(b []byte) error {
	g.held = append(g.held, b...)
	if !g.begun && len(g.held) >= len(parquetMagic) {
		if string(g.held[:len(parquetMagic)]) != parquetMagic {
			return fmt.Errorf("%w: the file does not begin as Parquet", errBroken)
		}
		g.begun, g.held = true, g.held[len(parquetMagic):]
	}
	if len(g.held) >= 2*maxFooter {
		g.give(len(g.held) - maxFooter)
	}
	return nil
}

func (g *groups) give(n int) {
	g.to.Write(g.held[:n])
	g.bytes += int64(n)
	g.held = g.held[:copy(g.held, g.held[n:])]
}

// end returns how many rows the file has, after the last piece.
func (g *groups) end() (rows int64, err error) {
	if !g.begun {
		return 0, fmt.Errorf("%w: there is no Parquet file", errBroken)
	}
	at, meta, err := footerOf(g.held)
	if err != nil {
		return 0, err
	}
	g.give(at)
	return meta.NumRows, nil
}

// footerOf reads the footer at the end of b, and says where it begins.
func footerOf(b []byte) (at int, meta *format.FileMetaData, err error) {
	if !bytes.HasSuffix(b, []byte(parquetMagic)) || len(b) < footerEnd {
		return 0, nil, fmt.Errorf("%w: the file does not end as Parquet", errBroken)
	}
	n := int64(binary.LittleEndian.Uint32(b[len(b)-footerEnd:]))
	if n > int64(len(b)-footerEnd) {
		return 0, nil, fmt.Errorf("%w: a Parquet footer of %d bytes", errBroken, n)
	}
	at = len(b) - footerEnd - int(n)
	meta = new(format.FileMetaData)
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), b[at:at+int(n)], meta); err != nil {
		return 0, nil, fmt.Errorf("%w: Parquet footer: %w", errBroken, err)
	}
	return at, meta, nil
}

// footer makes the end of the report's file: what follows the row groups of all
// chunks, one at least. read returns an object's bytes from offset to its end.
func footer(chunks []*report.Chunk, read func(object string, offset int64) ([]byte, error)) ([]byte, error) {
	var file *format.FileMetaData
	at := int64(len(parquetMagic)) // of the chunk in the file
	for _, c := range chunks {
		end, err := read(c.Object, c.Offset+c.Bytes)
		if err != nil {
			return nil, err
		}
		_, meta, err := footerOf(end)
		if err != nil {
			// ClickHouse sent it whole, once.
			return nil, fmt.Errorf("%w: chunk %d: %v", errFile, c.N, err) //nolint:errorlint // not its kind
		}
		if meta.NumRows != c.Rows {
			return nil, fmt.Errorf("%w: chunk %d has %d rows by its footer, %d by its record", errFile, c.N, meta.NumRows, c.Rows)
		}
		for i := range meta.RowGroups {
			move(&meta.RowGroups[i], at-c.Offset)
		}
		at += c.Bytes
		if file == nil {
			file = meta
			continue
		}
		if !reflect.DeepEqual(file.Schema, meta.Schema) || !reflect.DeepEqual(file.ColumnOrders, meta.ColumnOrders) {
			return nil, fmt.Errorf("%w: chunk %d has other columns than those before", errFile, c.N)
		}
		file.NumRows += meta.NumRows
		file.RowGroups = append(file.RowGroups, meta.RowGroups...)
	}
	if file == nil {
		return nil, fmt.Errorf("%w: Parquet needs a chunk, be it without rows: it has the columns", errFile)
	}
	if len(file.RowGroups) > maxRowGroups {
		return nil, fmt.Errorf("%w: %d row groups; a Parquet file has %d at most", errTooLarge, len(file.RowGroups), maxRowGroups)
	}
	for i := range file.RowGroups {
		file.RowGroups[i].Ordinal = int16(i)
	}
	b, err := thrift.Marshal(new(thrift.CompactProtocol), file)
	if err != nil {
		return nil, fmt.Errorf("%w: footer: %w", errFile, err)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(b)))
	return append(b, parquetMagic...), nil
}

// rowGroups is about how many chunks have, at most: ClickHouse ends one after
// sqlgen.ParquetGroupRows rows.
func rowGroups(chunks []report.PlannedChunk) (n int64) {
	for _, c := range chunks {
		n += c.Rows/sqlgen.ParquetGroupRows + 1
	}
	return n
}

// move says that a row group is by bytes further behind. Offsets of 0 are none.
func move(g *format.RowGroup, by int64) {
	further := func(offset *int64) {
		if *offset != 0 {
			*offset += by
		}
	}
	further(&g.FileOffset)
	for i := range g.Columns {
		c := &g.Columns[i]
		further(&c.FileOffset)
		further(&c.MetaData.DataPageOffset)
		further(&c.MetaData.DictionaryPageOffset)
		further(&c.MetaData.IndexPageOffset)
		further(&c.MetaData.BloomFilterOffset)
		// These hold offsets of pages themselves, and nobody must have them.
		c.OffsetIndexOffset, c.OffsetIndexLength = 0, 0
		c.ColumnIndexOffset, c.ColumnIndexLength = 0, 0
	}
}
