package reporter

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"

	"gocloud.dev/blob"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

const (
	// partBytes and partsAtOnce bound what an upload to S3 holds in memory. S3
	// takes 10,000 parts of an object.
	partBytes   = 8 << 20
	partsAtOnce = 2
	// contentType keeps the store from guessing.
	contentType = "application/octet-stream"
)

// chunk makes a chunk and adds it to the job.
func (r *run) chunk(j *report.Job, n int) (*report.Job, error) {
	began := time.Now()
	r.hand.rows.Store(0)
	r.hand.bytes.Store(0)
	r.hand.since.Store(began.UnixNano())
	defer r.hand.since.Store(0)
	ctx, moved := r.watched()
	defer moved.stop()
	r.attempts++
	object := report.ChunkObject(j.Spec, n, r.epoch, r.attempts)
	if n == report.Header {
		object = report.PartObject(j.Spec, "header", r.epoch, r.attempts, j.Spec.Suffix())
	}
	var c report.Chunk
	// If we die while it is written, or it landed and we are told that it did not,
	// an object is left that nobody reads: the sweep finds it.
	err := r.put(ctx, object, func(ctx context.Context, to io.Writer) (err error) {
		if n == report.Header {
			c, err = header(j.Spec, to)
			return err
		}
		c, err = r.rows(ctx, j, n, to, moved)
		return err
	})
	if err != nil {
		return nil, moved.why(err)
	}
	c.N, c.Object, c.Busy = n, object, time.Since(began)
	// If we die here, the object is nobody's, too. If the record landed and we are
	// told that it is in doubt, settle finds it or writes the same again: the
	// object is never written twice.
	j, err = r.settle(
		func(ctx context.Context) (*report.Job, error) { return r.table.AddChunk(ctx, r.id, r.epoch, c) },
		func(j *report.Job) bool { return j.Chunks[n] != nil && j.Chunks[n].Object == object && r.owns(j) },
	)
	if err == nil {
		r.metrics.chunks.Inc()
		r.metrics.rows.Add(float64(c.Rows))
		r.metrics.bytes.Add(float64(c.Bytes))
	}
	return j, err
}

// rows writes the rows of a chunk.
func (r *run) rows(ctx context.Context, j *report.Job, n int, to io.Writer, moved *watch) (report.Chunk, error) {
	of, err := rowsOf(j.Spec)
	if err != nil {
		return report.Chunk{}, err
	}
	planned := j.Plan.Chunks[n]
	stmt := sqlgen.ReportRows(of.see, of.filter, of.pin, planned.Span, of.columns, of.shape)
	var sum report.Sum
	if before := j.Chunks[n-1]; before != nil { // the header is before 0
		sum = before.Sum
	}
	moved.ask()
	c, err := r.events.chunk(ctx, stmt, j.Spec.Format, j.Spec.Compression, sum, to, func(rows, bytes int64) {
		r.hand.rows.Store(rows)
		r.hand.bytes.Store(bytes)
		moved.on()
		r.say("") // what kept it from going on does not any more
	})
	if err != nil {
		return report.Chunk{}, err
	}
	if c.Rows != planned.Rows {
		// Retention deletes rows meanwhile. What must not pass is half an answer.
		now, err := counts{r.events, of, moved}.count(ctx, planned.Span)
		if err != nil {
			return report.Chunk{}, err
		}
		if c.Rows != now {
			return report.Chunk{}, fmt.Errorf("%w: %d rows came, of %d that there are", errBroken, c.Rows, now)
		}
	}
	return c, nil
}

// put writes an object: whole or, when write fails, not at all.
func (s *service) put(ctx context.Context, name string, write func(context.Context, io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.files.Bucket().NewWriter(ctx, name, &blob.WriterOptions{BufferSize: partBytes, MaxConcurrency: partsAtOnce, ContentType: contentType})
	if err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	if err := write(ctx, w); err != nil {
		cancel() // or Close would make an object of what there is
		_ = w.Close()
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	return nil
}

// hasHeader says that something stands before the chunks.
func hasHeader(s *report.Spec) bool { return s.Format != report.JSONLines }

// header writes what stands before the chunks.
func header(s *report.Spec, to io.Writer) (report.Chunk, error) {
	if s.Format == report.Parquet {
		return raw(to, nil, []byte(parquetMagic))
	}
	of, err := rowsOf(s)
	if err != nil {
		return report.Chunk{}, err
	}
	p, err := newPart(to, s.Format, s.Compression, nil)
	if err != nil {
		return report.Chunk{}, err
	}
	line, err := titles(of.columns)
	if err != nil {
		return report.Chunk{}, err
	}
	if err := p.write([]byte(line)); err != nil {
		return report.Chunk{}, err
	}
	c, err := p.end()
	c.Rows = 0
	return c, err
}

// raw writes bytes as a part of the file that they are.
func raw(to io.Writer, sum report.Sum, b []byte) (report.Chunk, error) {
	if _, err := to.Write(b); err != nil {
		return report.Chunk{}, fmt.Errorf("%w: %w", errStored, err)
	}
	after, err := sum.After(b)
	if err != nil {
		return report.Chunk{}, fmt.Errorf("%w: %w", errFile, err)
	}
	return report.Chunk{Bytes: int64(len(b)), Sum: after}, nil
}

// titles is the first line of a CSV file.
func titles(columns []*field.Field) (string, error) {
	names := make([]string, len(columns))
	for i, f := range columns {
		names[i] = f.Title
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	if err := w.Write(names); err != nil {
		return "", err
	}
	w.Flush()
	return b.String(), w.Error()
}
