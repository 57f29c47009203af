package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// Manifest says what a report's file is and holds it to its bytes. It is an
// object of its own beside the chunks, written before the job is Finished.
type Manifest struct {
	ReportID int64  `json:"reportId"`
	Job      string `json:"job"`
	Name     string `json:"reportName"`
	Summary  string `json:"reportSummary"`

	CustomerUUID string `json:"customerUuid"`
	UserUUID     string `json:"userUuid"`
	UserName     string `json:"userName,omitempty"`
	UserRole     string `json:"userRole"`

	Columns     []string        `json:"columns"`
	Format      Format          `json:"format"`
	Compression Compression     `json:"compression"`
	Timezone    string          `json:"timezone"`
	Query       string          `json:"query,omitempty"`
	Request     json.RawMessage `json:"request,omitempty"`

	// StartDate and EndDate are the range that was asked for, null where open;
	// From is where it begins. Events before KeptSince may have been gone already;
	// Clipped says that some of those were asked for.
	StartDate *int64 `json:"startDate"`
	EndDate   *int64 `json:"endDate"`
	From      int64  `json:"from"`
	KeptSince int64  `json:"keptSince"`
	Clipped   bool   `json:"clipped"`
	// CompleteUpTo and Positions are the Pin: everything that Kafka accepted
	// before the one is in the report, and nothing behind the others.
	CompleteUpTo int64                    `json:"completeUpTo"`
	Positions    []sqlgen.PinnedPartition `json:"positions"`

	CreatedDate  int64 `json:"createdDate"`
	FinishedDate int64 `json:"finishedDate"`

	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the whole file
	// MissingRows is how many rows retention deleted while the report was made: they
	// were there when it was planned, and are not in it.
	MissingRows int64 `json:"missingRows,omitempty"`
	// Parts are the file, in order and without gaps.
	Parts []Part `json:"parts"`
}

// Part is a run of bytes of the file.
type Part struct {
	Object string `json:"object"`           // where the bytes are
	Offset int64  `json:"offset,omitempty"` // of the first of them in Object
	Bytes  int64  `json:"bytes"`
	// SHA256 is that of the file up to the end of the part: one hash is all that a
	// report takes. Before is its state at the part's first byte, for who begins
	// there; none for the first part.
	SHA256 string `json:"sha256"`
	Before Sum    `json:"before,omitempty"`
	Rows   int64  `json:"rows"`
	// MissingRows are those of its span that are not in it: see Manifest.
	MissingRows int64 `json:"missingRows,omitempty"`
	// Span is what events of it; nil for a header or a footer.
	*Span
}

// isOf says in which way a manifest, with its bytes, is not that of a job.
func (m *Manifest) isOf(j *Job, raw []byte) error {
	sum := sha256.Sum256(raw)
	if got := hex.EncodeToString(sum[:]); got != j.End.ManifestSHA256 {
		return fmt.Errorf("its SHA-256 is %s, not %s", got, j.End.ManifestSHA256)
	}
	if m.ReportID != j.ID || m.Job != j.Spec.Job.String() {
		return fmt.Errorf("it is of report %d, job %s", m.ReportID, m.Job)
	}
	if end := j.End; m.SHA256 != end.SHA256 || m.Bytes != end.Bytes || m.Rows != end.Rows {
		return fmt.Errorf("its file has %d rows and %d bytes, SHA-256 %s; the job's has %d and %d, %s", m.Rows, m.Bytes, m.SHA256, end.Rows, end.Bytes, end.SHA256)
	}
	for _, p := range m.Parts {
		if !strings.HasPrefix(p.Object, Dir(j.Spec.Job)) {
			return fmt.Errorf("its part %q is not the report's", p.Object)
		}
		if p.Offset < 0 {
			return fmt.Errorf("its part %q begins at %d", p.Object, p.Offset)
		}
	}
	return nil
}
