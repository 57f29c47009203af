package query

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/auditrail/auditrail/services/internal/report"
)

// reportFile is the file of a report: the parts of its manifest, one behind the
// other. Each part that is read to its last byte is held to the SHA-256 there
// before its last bytes are handed out: when it is read from its first byte, or
// resumed. Its ctx ends reading. Owned by the request's goroutine.
type reportFile struct {
	ctx     context.Context
	files   *report.Files
	m       *report.Manifest
	resumed bool  // who begins within a part reads to the end: the part is read whole
	err     error // the first; it stays

	at   int64         // in the file
	part int           // that body is of
	left int64         // bytes of it that were not read yet
	body io.ReadCloser // nil: none is open
	sum  hash.Hash     // of the file so far; nil: the part is not read from its first byte
}

// Seek implements io.Seeker.
func (f *reportFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.m.Bytes
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of the file")
	}
	if offset != f.at {
		f.close()
		f.at = offset
	}
	return offset, nil
}

// Read implements io.Reader.
func (f *reportFile) Read(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if len(b) == 0 {
		return 0, nil
	}
	if f.at >= f.m.Bytes {
		return 0, io.EOF
	}
	err := f.ctx.Err() // readers of files do not look at it
	if err == nil {
		err = f.open()
	}
	if err != nil {
		return 0, f.fail(err)
	}
	n, err := io.ReadFull(f.body, b[:min(int64(len(b)), f.left)])
	if err != nil {
		return 0, f.fail(fmt.Errorf("%s ends %d bytes early: %w", f.m.Parts[f.part].Object, f.left-int64(n), err))
	}
	f.at, f.left = f.at+int64(n), f.left-int64(n)
	if f.sum != nil {
		f.sum.Write(b[:n])
	}
	if f.left > 0 {
		return n, nil
	}
	if part := f.m.Parts[f.part]; f.sum != nil && hex.EncodeToString(f.sum.Sum(nil)) != part.SHA256 {
		return 0, f.fail(fmt.Errorf("%w: SHA-256 of %s", report.ErrDamaged, part.Object))
	}
	f.close()
	return n, nil
}

// open opens the part that stands at f.at, unless it is open.
func (f *reportFile) open() (err error) {
	if f.body != nil {
		return nil
	}
	begin := int64(0)
	for i, p := range f.m.Parts {
		within := f.at - begin
		if begin += p.Bytes; f.at >= begin {
			continue
		}
		f.part, f.left, f.sum = i, p.Bytes-within, nil
		skip := int64(0) // of what is read
		if within == 0 || f.resumed {
			if f.sum, err = p.Before.Hash(); err != nil {
				return fmt.Errorf("%w: %w", report.ErrDamaged, err)
			}
			skip, within = within, 0
		}
		if f.body, err = f.files.Read(f.ctx, p.Object, p.Offset+within, f.left+skip); err != nil {
			return err
		}
		if skip > 0 {
			if n, err := io.CopyN(f.sum, f.body, skip); err != nil {
				f.close()
				return fmt.Errorf("%s ends %d bytes early: %w", p.Object, p.Bytes-n, err)
			}
		}
		return nil
	}
	return fmt.Errorf("%w: its parts have %d bytes, not %d", report.ErrDamaged, begin, f.m.Bytes)
}

func (f *reportFile) fail(err error) error {
	f.close()
	f.err = err
	return err
}

// close ends the reading of a part.
func (f *reportFile) close() {
	if f.body != nil {
		_ = f.body.Close() // only read
		f.body = nil
	}
}
