package query

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
)

// storeTimeout bounds how long a request waits for a manifest.
const storeTimeout = 10 * time.Second

// manifest reads the manifest of a finished job, and its bytes. It is held to what
// the job says of its file: the error wraps errDamaged when it is another's, or
// says something else.
func (s *Service) manifest(ctx context.Context, j *report.Job) (m *report.Manifest, raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	object, err := s.reports.files.Read(ctx, j.End.Manifest, 0, -1)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = object.Close() }() // only read
	reading := &failing{Reader: object}
	var all bytes.Buffer
	m, err = report.ReadManifest(io.TeeReader(reading, &all))
	switch {
	case reading.err != nil:
		return nil, nil, reading.err
	case err != nil:
		return nil, nil, fmt.Errorf("%w: manifest %s: %w", errDamaged, j.End.Manifest, err)
	}
	if err := isOf(m, all.Bytes(), j); err != nil {
		return nil, nil, fmt.Errorf("%w: manifest %s: %w", errDamaged, j.End.Manifest, err)
	}
	return m, all.Bytes(), nil
}

// failing keeps the error of reading.
type failing struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// isOf says in which way a manifest is not that of a job.
func isOf(m *report.Manifest, raw []byte, j *report.Job) error {
	end := j.End
	sum := sha256.Sum256(raw)
	if got := hex.EncodeToString(sum[:]); end.ManifestSHA256 != "" && got != end.ManifestSHA256 { // older jobs have none
		return fmt.Errorf("its SHA-256 is %s, not %s", got, end.ManifestSHA256)
	}
	if m.ReportID != j.ID || m.Job != j.Spec.Job.String() {
		return fmt.Errorf("it is of report %d, job %s", m.ReportID, m.Job)
	}
	if m.SHA256 != end.SHA256 || m.Bytes != end.Bytes || m.Rows != end.Rows {
		return fmt.Errorf("its file has %d rows and %d bytes, SHA-256 %s; the job's has %d and %d, %s", m.Rows, m.Bytes, m.SHA256, end.Rows, end.Bytes, end.SHA256)
	}
	for _, p := range m.Parts {
		if !strings.HasPrefix(p.Object, report.Dir(j.Spec.Job)) {
			return fmt.Errorf("its part %q is not the report's", p.Object)
		}
		if p.Offset < 0 {
			return fmt.Errorf("its part %q begins at %d", p.Object, p.Offset)
		}
	}
	return nil
}

// reportManifest answers GET /audit-log/admin/report/{id}/manifest: as it is in the
// store, byte for byte.
func (s *Service) reportManifest(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	_, _, raw, err := s.finished(r, id)
	if err != nil {
		return err
	}
	return writeJSON(w, raw)
}
