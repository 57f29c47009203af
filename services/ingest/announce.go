package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// announcePause is between two rounds of announcements: of what a
	// partition has to say meanwhile, the latest counts.
	announcePause = 50 * time.Millisecond
	// announceTimeout bounds a round: later ones say more.
	announceTimeout = 5 * time.Second
)

// announcer tells on a topic what is stored. No lane waits for it, and no lane
// fails with it: who misses an announcement sees the commit. Safe for
// concurrent use.
type announcer struct {
	client *kgo.Client
	log    *zap.Logger
	failed prometheus.Counter
	wake   chan struct{} // has a token when there may be news

	mu   sync.Mutex
	news map[partitionID]topic.Announcement // guarded by mu
}

func newAnnouncer(log *zap.Logger, failed prometheus.Counter) *announcer {
	return &announcer{log: log, failed: failed, wake: make(chan struct{}, 1), news: map[partitionID]topic.Announcement{}}
}

// tell announces that everything of the lane's partition up to a record is
// stored. To be called only once that is acknowledged: it is then true, even of
// a lane that is no longer the owner.
func (a *announcer) tell(l *lane, b *batch) {
	a.mu.Lock()
	a.news[l.at] = topic.Announcement{Topic: l.at.topic, TopicID: l.topicID, Partition: l.at.partition, Next: b.last + 1, AppendedAt: b.appendedAt}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run sends what there is to tell until ctx ends.
func (a *announcer) run(ctx context.Context) {
	for {
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
		if rs := a.take(); len(rs) > 0 {
			a.send(ctx, rs)
		}
		select {
		case <-time.After(announcePause):
		case <-ctx.Done():
			return
		}
	}
}

func (a *announcer) take() []*kgo.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	rs := make([]*kgo.Record, 0, len(a.news))
	for _, n := range a.news {
		rs = append(rs, &kgo.Record{Topic: topic.Ingested, Key: n.Key(), Value: n.Value()})
	}
	clear(a.news)
	return rs
}

func (a *announcer) send(ctx context.Context, rs []*kgo.Record) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	for _, r := range a.client.ProduceSync(ctx, rs...) {
		if r.Err != nil {
			a.failed.Inc()
			a.log.Warn("announcement of what is stored failed; readers see it with the next commit", zap.Error(r.Err))
		}
	}
}
