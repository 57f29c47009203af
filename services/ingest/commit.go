package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// ownership is the group membership under which partitions were assigned. It
// is captured once, at assignment, and every commit of the lane carries it: the
// broker refuses a commit whose generation has passed, so a lane that outlived
// its assignment cannot rewind the partition's new owner. The client's own
// commit calls would not do: they carry its current generation.
type ownership struct {
	member     string
	generation int32
}

// errNotOwner tells that the partition belongs to another member by now.
var errNotOwner = errors.New("the partition has another owner")

// committer groups the commits of all lanes into few requests.
type committer struct {
	client *kgo.Client
	group  string
	log    *zap.Logger
	asks   chan commitAsk
}

type commitAsk struct {
	owner     ownership
	topic     string
	topicID   uuid.UUID
	partition int32
	offset    int64
	metadata  string
	answer    chan error // buffered
}

const (
	// commitRetry is the pause before a commit is tried again.
	commitRetry = 100 * time.Millisecond
	// maxCommitsPerRequest keeps a request small when hundreds of lanes ask.
	maxCommitsPerRequest = 500
)

func newCommitter(client *kgo.Client, group string, log *zap.Logger) *committer {
	return &committer{client: client, group: group, log: log, asks: make(chan commitAsk)}
}

// commit stores an offset and what is pending behind it. It returns nil once the broker has the offset, errNotOwner when the
// captured ownership has passed, and ctx's error when that ends first. It
// repeats everything else for as long as ctx lives.
func (c *committer) commit(ctx context.Context, owner ownership, topic string, topicID uuid.UUID, partition int32, offset int64, pending *pendingRange) error {
	for {
		a := commitAsk{owner: owner, topic: topic, topicID: topicID, partition: partition, offset: offset, metadata: marker{topicID: topicID, pending: pending}.String(), answer: make(chan error, 1)}
		select {
		case c.asks <- a:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		select {
		case err = <-a.answer:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.StaleMemberEpoch):
			return fmt.Errorf("%w: %w", errNotOwner, err)
		}
		c.log.Warn("commit failed, will be repeated", zap.String("topic", topic), zap.Int32("partition", partition), zap.Int64("offset", offset), zap.Error(err))
		select {
		case <-time.After(commitRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run is the one commit loop. It ends with ctx.
func (c *committer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-c.asks:
			for owner, asks := range c.gather(first) {
				c.send(ctx, owner, asks)
			}
		}
	}
}

// gather takes what else waits at this moment, by ownership: a request carries
// one. There is more than one only while lanes of a passed ownership end.
func (c *committer) gather(first commitAsk) map[ownership][]commitAsk {
	asks := map[ownership][]commitAsk{first.owner: {first}}
	for range maxCommitsPerRequest {
		select {
		case a := <-c.asks:
			asks[a.owner] = append(asks[a.owner], a)
		default:
			return asks
		}
	}
	return asks
}

func (c *committer) send(ctx context.Context, owner ownership, asks []commitAsk) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = c.group, owner.member, owner.generation
	topics := map[uuid.UUID]int{}
	for _, a := range asks {
		i, ok := topics[a.topicID]
		if !ok {
			i = len(req.Topics)
			topics[a.topicID] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			// Both: since version 10 topics go by id, before by name. The
			// client picks the version.
			t.Topic, t.TopicID = a.topic, a.topicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.Metadata = a.partition, a.offset, &a.metadata
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, c.client)
	for _, a := range asks {
		if err != nil {
			a.answer <- err
			continue
		}
		a.answer <- answerFor(a, resp)
	}
}

// answerFor finds the error code of one partition. The request's own error is
// nil even when every partition was refused.
func answerFor(a commitAsk, resp *kmsg.OffsetCommitResponse) error {
	for _, t := range resp.Topics {
		if t.Topic != a.topic && uuid.UUID(t.TopicID) != a.topicID {
			continue
		}
		for _, p := range t.Partitions {
			if p.Partition == a.partition {
				return kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return fmt.Errorf("the broker's answer to the commit does not mention %s/%d", a.topic, a.partition)
}
