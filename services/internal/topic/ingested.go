package topic

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Ingested carries announcements of ingest: which records of a partition the
// table holds by now. It wakes those who wait for them and is no more than a
// hint: what counts as stored is what the ingest group committed, raised by
// what was announced.
const Ingested = "audit.ingested.v1"

// ingestedRetention is short: an announcement is old news once the next commit
// is through.
const ingestedRetention = time.Hour

// Announcement says how far a partition is stored. It is made once the insert
// was acknowledged, so that it is true whoever says it.
type Announcement struct {
	Topic     string    `json:"topic"`
	TopicID   uuid.UUID `json:"topicId"` // a topic made anew has another
	Partition int32     `json:"partition"`
	// Next is the offset after the last record that is stored, or dead-lettered.
	Next int64 `json:"next"`
	// AppendedAt is that record's append time, in epoch milliseconds.
	AppendedAt int64 `json:"appendedAt"`
}

// Key is what announcements of one partition have in common.
func (a Announcement) Key() []byte {
	return []byte(a.TopicID.String() + "/" + strconv.Itoa(int(a.Partition)))
}

// Value is the announcement's JSON.
func (a Announcement) Value() []byte {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}
