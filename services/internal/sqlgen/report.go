package sqlgen

import "github.com/google/uuid"

// Pin is what was stored at some moment, so that a statement can be asked again
// later and read the same rows: those before Watermark, and those before the
// position of their partition.
type Pin struct {
	// Watermark is an append time in milliseconds since the Unix epoch: everything
	// that Kafka accepted before it was stored.
	Watermark  int64             `json:"watermark"`
	Partitions []PinnedPartition `json:"partitions"`
}

// PinnedPartition is up to where a partition was stored.
type PinnedPartition struct {
	Topic     string    `json:"topic"`
	TopicID   uuid.UUID `json:"topicId"`
	Partition int32     `json:"partition"`
	Next      int64     `json:"next"` // offset after the last record that was
}
