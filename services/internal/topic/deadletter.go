package topic

import (
	"strings"

	"github.com/auditrail/auditrail/pkg/audit"
)

// headerPrefix begins the names of all headers of ours.
const headerPrefix = "auditrail-"

// IsLetterHeader says whether a header of a dead letter is what we say of the
// record, not the record's own: whether its name is ours, and none that
// records carry on event topics.
func IsLetterHeader(name string) bool {
	return strings.HasPrefix(name, headerPrefix) && name != audit.HeaderResent && name != audit.HeaderRedriven
}

// Reasons of dead letters beside the rules of the contract.
const (
	ReasonConflict = "id-conflict" // an event with this customer and id is stored, and says something else
	ReasonRefused  = "refused"     // the engine refuses this record alone
	ReasonPacked   = "too-large"   // a batch of records that unpacks to too much
)

// Headers of a dead letter. Its key is the position of the record,
// topicID/partition/offset; its value is the record's, byte for byte, or the
// beginning of one that is too long for the topic. The record's own headers
// follow these.
const (
	HeaderReason     = "auditrail-reason"      // the rule that was broken: a fixed word
	HeaderProblem    = "auditrail-problem"     // the problems in words
	HeaderTopic      = "auditrail-topic"       // where the record stood
	HeaderTopicID    = "auditrail-topic-id"    // the topic's id, which survives no re-creation
	HeaderPartition  = "auditrail-partition"   //
	HeaderOffset     = "auditrail-offset"      //
	HeaderAppendedAt = "auditrail-appended-at" // epoch ms, the broker's clock
	HeaderKey        = "auditrail-key"         // the record's own key, or the beginning of one that is too long
	HeaderKeySize    = "auditrail-key-size"    // bytes of a key that was cut
	HeaderSize       = "auditrail-size"        // bytes of a value that was cut
	HeaderSHA256     = "auditrail-sha256"      // of the whole value that was cut, in hexadecimal
	HeaderBatch      = "auditrail-batch"       // first-last offsets, of a batch of Kafka that could not be unpacked
)

// Headers of a marker: a record on the dead-letter topic with the key of a
// dead letter and no value, which says that the letter was redriven. It has
// no HeaderReason.
const (
	HeaderRedrivenAt = "auditrail-redriven-at" // epoch ms, the clock of who redrove it
	HeaderRedrivenTo = "auditrail-redriven-to" // topic/partition/offset of the new record
)
