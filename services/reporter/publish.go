package reporter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"gocloud.dev/blob"

	"github.com/auditrail/auditrail/services/internal/report"
)

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// publish writes the manifest of a job that has all its chunks, and ends it.
func (r *run) publish(j *report.Job) error {
	ctx, moved := r.watched()
	defer moved.stop()
	r.attempts++
	parts, sum, err := partsOf(j)
	if err != nil {
		return err
	}
	if err := r.there(ctx, j.Spec, parts, moved); err != nil {
		return moved.why(err)
	}
	if j.Spec.Format == report.Parquet {
		// If we die behind it, an object is left that nobody reads; so with the
		// manifest.
		foot, err := r.footer(ctx, j, sum, moved)
		if err != nil {
			return moved.why(err)
		}
		last, err := partOf(foot, sum)
		if err != nil {
			return err
		}
		parts, sum = append(parts, last), foot.Sum
	}
	m, err := manifestOf(j, parts, sum, time.Now())
	if err != nil {
		return err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	name := report.PartObject(j.Spec, "manifest", r.epoch, r.attempts, ".json")
	if err := r.put(ctx, name, func(_ context.Context, to io.Writer) error { return copied(to, raw) }); err != nil {
		return moved.why(err)
	}
	end := report.End{State: report.StateFinished, Rows: m.Rows, Bytes: m.Bytes, SHA256: m.SHA256, Manifest: name, ManifestSHA256: digest(raw)}
	if m.MissingRows > 0 {
		end.Reason = fmt.Sprintf("Retention deleted %d of its rows while it was made.", m.MissingRows)
	}
	return r.finish(end)
}

// there fails unless the store has the parts: those of a report that went on may
// have been made long ago, and be deleted or cut since.
func (r *run) there(ctx context.Context, s *report.Spec, parts []report.Part, moved *watch) error {
	sizes := map[string]int64{}
	err := r.files.Each(ctx, report.Dir(s.Job), func(o *blob.ListObject) error {
		sizes[o.Key] = o.Size
		moved.on()
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	for _, p := range parts {
		size, ok := sizes[p.Object]
		switch {
		case !ok:
			return fmt.Errorf("%w: %s is not there", errGone, p.Object)
		case size < p.Offset+p.Bytes, s.Format != report.Parquet && size != p.Bytes: // a footer is behind those of Parquet
			return fmt.Errorf("%w: %s has %d bytes, of %d from %d on", errGone, p.Object, size, p.Bytes, p.Offset)
		}
	}
	return nil
}

func copied(to io.Writer, b []byte) error {
	if _, err := io.Copy(to, bytes.NewReader(b)); err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	return nil
}

// finish ends the run, and tells of it. If we die before, whoever comes next
// writes a manifest of its own: the first end counts.
func (r *run) finish(e report.End) error {
	r.finishing.Store(true)
	defer r.finishing.Store(false)
	j, err := r.settle(
		func(ctx context.Context) (*report.Job, error) { return r.table.SetEnd(ctx, r.id, r.epoch, e) },
		func(j *report.Job) bool { return j.End != nil && *j.End == e },
	)
	if err != nil {
		return err
	}
	r.end(errOver)
	r.log.Info("report has ended", zap.String("state", string(e.State)), zap.Int64("rows", e.Rows), zap.String("reason", e.Reason))
	r.metrics.ends.WithLabelValues(string(e.State)).Inc()
	// If we die here, the call is told when a reporter starts, and the rest is
	// done by whoever keeps house.
	r.tell(j)
	return nil
}

// partsOf lists the parts of the file as far as the chunks go, and the state of
// its SHA-256 there.
func partsOf(j *report.Job) (parts []report.Part, sum report.Sum, err error) {
	for n := report.Header; n < len(j.Plan.Chunks); n++ {
		c := j.Chunks[n]
		if c == nil {
			continue // there is no header
		}
		p, err := partOf(c, sum)
		if err != nil {
			return nil, nil, err
		}
		if n != report.Header {
			planned := &j.Plan.Chunks[n]
			p.Span, p.MissingRows = &planned.Span, max(0, planned.Rows-c.Rows)
		}
		parts, sum = append(parts, p), c.Sum
	}
	return parts, sum, nil
}

// partOf is a chunk as a part of the file, whose sum is before up to there.
func partOf(c *report.Chunk, before report.Sum) (report.Part, error) {
	sum, err := c.Sum.Hex()
	if err != nil {
		return report.Part{}, fmt.Errorf("%w: chunk %d: %w", errFile, c.N, err)
	}
	return report.Part{Object: c.Object, Offset: c.Offset, Bytes: c.Bytes, SHA256: sum, Before: before, Rows: c.Rows}, nil
}

// manifestOf says what the file is.
func manifestOf(j *report.Job, parts []report.Part, sum report.Sum, now time.Time) (*report.Manifest, error) {
	s := j.Spec
	whole, err := sum.Hex()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFile, err)
	}
	m := &report.Manifest{
		ReportID: j.ID, Job: s.Job.String(), Name: s.Name, Summary: s.Summary,
		CustomerUUID: s.Requester.CustomerUUID, UserUUID: s.Requester.UserUUID, UserName: s.Requester.UserName, UserRole: string(s.Requester.UserRole),
		Columns: s.Columns, Format: s.Format, Compression: s.Compression, Timezone: s.Timezone, Query: s.Query, Request: s.Request,
		StartDate: s.Start, EndDate: s.End, From: s.From(), KeptSince: s.KeptSince, Clipped: s.Clipped(),
		CompleteUpTo: s.Pin.Watermark, Positions: s.Pin.Partitions,
		CreatedDate: j.Created.UnixMilli(), FinishedDate: now.UnixMilli(),
		SHA256: whole, Parts: parts,
	}
	for _, p := range parts {
		m.Rows += p.Rows
		m.Bytes += p.Bytes
		m.MissingRows += p.MissingRows
	}
	return m, nil
}

// footer writes the part that ends a Parquet file.
func (r *run) footer(ctx context.Context, j *report.Job, sum report.Sum, moved *watch) (*report.Chunk, error) {
	chunks := make([]*report.Chunk, len(j.Plan.Chunks))
	for n := range chunks {
		chunks[n] = j.Chunks[n]
	}
	end, err := footer(chunks, func(object string, offset int64) ([]byte, error) {
		defer moved.on()
		return r.readEnd(ctx, object, offset)
	})
	if err != nil {
		return nil, err
	}
	var c report.Chunk
	object := report.PartObject(j.Spec, "footer", r.epoch, r.attempts, j.Spec.Suffix())
	err = r.put(ctx, object, func(_ context.Context, to io.Writer) (err error) {
		c, err = raw(to, sum, end)
		return err
	})
	c.Object = object
	return &c, err
}

// readEnd reads an object from offset to its end.
func (s *service) readEnd(ctx context.Context, object string, offset int64) ([]byte, error) {
	from, err := s.files.Read(ctx, object, offset, -1)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	defer from.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(from)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	return b, nil
}
