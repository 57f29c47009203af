package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Headers of a dead letter.
const (
	headerReason     = topic.HeaderReason
	headerProblem    = topic.HeaderProblem
	headerTopic      = topic.HeaderTopic
	headerTopicID    = topic.HeaderTopicID
	headerPartition  = topic.HeaderPartition
	headerOffset     = topic.HeaderOffset
	headerAppendedAt = topic.HeaderAppendedAt
	headerKey        = topic.HeaderKey
	headerSize       = topic.HeaderSize
	headerSHA256     = topic.HeaderSHA256
)

// maxDeadValue is the longest value that a dead letter carries whole: with its
// headers it must fit the topic. Records are packed when their topic's limit
// is checked, so that longer ones arrive.
const maxDeadValue = deadLetterBytes / 2

// deadLetter is a record that breaks a rule of the contract.
type deadLetter struct {
	record *kgo.Record
	reason string // one of the audit.Rule constants
	err    error
}

// reason gives the rule that err reports: a word from a closed set, fit for a
// metric label. Of several problems the first counts.
func reason(err error) string {
	var decode *audit.DecodeError
	if errors.As(err, &decode) {
		return decode.Rule
	}
	var problems audit.Problems
	if errors.As(err, &problems) && len(problems) > 0 {
		return problems[0].Rule
	}
	return "other"
}

// message makes the record for the dead-letter topic. Its key is the source
// position: dead letters are written at least once, and readers fold them by it.
func (d deadLetter) message(topicID uuid.UUID) *kgo.Record {
	r := d.record
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	partition, offset := strconv.Itoa(int(r.Partition)), strconv.FormatInt(r.Offset, 10)
	headers := []kgo.RecordHeader{
		header(headerReason, d.reason),
		header(headerProblem, d.err.Error()),
		header(headerTopic, r.Topic),
		header(headerTopicID, topicID.String()),
		header(headerPartition, partition),
		header(headerOffset, offset),
		header(headerAppendedAt, strconv.FormatInt(r.Timestamp.UnixMilli(), 10)),
	}
	if r.Key != nil {
		headers = append(headers, kgo.RecordHeader{Key: headerKey, Value: r.Key[:min(len(r.Key), maxDeadHeaders)]})
	}
	value := r.Value
	if len(value) > maxDeadValue {
		sum := sha256.Sum256(value)
		headers = append(headers, header(headerSize, strconv.Itoa(len(value))), header(headerSHA256, hex.EncodeToString(sum[:])))
		value = value[:maxDeadValue]
	}
	// A producer's own headers come along, within bounds.
	room := maxDeadHeaders
	for _, h := range r.Headers {
		if room -= len(h.Key) + len(h.Value); room >= 0 {
			headers = append(headers, h)
		}
	}
	return &kgo.Record{Topic: topic.DeadLetter, Key: []byte(topicID.String() + "/" + partition + "/" + offset), Value: value, Headers: headers}
}

// maxDeadHeaders bounds the bytes of the producer's headers on a dead letter.
const maxDeadHeaders = 64 << 10

// bury writes the batch's dead letters and returns nil once all of them are on
// disk. It is called before the offset moves past them: if we die between the
// two, they are written again and folded by their key.
func (l *lane) bury(ctx context.Context, b *batch) error {
	if len(b.dead) == 0 {
		return nil
	}
	messages := make([]*kgo.Record, len(b.dead))
	for i, d := range b.dead {
		messages[i] = d.message(l.topicID)
	}
	return l.in.retry(ctx, "dead letters", l.at.String(), func(ctx context.Context) error {
		if err := l.in.client.ProduceSync(ctx, messages...).FirstErr(); err != nil {
			return fmt.Errorf("write %d dead letters: %w", len(messages), err)
		}
		return nil
	})
}
