package audit

// Headers of a record on an event topic. Either makes ingest look for the
// event in the table before it stores it, however long ago it may have been
// stored; a record without them is compared with recent events only.
const (
	// HeaderResent marks an event that its producer sends again without
	// knowing whether it arrived the first time. Any value.
	HeaderResent = "auditrail-resent"
	// HeaderRedriven marks a dead letter that an operator put back on its
	// topic. Its value is the position where the record first stood,
	// topicID/partition/offset: an event without an id gets the id that it
	// would have got there.
	HeaderRedriven = "auditrail-redriven-from"
)
