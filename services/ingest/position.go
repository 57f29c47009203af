package ingest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// position is where a record stood in Kafka.
type position struct {
	topicID   uuid.UUID
	partition int32
	offset    int64
	appended  int64 // epoch ms, the broker's clock
}

// String is topicID/partition/offset: the key of a dead letter.
func (p position) String() string {
	return fmt.Sprintf("%s/%d/%d", p.topicID, p.partition, p.offset)
}

// parsePosition reads the form of String.
func parsePosition(s string) (position, error) {
	f := strings.Split(s, "/")
	if len(f) != 3 {
		return position{}, fmt.Errorf("%.100q is no position: topicID/partition/offset", s)
	}
	id, err := uuid.Parse(f[0])
	partition, err2 := strconv.ParseInt(f[1], 10, 32)
	offset, err3 := strconv.ParseInt(f[2], 10, 64)
	if err := errors.Join(err, err2, err3); err != nil {
		return position{}, fmt.Errorf("%.100q is no position: %w", s, err)
	}
	return position{topicID: id, partition: int32(partition), offset: offset}, nil
}
