// Package stored tells what of the topics of events and of API calls is stored:
// for each partition up to where (Positions), and for all of a kind up to when
// (CompleteUpTo).
//
// What counts is what the ingest group has committed, raised by what ingest has
// announced since. Dead letters count: they are settled. Ask before you read
// the table: what is said to be stored by then is seen by every statement that
// starts later.
package stored

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// DefaultSlack suits clocks that are kept in step and replicas that follow
// closely. A follower that sleeps is covered only by a slack of the brokers'
// replica.lag.time.max.ms (30 s by default) or more: until it leaves the
// in-sync set, a record that was appended is not yet below the end that is
// listed.
const DefaultSlack = time.Second

// Config of a Tracker.
type Config struct {
	Kafka kafka.Config
	// Group is the consumer group of ingest.
	Group string
	// Slack is taken off every watermark. It must cover how far this process's
	// clock may run ahead of a broker's, how far brokers' clocks may differ
	// (after a change of leader), and how long a record waits for its replicas
	// and a new topic for its place in the metadata: a record is stamped before
	// it can be seen. Zero is right only where one broker and this process
	// share a machine.
	Slack time.Duration
}

// Kind is what records are of.
type Kind int

// Kinds of records.
const (
	Events Kind = iota
	Calls
	kinds
)

// kindOf says what a topic carries; false when ingest does not store it.
func kindOf(name string) (Kind, bool) {
	if name == audit.APICallsTopic {
		return Calls, true
	}
	return Events, topic.IsEvents(name)
}

// Partition is a partition of one incarnation of a topic that ingest stores.
type Partition struct {
	Topic     string
	TopicID   uuid.UUID // a topic made anew has another
	Partition int32
}

func (p Partition) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Partition) }

// Tracker looks at Kafka. Safe for concurrent use.
type Tracker struct {
	cfg    Config
	client *kgo.Client
	admin  *kadm.Client
	ctx    context.Context // ends with Close
	close  context.CancelFunc
	heard  *heard
	done   sync.WaitGroup

	looks singleflight.Group
	known known // owned by the look under way

	mu   sync.Mutex
	last answer // guarded by mu
}

// Open makes a Tracker. It does not wait for Kafka: as long as that is away,
// the answers are errors. The caller closes the Tracker.
func Open(cfg Config, log *zap.Logger) (*Tracker, error) {
	cl, err := kgo.NewClient(cfg.Kafka.Options(log)...)
	if err != nil {
		return nil, fmt.Errorf("kafka %v: %w", cfg.Kafka.Addr, err)
	}
	// A client of its own: a fetch that waits for announcements would hold up
	// the look's own on the same connection.
	news, err := kgo.NewClient(append(cfg.Kafka.Options(log),
		kgo.ConsumeTopics(topic.Ingested), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))...)
	if err != nil {
		cl.Close()
		return nil, fmt.Errorf("kafka %v: %w", cfg.Kafka.Addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Tracker{cfg: cfg, client: cl, admin: kadm.NewClient(cl), ctx: ctx, close: cancel, heard: newHeard(), known: newKnown()}
	t.done.Go(func() {
		defer news.Close()
		t.heard.listen(ctx, news, log)
	})
	return t, nil
}

// Close ends the Tracker and whatever still waits for it.
func (t *Tracker) Close() {
	t.close()
	t.done.Wait()
	t.client.Close()
}

// Positions returns, for every partition of the topics that exist, the
// offset after the last record that is stored: 0 when nothing is. It asks Kafka
// each time.
func (t *Tracker) Positions(ctx context.Context) (map[Partition]int64, error) {
	leaders, err := t.partitions(ctx)
	if err != nil {
		return nil, err
	}
	return t.positions(ctx, leaders)
}

// partitions lists the partitions of the topics of every kind, with their
// leaders, as the brokers know them now.
func (t *Tracker) partitions(ctx context.Context) (map[Partition]int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, t.client)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	leaders := map[Partition]int32{}
	for _, mt := range resp.Topics {
		if mt.Topic == nil {
			continue
		}
		if _, ours := kindOf(*mt.Topic); !ours {
			continue
		}
		if err := kerr.ErrorForCode(mt.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %s: %w", *mt.Topic, err)
		}
		for _, p := range mt.Partitions {
			leaders[Partition{*mt.Topic, mt.TopicID, p.Partition}] = p.Leader
		}
	}
	return leaders, nil
}

// positions leaves the partitions at 0 that have no commit of their present
// incarnation.
func (t *Tracker) positions(ctx context.Context, leaders map[Partition]int32) (map[Partition]int64, error) {
	committed, err := t.admin.FetchOffsets(ctx, t.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // nothing was ever committed
		return nil, fmt.Errorf("read the offsets of group %s: %w", t.cfg.Group, err)
	}
	next := make(map[Partition]int64, len(leaders))
	for p := range leaders {
		c, _ := committed.Lookup(p.Topic, p.Partition)
		if c.Err != nil {
			return nil, fmt.Errorf("committed offset of %s: %w", p, c.Err)
		}
		next[p] = 0
		if ours(c.Metadata, p.TopicID) {
			next[p] = max(0, c.At)
		}
		if a, ok := t.heard.of(p); ok {
			next[p] = max(next[p], a.Next)
		}
	}
	return next, nil
}

// ours says that a commit belongs to this incarnation of its topic. One without
// metadata was made by an operator; ingest begins there, too.
func ours(metadata string, topicID uuid.UUID) bool {
	if metadata == "" {
		return true
	}
	of, _, err := ParseMarker(metadata)
	return err == nil && of == topicID
}
