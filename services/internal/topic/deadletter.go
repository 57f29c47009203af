package topic

// HeaderPrefix begins the names of all headers of ours.
const HeaderPrefix = "auditrail-"

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
	HeaderKey        = "auditrail-key"         // the record's own key
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
