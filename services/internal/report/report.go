// Package report is what reports are: jobs that are asked for once, run by
// whichever replica claims them, and end as a file that can be downloaded until
// it expires. It keeps the jobs in the table audit.reports.v1 (table.go), knows
// from its records which state a job is in (job.go), and where its files are
// (files.go). Package services/reporter runs the jobs; services/query is how
// people meet them.
package report

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// API is what the list of API calls calls a job: each run of a report is a call
// of its own.
const API = "report-job"

// Limits of what a report is called, in characters.
const (
	MaxName    = 255
	MaxSummary = 2000
)

// State of a job. Its text is the API's.
type State string

// States of a job.
const (
	StateQueued    State = "Queued"    // no replica has claimed it
	StateRunning   State = "Running"   // one has
	StateFinished  State = "Finished"  // its file is there
	StateFailed    State = "Failed"    // its chunks are there as far as it came: it can be resumed
	StateCancelled State = "Cancelled" // it has no file
	StateExpired   State = "Expired"   // its file is no more
)

// States lists every State.
var States = []State{StateQueued, StateRunning, StateFinished, StateFailed, StateCancelled, StateExpired}

// Over says that nothing more is done in this state, unless somebody asks.
func (s State) Over() bool { return s != StateQueued && s != StateRunning }

// Format of a report's file. Its text is the API's.
type Format string

// Formats.
const (
	CSV       Format = "csv"
	JSONLines Format = "jsonl"
	Parquet   Format = "parquet"
)

// Compression of a report's file. Parquet compresses its columns itself and
// knows none but None.
type Compression string

// Compressions.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Requester is who asked for a report: what it contains is this user's view.
type Requester struct {
	CustomerUUID  string        `json:"customerUuid"`
	UserUUID      string        `json:"userUuid"`
	UserName      string        `json:"userName,omitempty"`
	UserRole      identity.Role `json:"userRole"`
	BusinessUnits []string      `json:"businessUnits,omitempty"`
	ViewAll       bool          `json:"viewAll,omitempty"`
	// Of the request, for audit events and the list of API calls.
	Client    string `json:"client,omitempty"`
	SourceIP  string `json:"sourceIp,omitempty"`
	RequestID string `json:"requestId,omitempty"`
}

// Identity is the requester as visibility.For takes it.
func (r Requester) Identity() identity.Identity {
	return identity.Identity{
		CustomerUUID: r.CustomerUUID, UserUUID: r.UserUUID, Name: r.UserName, Role: r.UserRole,
		BusinessUnits: r.BusinessUnits, ViewAll: r.ViewAll,
	}
}

// Spec is what was asked for, fixed when the report is created. Nothing in it
// ever changes: two attempts at a chunk read the same rows.
type Spec struct {
	// Job names the report's files, and is the callId of its first run.
	Job       uuid.UUID `json:"job"`
	Requester Requester `json:"requester"`
	Name      string    `json:"name"`
	Summary   string    `json:"summary"`
	// Columns are names of field.Events, in the order of the file.
	Columns     []string    `json:"columns"`
	Format      Format      `json:"format"`
	Compression Compression `json:"compression"`
	// Timezone is that of the dates in CSV, a name of the IANA database.
	Timezone string `json:"timezone"`
	// Query is what events must satisfy, as qql.Expr prints it; empty: anything.
	// Relative dates in it count from Now.
	Query string `json:"query,omitempty"`
	// Start and End bound createdDate as asked, in milliseconds since the Unix
	// epoch, both inclusive; nil: open.
	Start *int64 `json:"startDate,omitempty"`
	End   *int64 `json:"endDate,omitempty"`
	// KeptSince is the beginning of what the subscription's retention keeps, in
	// milliseconds. It bounds nothing: events before it may be gone already.
	KeptSince int64 `json:"keptSince"`
	// Now is when the report was asked for, in milliseconds.
	Now int64 `json:"now"`
	// Pin is what was stored by then: the rows that the report is of.
	Pin sqlgen.Pin `json:"pin"`
	// Request is the request's body, as it came, to ask for the same again.
	Request json.RawMessage `json:"request,omitempty"`
}

// From is the inclusive beginning of the report's range, in milliseconds: Start,
// or the first instant that there is.
func (s *Spec) From() int64 {
	if s.Start == nil {
		return sqlgen.MinInstant
	}
	return max(*s.Start, sqlgen.MinInstant)
}

// Clipped says that the range that was asked for begins before what is kept:
// events before KeptSince may be gone. One that is open at its beginning asks for
// what there is.
func (s *Spec) Clipped() bool { return s.Start != nil && *s.Start < s.KeptSince }

// Span is a part of a report's time.
type Span = sqlgen.TimeSpan

// Plan is how a job is cut into chunks: newest first, each behind the one
// before, together the whole range. Rows are those that each had when it was
// planned.
type Plan struct {
	Chunks []PlannedChunk `json:"chunks"`
}

// PlannedChunk is one chunk of a Plan.
type PlannedChunk struct {
	Span
	Rows int64 `json:"rows"`
}

// Rows of the whole plan.
func (p *Plan) Rows() (n int64) {
	for _, c := range p.Chunks {
		n += c.Rows
	}
	return n
}

// Header is the Chunk.N of what stands before the chunks of the plan: a line of
// titles, a magic number. A format that has none has no such chunk.
const Header = -1

// Chunk is a chunk that is in the object store, complete. What a download gets
// of it are Bytes bytes of Object from Offset on.
type Chunk struct {
	N      int    `json:"n"` // its place in the plan, or Header
	Object string `json:"object"`
	Offset int64  `json:"offset,omitempty"`
	Bytes  int64  `json:"bytes"`
	Rows   int64  `json:"rows"`
	Sum    Sum    `json:"sum"` // of the download up to the end of these bytes
	// Busy is for how long it was being made.
	Busy time.Duration `json:"busy,omitempty"`
}

// Progress is how far a run has come. Rows and Bytes include those of the
// chunks that are complete.
type Progress struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
	// Busy is for how long chunks of the job were being made, by all owners: what
	// its rate is computed from.
	Busy time.Duration `json:"busy"`
	// Trouble says what keeps it from going on; empty when nothing does.
	Trouble string `json:"trouble,omitempty"`
}

// End is how a run ended.
type End struct {
	State State `json:"state"` // StateFinished or StateFailed
	// Reason says for people why it failed, and what to do; of one that finished,
	// what is missing in its file.
	Reason string `json:"reason,omitempty"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"` // of the download
	SHA256 string `json:"sha256,omitempty"`
	// Manifest is its object, ManifestSHA256 the SHA-256 of that one's bytes,
	// hexadecimal.
	Manifest       string `json:"manifest,omitempty"`
	ManifestSHA256 string `json:"manifestSha256,omitempty"`
}
