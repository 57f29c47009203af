package kafka

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FetchBatches returns record batches of a partition as they are on its leader's
// disk, packed or not: from the one with the offset on, which comes whole, to
// the last that ends within maxBytes, or a part of the next. It does not wait
// for records: where there are none it returns nothing.
func FetchBatches(ctx context.Context, leader *kgo.Broker, topic string, topicID uuid.UUID, partition int32, offset int64, maxBytes int32) ([]byte, error) {
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, maxBytes
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, topicID // by name or by id: the client picks the version
	rt.Partitions = append(rt.Partitions, rp)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 1, maxBytes
	req.Topics = append(req.Topics, rt)
	kresp, err := leader.RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			return rp.RecordBatches, kerr.ErrorForCode(rp.ErrorCode)
		}
	}
	return nil, errors.New("the broker's answer is empty")
}
