package query

import (
	"context"
	"net/http"
	"time"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
)

// storeTimeout bounds how long a request waits for a manifest.
const storeTimeout = 10 * time.Second

// manifest is report.Files.Manifest, for as long as a request waits.
func (s *Service) manifest(ctx context.Context, j *report.Job) (*report.Manifest, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.reports.files.Manifest(ctx, j)
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
