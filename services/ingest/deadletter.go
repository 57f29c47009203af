package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Headers of a dead letter. The value is the original record's, byte for byte.
const (
	headerReason     = "auditrail-reason"      // the rule that was broken: a fixed word
	headerProblem    = "auditrail-problem"     // the problems in words
	headerTopic      = "auditrail-topic"       // where the record stood
	headerTopicID    = "auditrail-topic-id"    // the topic's id, which survives no re-creation
	headerPartition  = "auditrail-partition"   //
	headerOffset     = "auditrail-offset"      //
	headerAppendedAt = "auditrail-appended-at" // epoch ms, the broker's clock
)

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
	return &kgo.Record{
		Topic: topic.DeadLetter,
		Key:   []byte(topicID.String() + "/" + partition + "/" + offset),
		Value: r.Value,
		Headers: append([]kgo.RecordHeader{
			header(headerReason, d.reason),
			header(headerProblem, d.err.Error()),
			header(headerTopic, r.Topic),
			header(headerTopicID, topicID.String()),
			header(headerPartition, partition),
			header(headerOffset, offset),
			header(headerAppendedAt, strconv.FormatInt(r.Timestamp.UnixMilli(), 10)),
		}, r.Headers...),
	}
}

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
	return l.in.retry(ctx, "dead letters", func(ctx context.Context) error {
		if err := l.in.client.ProduceSync(ctx, messages...).FirstErr(); err != nil {
			return fmt.Errorf("write %d dead letters: %w", len(messages), err)
		}
		return nil
	})
}
