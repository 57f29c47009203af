package topic

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Position is where a record stands in Kafka. No two records ever share one: a
// topic made anew has another id. The key of a dead letter is the position
// where its record first stood.
type Position struct {
	TopicID   uuid.UUID
	Partition int32
	Offset    int64
}

// String is topicID/partition/offset.
func (p Position) String() string {
	return fmt.Sprintf("%s/%d/%d", p.TopicID, p.Partition, p.Offset)
}

// ParsePosition reads the form of String.
func ParsePosition(s string) (Position, error) {
	topic, partition, offset, err := SplitPosition(s)
	if err != nil {
		return Position{}, err
	}
	id, err := uuid.Parse(topic)
	if err != nil {
		return Position{}, fmt.Errorf("%.100q is no topic id: %w", topic, err)
	}
	return Position{TopicID: id, Partition: partition, Offset: offset}, nil
}

// SplitPosition reads topic/partition/offset, the topic by whatever name.
func SplitPosition(s string) (topic string, partition int32, offset int64, err error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || parts[0] == "" {
		return "", 0, 0, fmt.Errorf("%.200q is not topic/partition/offset", s)
	}
	p, errPartition := strconv.ParseInt(parts[1], 10, 32)
	offset, errOffset := strconv.ParseInt(parts[2], 10, 64)
	if err := errors.Join(errPartition, errOffset); err != nil || p < 0 || offset < 0 {
		return "", 0, 0, fmt.Errorf("%.200q is not topic/partition/offset", s)
	}
	return parts[0], int32(p), offset, nil
}
