package stored

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// heard keeps the highest announcement of each partition since the start. An
// announcement that is missed is made up for by the next commit. Safe for
// concurrent use.
type heard struct {
	mu   sync.Mutex
	high map[announced]topic.Announcement // guarded by mu
}

// announced is a partition by what offsets depend on: topics are made anew.
type announced struct {
	topicID   uuid.UUID
	partition int32
}

func newHeard() *heard { return &heard{high: map[announced]topic.Announcement{}} }

// listen takes in announcements until ctx ends.
func (h *heard) listen(ctx context.Context, cl *kgo.Client, log *zap.Logger) {
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			log.Debug("announcements of ingest are not heard", zap.Error(err))
		})
		fetches.EachRecord(func(r *kgo.Record) {
			var a topic.Announcement
			if json.Unmarshal(r.Value, &a) == nil {
				h.take(a)
			}
		})
	}
}

func (h *heard) take(a topic.Announcement) {
	key := announced{a.TopicID, a.Partition}
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Next > h.high[key].Next {
		h.high[key] = a
	}
}

func (h *heard) of(p Partition) (topic.Announcement, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.high[announced{p.TopicID, p.Partition}]
	return a, ok
}

// keep forgets the partitions that no longer exist.
func (h *heard) keep(leaders map[Partition]int32) {
	exist := make(map[announced]struct{}, len(leaders))
	for p := range leaders {
		exist[announced{p.TopicID, p.Partition}] = struct{}{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.high {
		if _, ok := exist[key]; !ok {
			delete(h.high, key)
		}
	}
}
