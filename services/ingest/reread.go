package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
)

// condemn adds dead letters for records of which the batch holds only rows: it
// reads them again. One that Kafka has dropped meanwhile has no value any more.
func (l *lane) condemn(ctx context.Context, b *batch, offsets []int64, reason string, why error) error {
	if len(offsets) == 0 {
		return nil
	}
	return l.in.retry(ctx, "read again", l.at.String(), func(ctx context.Context) error {
		records, err := l.in.reread(ctx, l.at, offsets)
		if err != nil {
			return fmt.Errorf("read %d records of %s again: %w", len(offsets), l.at, err)
		}
		for _, r := range records {
			b.dead = append(b.dead, deadLetter{record: r, reason: reason, err: why})
		}
		return nil
	})
}

// rereadTimeout bounds one attempt to read records again.
const rereadTimeout = 30 * time.Second

// reread fetches single records, by a client of its own.
func (in *ingest) reread(ctx context.Context, at partitionID, offsets []int64) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, rereadTimeout)
	defer cancel()
	cl, err := kafka.Open(ctx, in.cfg.Kafka, in.log,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.topic: {at.partition: kgo.NewOffset().At(offsets[0])}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.MaxDecompressBatchBytes(int(decompressBytes)))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	records := make([]*kgo.Record, 0, len(offsets))
	for i, offset := range offsets {
		if i > 0 {
			cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.topic: {at.partition: {Epoch: -1, Offset: offset}}})
		}
		r, err := firstOf(ctx, cl, offset)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			r, err = &kgo.Record{Topic: at.topic, Partition: at.partition, Offset: offset}, nil
		}
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// firstOf waits for the record at an offset that the client has been set to.
func firstOf(ctx context.Context, cl *kgo.Client, offset int64) (*kgo.Record, error) {
	for {
		fetches := cl.PollRecords(ctx, 1)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for r := range fetches.RecordsAll() {
			if r.Offset == offset {
				return r, nil
			}
		}
	}
}

// packed is a batch of records that unpacks to more than we unpack. It stands
// for its records, as the record at its last offset.
type packed struct{ first, last int64 }

func (p *packed) Error() string {
	return fmt.Sprintf("the batch of records %d to %d unpacks to more than %s, the most that is unpacked; its records were not looked at", p.first, p.last, decompressBytes)
}

type packedKey struct{}

// packedOf says which batch a record stands for, nil for a record proper.
func packedOf(r *kgo.Record) *packed {
	if r.Context == nil {
		return nil
	}
	p, _ := r.Context.Value(packedKey{}).(*packed)
	return p
}

// passOver gives the lane a record that stands for a batch that is too large
// to unpack, with the packed bytes as its value, and has the client go on after
// it. If the batch cannot be read now, the client comes across it again.
func (in *ingest) passOver(ctx context.Context, tooLarge *kgo.ErrDecompressTooLarge) {
	at := partitionID{tooLarge.Topic, tooLarge.Partition}
	next := tooLarge.Offset
	r, err := in.readPacked(ctx, at, tooLarge)
	if err != nil {
		in.health.failed("fetch", at.String(), err)
		in.repeats.Error("read a batch that unpacks to too much", zap.String("topic", at.topic), zap.Int32("partition", at.partition), zap.Error(err))
	} else {
		in.health.ok("fetch", at.String())
		in.dispatch(kgo.FetchTopicPartition{Topic: at.topic, FetchPartition: kgo.FetchPartition{Partition: at.partition, Records: []*kgo.Record{r}, HighWatermark: tooLarge.NextOffset}})
		next = tooLarge.NextOffset
	}
	in.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.topic: {at.partition: {Epoch: tooLarge.Epoch, Offset: next}}})
}

// readPacked fetches the bytes of a batch without unpacking it.
func (in *ingest) readPacked(ctx context.Context, at partitionID, tooLarge *kgo.ErrDecompressTooLarge) (*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, rereadTimeout)
	defer cancel()
	topics, err := in.admin.Metadata(ctx, at.topic)
	if err != nil {
		return nil, err
	}
	t := topics.Topics[at.topic]
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 1000, 1, fetchBytes
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = at.topic, t.ID
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = at.partition, tooLarge.Offset, 1
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, in.client.Broker(int(t.Partitions[at.partition].Leader)))
	if err != nil {
		return nil, err
	}
	if len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
		return nil, fmt.Errorf("the broker's answer does not mention %s", at)
	}
	answer := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	var b kmsg.RecordBatch
	if err := b.ReadFrom(answer.RecordBatches); err != nil {
		return nil, fmt.Errorf("read the batch at offset %d: %w", tooLarge.Offset, err)
	}
	r := &kgo.Record{Topic: at.topic, Partition: at.partition, Offset: tooLarge.NextOffset - 1, Timestamp: time.UnixMilli(b.MaxTimestamp)}
	r.Value = answer.RecordBatches[:min(len(answer.RecordBatches), batchHeader+int(b.Length))]
	r.Context = context.WithValue(context.Background(), packedKey{}, &packed{first: tooLarge.Offset, last: tooLarge.NextOffset - 1})
	return r, nil
}

// batchHeader is what stands before the part of a record batch that its length
// counts: its first offset and the length itself.
const batchHeader = 12
