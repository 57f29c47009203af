package stored

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditrail/auditrail/services/internal/kafka"
)

// What ListOffsets may be asked for instead of a time.
const (
	latest   = -1 // the end: the offset after the last record that every replica has
	earliest = -2
)

// offsets lists one offset for each of the partitions.
func (t *Tracker) offsets(ctx context.Context, leaders map[Partition]int32, which int64) (map[Partition]int64, error) {
	offsets := make(map[Partition]int64, len(leaders))
	if len(leaders) == 0 {
		return offsets, nil
	}
	byTopic := map[string]*kmsg.ListOffsetsRequestTopic{}
	ids := map[string]uuid.UUID{}
	for p := range leaders {
		rt := byTopic[p.Topic]
		if rt == nil {
			rt = &kmsg.ListOffsetsRequestTopic{Topic: p.Topic}
			byTopic[p.Topic], ids[p.Topic] = rt, p.TopicID
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.Partition, which
		rt.Partitions = append(rt.Partitions, rp)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1 // a consumer
	for _, rt := range byTopic {
		req.Topics = append(req.Topics, *rt)
	}
	resp, err := req.RequestWith(ctx, t.client)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			p := Partition{rt.Topic, ids[rt.Topic], rp.Partition}
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				return nil, fmt.Errorf("list offsets of %s: %w", p, err)
			}
			offsets[p] = rp.Offset
		}
	}
	for p := range leaders {
		if _, ok := offsets[p]; !ok {
			return nil, fmt.Errorf("list offsets: the answer does not mention %s", p)
		}
	}
	return offsets, nil
}

// fetchBytes holds a whole batch: topics take 1 MiB, and a broker always sends
// the first batch whole.
const fetchBytes = 2 << 20

// appendTime returns the append time of the first record at offset or after,
// before end. found is false when there is none.
func (t *Tracker) appendTime(ctx context.Context, p Partition, leader int32, offset, end int64) (at time.Time, found bool, err error) {
	for offset < end {
		raw, err := kafka.FetchBatches(ctx, t.client.Broker(int(leader)), p.Topic, p.TopicID, p.Partition, offset, fetchBytes)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			return time.Time{}, false, fmt.Errorf("records were dropped by Kafka before they were stored: %w", err)
		}
		if err != nil {
			return time.Time{}, false, err
		}
		if len(raw) < batchHeader {
			return time.Time{}, false, errors.New("the broker sent no batch")
		}
		// A broker's answer may begin with batches before the offset.
		for len(raw) >= batchHeader {
			b := readBatch(raw)
			if b.last >= offset {
				if !b.control {
					return b.appendedAt, true, nil
				}
				offset = b.last + 1
			}
			raw = raw[min(int64(len(raw)), b.size):]
		}
	}
	return time.Time{}, false, nil
}

// batchHeader is how long the header of a record batch (format 2) is.
const batchHeader = 61

// batch is what a header says.
type batch struct {
	size       int64 // bytes, header included
	last       int64 // offset of the last record
	control    bool  // no records, but marks of a transaction
	appendedAt time.Time
}

// readBatch reads the header that raw begins with. Nothing is unpacked: all
// records of a batch were appended at once. Where the broker does not say that
// the times are its own, the first one is that of the embedded broker.
func readBatch(raw []byte) batch {
	number := func(at int) int64 { return int64(binary.BigEndian.Uint64(raw[at:])) }
	attributes := binary.BigEndian.Uint16(raw[21:])
	b := batch{
		size:    12 + int64(binary.BigEndian.Uint32(raw[8:])),
		last:    number(0) + int64(binary.BigEndian.Uint32(raw[23:])),
		control: attributes&0x20 != 0,
	}
	at := 27 // of the first record
	if attributes&0x08 != 0 {
		at = 35 // of the append
	}
	b.appendedAt = time.UnixMilli(number(at))
	return b
}
