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

// maxDeadValue is the longest value that a dead letter carries whole: with its
// headers it must fit the topic. Records are packed when their topic's limit
// is checked, so that longer ones arrive.
const maxDeadValue = topic.MaxDeadLetterBytes / 2

// deadLetter is a record that breaks a rule of the contract, or that cannot be
// stored.
type deadLetter struct {
	record *kgo.Record // nil: written already
	reason string      // one of the audit.Rule or topic.Reason constants
	err    error
}

// reason gives the rule that err reports: a word from a closed set, fit for a
// metric label. Of several problems the first counts.
func reason(err error) string {
	var batch *packed
	if errors.As(err, &batch) {
		return topic.ReasonPacked
	}
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
	at := topic.Position{TopicID: topicID, Partition: r.Partition, Offset: r.Offset}
	headers := []kgo.RecordHeader{
		header(topic.HeaderReason, d.reason),
		header(topic.HeaderProblem, d.err.Error()),
		header(topic.HeaderTopic, r.Topic),
		header(topic.HeaderTopicID, at.TopicID.String()),
		header(topic.HeaderPartition, strconv.Itoa(int(at.Partition))),
		header(topic.HeaderOffset, strconv.FormatInt(at.Offset, 10)),
		header(topic.HeaderAppendedAt, strconv.FormatInt(r.Timestamp.UnixMilli(), 10)),
	}
	if r.Key != nil {
		headers = append(headers, kgo.RecordHeader{Key: topic.HeaderKey, Value: r.Key[:min(len(r.Key), maxDeadKey)]})
	}
	if len(r.Key) > maxDeadKey {
		headers = append(headers, header(topic.HeaderKeySize, strconv.Itoa(len(r.Key))))
	}
	if p := packedOf(r); p != nil {
		headers = append(headers, header(topic.HeaderBatch, fmt.Sprintf("%d-%d", p.first, p.last)))
	}
	value := r.Value
	if len(value) > maxDeadValue {
		sum := sha256.Sum256(value)
		headers = append(headers, header(topic.HeaderSize, strconv.Itoa(len(value))), header(topic.HeaderSHA256, hex.EncodeToString(sum[:])))
		value = value[:maxDeadValue]
	}
	headers = append(headers, marks(r.Headers)...)
	// A producer's own headers come along, within bounds, but for names of ours:
	// they would be taken for what we say.
	room := maxDeadHeaders
	for _, h := range r.Headers {
		if topic.IsLetterHeader(h.Key) || h.Key == audit.HeaderResent || h.Key == audit.HeaderRedriven {
			continue
		}
		if room -= len(h.Key) + len(h.Value); room >= 0 {
			headers = append(headers, h)
		}
	}
	return &kgo.Record{Topic: topic.DeadLetter, Key: []byte(at.String()), Value: value, Headers: headers}
}

// marks gives what ingest heeds of a record's headers: one of each name, within
// bounds. They come along whatever else the producer sent.
func marks(headers []kgo.RecordHeader) (marks []kgo.RecordHeader) {
	last := map[string][]byte{}
	for _, h := range headers {
		switch h.Key {
		case audit.HeaderResent:
			last[h.Key] = h.Value[:min(len(h.Value), maxResent)]
		case audit.HeaderRedriven: // as eventID reads it
			if first, err := topic.ParsePosition(string(h.Value)); err == nil {
				last[h.Key] = []byte(first.String())
			}
		}
	}
	for _, key := range []string{audit.HeaderResent, audit.HeaderRedriven} {
		if value, ok := last[key]; ok {
			marks = append(marks, kgo.RecordHeader{Key: key, Value: value})
		}
	}
	return marks
}

// Bounds of a dead letter, in bytes: of the record's key, of the producer's
// headers, and of what HeaderResent says, where any value will do.
const (
	maxDeadKey     = 64 << 10
	maxDeadHeaders = 64 << 10
	maxResent      = 100
)

// bury writes dead letters and returns nil once all of them are on disk. It is
// called before the offset moves past them: if we die between the two, they are
// written again and folded by their key.
func (l *lane) bury(ctx context.Context, dead []deadLetter) error {
	messages := make([]*kgo.Record, 0, len(dead))
	for _, d := range dead {
		if d.record != nil {
			messages = append(messages, d.message(l.topicID))
		}
	}
	if len(messages) == 0 {
		return nil
	}
	return l.in.retry(ctx, "dead letters", l.at.String(), func(ctx context.Context) error {
		if err := l.in.client.ProduceSync(ctx, messages...).FirstErr(); err != nil {
			return fmt.Errorf("write %d dead letters: %w", len(messages), err)
		}
		return nil
	})
}
