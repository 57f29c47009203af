package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// rereadTimeout bounds one attempt to read records again.
	rereadTimeout = 30 * time.Second
	// rereadBytes bounds what one attempt holds: dead letters are written in
	// pieces of that size.
	rereadBytes = 1 << 20
)

// condemn writes dead letters for records of which the batch holds only rows,
// by offset, in order: it reads them again, piece by piece. A piece that is
// written stays so, whatever becomes of the next.
func (l *lane) condemn(ctx context.Context, b *batch, offsets []int64, reason string, why error) error {
	for len(offsets) > 0 {
		var records []*kgo.Record
		if err := l.in.retry(ctx, "read again", l.at.String(), func(ctx context.Context) (err error) {
			if records, err = l.reread(ctx, offsets); err != nil {
				return fmt.Errorf("read %d records of %s again: %w", len(offsets), l.at, err)
			}
			return nil
		}); err != nil {
			return err
		}
		dead := make([]deadLetter, len(records))
		for i, r := range records {
			dead[i] = deadLetter{record: r, reason: reason, err: why}
		}
		if err := l.bury(ctx, dead); err != nil {
			return err
		}
		for range dead {
			b.dead = append(b.dead, deadLetter{reason: reason}) // to be counted
		}
		offsets = offsets[len(records):]
	}
	return nil
}

// reread fetches the records at offsets, or the first ones of them, by a client
// of its own. One that Kafka does not have any more has no value. It returns
// one record at least, or an error.
func (l *lane) reread(ctx context.Context, offsets []int64) (records []*kgo.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, rereadTimeout)
	defer cancel()
	cl, err := kafka.Open(ctx, l.in.cfg.Kafka, l.in.log,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.at.topic: {l.at.partition: kgo.NewOffset().At(offsets[0])}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxBytes(rereadBytes), kgo.FetchMaxPartitionBytes(rereadBytes), kgo.MaxDecompressBatchBytes(int(decompressBytes)))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	gone := func(offset int64) *kgo.Record {
		return &kgo.Record{Topic: l.at.topic, Partition: l.at.partition, Offset: offset}
	}
	ids, err := topic.IDs(ctx, cl)
	if err != nil {
		return nil, err
	}
	if ids[l.at.topic] != l.topicID { // made anew: these are not its records
		for _, offset := range offsets {
			records = append(records, gone(offset))
		}
		return records, nil
	}
	for held := 0; len(records) < len(offsets) && held < rereadBytes; {
		fetches := cl.PollRecords(ctx, 1000)
		if err := fetches.Err(); err != nil {
			switch {
			case len(records) > 0: // the others are for the next attempt
				return records, nil
			case errors.Is(err, kerr.OffsetOutOfRange):
				return []*kgo.Record{gone(offsets[0])}, nil
			}
			return nil, err
		}
		for r := range fetches.RecordsAll() {
			for len(records) < len(offsets) && offsets[len(records)] < r.Offset {
				records = append(records, gone(offsets[len(records)]))
			}
			if len(records) < len(offsets) && offsets[len(records)] == r.Offset {
				records = append(records, alone(r))
				held += len(r.Value) + len(r.Key)
			}
		}
	}
	return records, nil
}

// alone copies a record, which shares its memory with the batch that it came in.
func alone(r *kgo.Record) *kgo.Record {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	c.Headers = slices.Clone(r.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return &c
}
