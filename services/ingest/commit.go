package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
	asks   chan commitAsk
}

// commitAsk asks for one partition's offset to be committed.
type commitAsk struct {
	owner   ownership
	at      partitionID
	offset  int64
	marker  marker
	answers chan error // buffered
}

// maxCommitsPerRequest keeps a request small when hundreds of lanes ask.
const maxCommitsPerRequest = 500

func newCommitter(client *kgo.Client, group string) *committer {
	return &committer{client: client, group: group, asks: make(chan commitAsk)}
}

// commit stores an offset and what is pending behind it, one attempt. It
// returns nil once the broker has it, errNotOwner when the captured ownership
// has passed, and ctx's error when that ends first.
func (c *committer) commit(ctx context.Context, owner ownership, at partitionID, offset int64, m marker) error {
	ask := commitAsk{owner: owner, at: at, offset: offset, marker: m, answers: make(chan error, 1)}
	select {
	case c.asks <- ask:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-ask.answers:
		switch {
		case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.StaleMemberEpoch):
			return fmt.Errorf("%w: %w", errNotOwner, err)
		case err != nil:
			return fmt.Errorf("commit offset %d of %s: %w", offset, at, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
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
		i, ok := topics[a.marker.topicID]
		if !ok {
			i = len(req.Topics)
			topics[a.marker.topicID] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			// Both: since version 10 topics go by id, before by name. The
			// client picks the version.
			t.Topic, t.TopicID = a.at.topic, a.marker.topicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		metadata := a.marker.String()
		p.Partition, p.Offset, p.Metadata = a.at.partition, a.offset, &metadata
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, c.client)
	for _, a := range asks {
		if err != nil {
			a.answers <- err
			continue
		}
		a.answers <- answerFor(a, resp)
	}
}

// answerFor finds the error code of one partition. The request's own error is
// nil even when every partition was refused.
func answerFor(a commitAsk, resp *kmsg.OffsetCommitResponse) error {
	for _, t := range resp.Topics {
		if t.Topic != a.at.topic && uuid.UUID(t.TopicID) != a.marker.topicID {
			continue
		}
		for _, p := range t.Partitions {
			if p.Partition == a.at.partition {
				return kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return fmt.Errorf("the broker's answer to the commit does not mention %s", a.at)
}
