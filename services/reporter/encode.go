package reporter

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// errStored marks a failure of where a chunk is written to.
var errStored = errors.New("object store")

// chunk writes the rows of a statement to an object, and returns what a record
// of it says but for N and Object. sum is that of the file before it. progress is
// told what has come so far, of this chunk: rows, and bytes of the object.
func (c *clickHouse) chunk(ctx context.Context, stmt sqlgen.Statement, f report.Format, z report.Compression, sum report.Sum, to io.Writer, progress func(rows, bytes int64)) (report.Chunk, error) {
	p, err := newPart(to, f, z, sum)
	if err != nil {
		return report.Chunk{}, err
	}
	err = c.stream(ctx, stmt, func(b []byte) error {
		progress(p.rows(), p.bytes) // ClickHouse answers; the store may still be stuck
		err := p.write(b)
		progress(p.rows(), p.bytes)
		return err
	})
	if err != nil {
		return report.Chunk{}, err
	}
	return p.end()
}

// part makes a part of the file out of a body.
type part struct {
	to         io.Writer
	bytes      int64          // written to it
	count      counter        // nil for Parquet
	compressor io.WriteCloser // into store; nil: none
	sum        hash.Hash      // of the file so far
	parquet    *groups        // nil for other formats
}

func newPart(to io.Writer, f report.Format, z report.Compression, sum report.Sum) (*part, error) {
	h, err := sum.Hash()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFile, err)
	}
	p := &part{to: to, sum: h}
	switch f {
	case report.CSV:
		p.count = new(records)
	case report.JSONLines:
		p.count = new(lines)
	case report.Parquet:
		p.parquet = &groups{to: h}
		return p, nil
	default:
		return nil, fmt.Errorf("no format %q", f)
	}
	p.compressor, err = compressor(writerFunc(p.store), z)
	return p, err
}

// compressor compresses into w as a member, or frame, of its own; nil for none.
func compressor(w io.Writer, z report.Compression) (io.WriteCloser, error) {
	switch z {
	case report.None:
		return nil, nil
	case report.Gzip:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case report.Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	}
	return nil, fmt.Errorf("no compression %q", z)
}

// write takes a piece of the body.
func (p *part) write(b []byte) error {
	if p.parquet != nil {
		if err := p.parquet.add(b); err != nil {
			return err
		}
		return p.put(b)
	}
	p.count.add(b)
	if p.compressor == nil {
		_, err := p.store(b)
		return err
	}
	_, err := p.compressor.Write(b)
	return err
}

// rows is how many came so far, where that can be told before the end.
func (p *part) rows() int64 {
	if p.count == nil {
		return 0
	}
	return p.count.rows()
}

// store takes bytes of the part.
func (p *part) store(b []byte) (int, error) {
	p.sum.Write(b)
	return len(b), p.put(b)
}

// put writes to the object.
func (p *part) put(b []byte) error {
	n, err := p.to.Write(b)
	p.bytes += int64(n)
	if err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	return nil
}

// end ends the part after the last piece.
func (p *part) end() (c report.Chunk, err error) {
	switch {
	case p.parquet != nil:
		if c.Rows, err = p.parquet.end(); err != nil {
			return c, err
		}
		c.Offset, c.Bytes = int64(len(parquetMagic)), p.parquet.bytes
	case !p.count.whole():
		return c, fmt.Errorf("%w: the rows do not end with a whole one", errBroken)
	default:
		if p.compressor != nil {
			if err := p.compressor.Close(); err != nil {
				return c, err
			}
		}
		c.Rows, c.Bytes = p.count.rows(), p.bytes
	}
	c.Sum, err = report.SumOf(p.sum)
	return c, err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
