package report

import (
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Record is a value of the table. One member is set, the one that the kind in
// its key names. But for progress, which is overwritten, a key is written once:
// so the table, which keeps the newest record of each key, forgets nothing that
// the order of records decides. A write that is repeated, because nobody knows
// what became of the first, gets another key.
type Record struct {
	Spec     *Spec     `json:"spec,omitempty"`
	Claim    *claim    `json:"claim,omitempty"`
	Release  *release  `json:"release,omitempty"`
	Plan     *Plan     `json:"plan,omitempty"`
	Chunk    *Chunk    `json:"chunk,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	End      *End      `json:"end,omitempty"`
	Cancel   *by       `json:"cancel,omitempty"`
	Resume   *resume   `json:"resume,omitempty"`
	Expire   *by       `json:"expire,omitempty"`
	Tidy     *Progress `json:"tidy,omitempty"` // what the chunks came to that are forgotten
}

// KeptUnread has the table keep a record that this version cannot read, as one
// without a member: its job is not taken for removed.
func (Record) KeptUnread() {}

// unread says that this version does not know what the record says.
func (r *Record) unread() bool { return *r == (Record{}) }

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

// release gives a job back. With Undo it is as if it had not been claimed, when
// that claim was its first.
type release struct {
	Undo bool `json:"undo,omitempty"`
}

type resume struct {
	by
	// Call is the callId of the run that begins.
	Call uuid.UUID `json:"call"`
}

// Kinds of keys. A key is the report's id, the kind, for the kinds that only an
// owner writes its epoch, and a random id but for the kinds of which a job, or
// an owner, has one: 17/spec, 17/progress/1042, 17/chunk/1042/5f0c...
const (
	kindSpec     = "spec"
	kindClaim    = "claim"    // + a random id
	kindRelease  = "release"  // + epoch + a random id
	kindPlan     = "plan"     // + epoch + a random id
	kindChunk    = "chunk"    // + epoch + a random id
	kindProgress = "progress" // + epoch
	kindEnd      = "end"      // + epoch + a random id
	kindCancel   = "cancel"   // + a random id
	kindResume   = "resume"   // + a random id
	kindExpire   = "expire"   // + a random id
	kindTidy     = "tidy"     // + a random id
)

func key(id int64, kind string, more ...string) string {
	return strings.Join(append([]string{strconv.FormatInt(id, 10), kind}, more...), "/")
}

func (e Epoch) String() string { return strconv.FormatInt(int64(e), 10) }

// parseKey reads of what key made the job and the kind; false for anything else.
func parseKey(s string) (id int64, kind string, ok bool) {
	first, rest, ok := strings.Cut(s, "/")
	id, err := strconv.ParseInt(first, 10, 64)
	if err != nil || !ok || id < 1 {
		return 0, "", false
	}
	kind, _, _ = strings.Cut(rest, "/")
	return id, kind, true
}

// epochOf is the epoch in a key, 0 when it has none.
func epochOf(s string) Epoch {
	parts := strings.Split(s, "/")
	if len(parts) < 3 {
		return 0
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return 0
	}
	return Epoch(n)
}
