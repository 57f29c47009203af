package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
)

// A batch of records that unpacks to more than decompressBytes is not unpacked.
// The client stops at it; we fetch its packed bytes, hand them to the lane as
// one record that becomes a dead letter, and have the client go on behind it.

const (
	// readPackedTimeout bounds one attempt to fetch such a batch: meanwhile no
	// other partition is served, and no rebalance goes on.
	readPackedTimeout = 2 * time.Second
	// stuckAfter is how long a partition that is fetched again after a pause
	// may be silent before the client is told once more where to go on: it
	// forgets that it has stopped at a batch when the partition was paused.
	stuckAfter = 3 * time.Second
	// attendEvery is how often the poll loop looks after such partitions.
	attendEvery = 500 * time.Millisecond
)

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

// stops are partitions at which the client has stopped, or may have. Owned by
// the poll loop, which calls attend before it allows a rebalance: whoever has
// the partition then still has it when its offset is set.
type stops map[partitionID]stop

// stop is a batch that is too large, and the lane that came across it.
type stop struct {
	lane  *lane
	batch *kgo.ErrDecompressTooLarge
}

func (in *ingest) laneOf(at partitionID) *lane {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.lanes[at]
}

// add notes that the client has stopped at a batch.
func (s stops) add(in *ingest, batch *kgo.ErrDecompressTooLarge) {
	at := partitionID{batch.Topic, batch.Partition}
	if l := in.laneOf(at); l != nil {
		s[at] = stop{lane: l, batch: batch}
	}
}

// attend passes over the batches at which the client has stopped, and wakes
// partitions that are silent since they were resumed. It returns whether there
// is more to look after.
func (s stops) attend(ctx context.Context, in *ingest) (more bool) {
	for at, stop := range s {
		if in.laneOf(at) != stop.lane || in.passOver(ctx, stop.batch) {
			delete(s, at) // moved: whoever has it comes across it again
		}
	}
	silent, more := in.silent()
	for at, offset := range silent {
		if _, ok := s[at]; !ok {
			in.setOffset(at, offset)
		}
	}
	return more || len(s) > 0
}

// setOffset has the client go on at an offset. The epoch is unknown on purpose:
// the client takes an equal position for nothing to do.
func (in *ingest) setOffset(at partitionID, offset int64) {
	in.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.topic: {at.partition: {Epoch: -1, Offset: offset}}})
}

// silent lists partitions that have brought nothing for long since they were
// resumed, and where they go on. more says that others may be listed later.
func (in *ingest) silent() (at map[partitionID]int64, more bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	at, more = map[partitionID]int64{}, len(in.paused) > 0
	for p, since := range in.resumed {
		if time.Since(since) < stuckAfter {
			more = true
			continue
		}
		delete(in.resumed, p)
		if l := in.lanes[p]; l != nil && l.pushed.Load() > 0 {
			at[p] = l.pushed.Load()
		}
	}
	return at, more
}

// passOver gives the lane the record that stands for a batch and has the client
// go on behind it, one attempt.
func (in *ingest) passOver(ctx context.Context, batch *kgo.ErrDecompressTooLarge) bool {
	at := partitionID{batch.Topic, batch.Partition}
	r, err := in.readPacked(ctx, at, batch)
	if err != nil {
		in.health.failed("fetch", at.String(), err)
		in.repeats.Error("read a batch that unpacks to too much", zap.String("topic", at.topic), zap.Int32("partition", at.partition), zap.Error(err))
		return false
	}
	in.health.ok("fetch", at.String())
	in.dispatch(kgo.FetchTopicPartition{Topic: at.topic, FetchPartition: kgo.FetchPartition{Partition: at.partition, Records: []*kgo.Record{r}, HighWatermark: batch.NextOffset}})
	in.setOffset(at, batch.NextOffset)
	return true
}

// readPacked fetches the bytes of a batch without unpacking it.
func (in *ingest) readPacked(ctx context.Context, at partitionID, want *kgo.ErrDecompressTooLarge) (*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, readPackedTimeout)
	defer cancel()
	topics, err := in.admin.Metadata(ctx, at.topic)
	if err != nil {
		return nil, err
	}
	t := topics.Topics[at.topic]
	raw, err := kafka.FetchBatches(ctx, in.client.Broker(int(t.Partitions[at.partition].Leader)), at.topic, uuid.UUID(t.ID), at.partition, want.Offset, 1) // that batch alone
	if err != nil {
		return nil, err
	}
	var b kmsg.RecordBatch
	if err := b.ReadFrom(raw); err != nil {
		return nil, fmt.Errorf("read the batch at offset %d: %w", want.Offset, err)
	}
	if b.FirstOffset != want.Offset || b.FirstOffset+int64(b.LastOffsetDelta)+1 != want.NextOffset {
		return nil, fmt.Errorf("the batch at offset %d of %s is not the one that was too large", want.Offset, at)
	}
	r := &kgo.Record{Topic: at.topic, Partition: at.partition, Offset: want.NextOffset - 1, Timestamp: time.UnixMilli(b.MaxTimestamp)}
	r.Value = raw[:min(len(raw), batchHeader+int(b.Length))]
	r.Context = context.WithValue(context.Background(), packedKey{}, &packed{first: want.Offset, last: want.NextOffset - 1})
	return r, nil
}

// batchHeader is what stands before the part of a record batch that its length
// counts: its first offset and the length itself.
const batchHeader = 12
