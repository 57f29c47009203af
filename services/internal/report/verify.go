package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxManifest bounds what is read of a manifest: that of a report of a hundred
// million rows has some 40 KiB.
const maxManifest = 64 << 20

// ReadManifest reads a manifest that was downloaded, and holds it to itself: its
// parts must add up to its file.
func ReadManifest(r io.Reader) (*Manifest, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("it is longer than the %d bytes of any manifest", maxManifest)
	}
	m := new(Manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("it is no manifest of a report: %w", err)
	}
	return m, m.addsUp()
}

func (m *Manifest) addsUp() error {
	if m.ReportID < 1 || !isSum(m.SHA256) {
		return errors.New("it is no manifest of a report: reportId or sha256 is missing")
	}
	var length, rows int64
	for i, p := range m.Parts {
		if p.Bytes < 0 || p.Rows < 0 || !isSum(p.SHA256) {
			return fmt.Errorf("the manifest is damaged: part %d has no valid bytes, rows and sha256", i+1)
		}
		if before, err := p.Before.Hex(); err != nil || (p.Before == nil) != (i == 0) || i > 0 && !strings.EqualFold(before, m.Parts[i-1].SHA256) {
			return fmt.Errorf("the manifest is damaged: part %d does not say what is before it", i+1)
		}
		length += p.Bytes
		rows += p.Rows
	}
	if length != m.Bytes || rows != m.Rows {
		return fmt.Errorf("the manifest is damaged: its parts have %d bytes and %d rows, it says %d and %d", length, rows, m.Bytes, m.Rows)
	}
	end, err := Sum(nil).Hex()
	if err != nil {
		return err
	}
	if n := len(m.Parts); n > 0 {
		end = m.Parts[n-1].SHA256
	}
	if !strings.EqualFold(end, m.SHA256) {
		return errors.New("the manifest is damaged: the sha256 of its last part is not that of the file")
	}
	return nil
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// ErrDiffers is wrapped by errors of Check that say how a file is not its
// manifest's.
var ErrDiffers = errors.New("the file is not what its manifest says")

// Check reads a report's file to its end and holds it to the manifest. The error
// names the parts that differ and where they are in the file; it wraps
// ErrDiffers, or what reading said.
func (m *Manifest) Check(file io.Reader) error {
	var wrong []error
	sum := sha256.New()
	var at int64 // bytes read
	first := &head{}
	file = io.TeeReader(file, first)
	for i, p := range m.Parts {
		n, err := io.CopyN(sum, file, p.Bytes)
		from := at
		at += n
		if errors.Is(err, io.EOF) {
			wrong = append(wrong, fmt.Errorf("it ends after %d bytes, within part %d of %d: %d bytes are missing", at, i+1, len(m.Parts), m.Bytes-at))
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
		if strings.EqualFold(digest(sum), p.SHA256) {
			continue
		}
		wrong = append(wrong, fmt.Errorf("part %d of %d differs: bytes %d to %d, %d rows", i+1, len(m.Parts), from, at-1, p.Rows))
		if i+1 < len(m.Parts) {
			if sum, err = m.Parts[i+1].Before.Hash(); err != nil {
				return fmt.Errorf("the manifest is damaged: part %d: %w", i+2, err)
			}
		}
	}
	if at == m.Bytes {
		more, err := io.CopyN(io.Discard, file, 1)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
		if more > 0 {
			wrong = append(wrong, fmt.Errorf("it is longer than its %d bytes", m.Bytes))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	if m.Compression.unpacked(first.bytes) {
		wrong = append(wrong, fmt.Errorf("it is not compressed, and the report is (%s): give the file as it was downloaded", m.Compression))
	}
	return errors.Join(append([]error{ErrDiffers}, wrong...)...)
}

// unpacked says of a file that begins with these bytes that it was packed and is
// no more.
func (c Compression) unpacked(first []byte) bool {
	switch c {
	case Gzip:
		return !bytes.HasPrefix(first, []byte{0x1f, 0x8b})
	case Zstd:
		return !bytes.HasPrefix(first, []byte{0x28, 0xb5, 0x2f, 0xfd})
	case None:
	}
	return false
}

// head keeps the first bytes that are written to it.
type head struct{ bytes []byte }

func (h *head) Write(p []byte) (int, error) {
	const enough = 4
	h.bytes = append(h.bytes, p[:min(len(p), enough-min(enough, len(h.bytes)))]...)
	return len(p), nil
}
