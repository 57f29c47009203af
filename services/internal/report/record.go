package report

import (
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Record is a value of the table. One member is set, the one that the kind in
// its key names. But for progress, which is overwritten, a key is written once:
// so the table, which keeps the newest record of each key, forgets nothing that
// the order of records decides.
type Record struct {
	Spec     *Spec     `json:"spec,omitempty"`
	Claim    *claim    `json:"claim,omitempty"`
	Release  *by       `json:"release,omitempty"`
	Plan     *Plan     `json:"plan,omitempty"`
	Chunk    *Chunk    `json:"chunk,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	End      *End      `json:"end,omitempty"`
	Cancel   *by       `json:"cancel,omitempty"`
	Resume   *resume   `json:"resume,omitempty"`
	Expire   *by       `json:"expire,omitempty"`
}

// Epoch is a claim's place in the table: of two, the higher is the later. 0 is
// nobody's.
type Epoch int64

// claim takes a job over from the owner of an epoch, and is void when the job
// has another by then.
type claim struct {
	Prev   Epoch  `json:"prev"`
	Worker string `json:"worker"` // for people
}

// by says who did it, for people.
type by struct {
	Who string `json:"who,omitempty"`
	Why string `json:"why,omitempty"`
}

type resume struct {
	by
	// Call is the callId of the run that begins.
	Call uuid.UUID `json:"call"`
}

// Kinds of keys. A key is the report's id, the kind, and for kinds of which a
// job may have several what tells them apart: 17/spec, 17/chunk/1042/3.
const (
	kindSpec     = "spec"
	kindClaim    = "claim"    // + a random id
	kindRelease  = "release"  // + epoch
	kindPlan     = "plan"     // + epoch
	kindChunk    = "chunk"    // + epoch + n
	kindProgress = "progress" // + epoch
	kindEnd      = "end"      // + epoch
	kindCancel   = "cancel"   // + a random id
	kindResume   = "resume"   // + a random id
	kindExpire   = "expire"   // + a random id
)

func key(id int64, kind string, more ...string) string {
	return strings.Join(append([]string{strconv.FormatInt(id, 10), kind}, more...), "/")
}

func (e Epoch) String() string { return strconv.FormatInt(int64(e), 10) }

// parseKey reads what key made; false for anything else. epoch is that of kinds
// that have one.
func parseKey(s string) (id int64, kind string, epoch Epoch, ok bool) {
	parts := strings.Split(s, "/")
	id, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || len(parts) < 2 || id < 1 {
		return 0, "", 0, false
	}
	switch parts[1] {
	case kindRelease, kindPlan, kindChunk, kindProgress, kindEnd:
		if len(parts) < 3 {
			return 0, "", 0, false
		}
		n, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			return 0, "", 0, false
		}
		epoch = Epoch(n)
	}
	return id, parts[1], epoch, true
}
