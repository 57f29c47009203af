package query

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/stored"
)

// horizonEvery is how often Kafka is asked up to when everything is stored. A
// search does not wait for the answer: an older one is right, too.
const horizonEvery = time.Second

// horizon follows the watermark of package stored. Safe for concurrent use.
type horizon struct {
	upTo   atomic.Int64 // milliseconds since the Unix epoch; 0: nobody knows yet
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// follow starts following until close.
func (h *horizon) follow(tracker *stored.Tracker, log *zap.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.done.Go(func() {
		tick := time.NewTicker(horizonEvery)
		defer tick.Stop()
		for known := true; ; {
			at, err := tracker.CompleteUpTo(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				h.upTo.Store(at.UnixMilli())
			case known:
				log.Warn("up to when everything is stored is not known", zap.Error(err))
			}
			known = err == nil
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (h *horizon) close() {
	h.cancel()
	h.done.Wait()
}

// completeUpTo is the JSON value of that name. Ask before the statements: what
// is stored by then is seen by every statement that starts later.
func (h *horizon) completeUpTo() string {
	if ms := h.upTo.Load(); ms != 0 {
		return strconv.FormatInt(ms, 10)
	}
	return "null"
}
