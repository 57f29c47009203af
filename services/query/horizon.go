package query

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/stored"
)

// horizonEvery is how often Kafka is asked up to when everything is stored. A
// search does not wait for the answer: an older one is right, too.
const horizonEvery = time.Second

// horizon follows the watermarks of package stored. Safe for concurrent use.
type horizon struct {
	events, calls atomic.Int64 // milliseconds since the Unix epoch; 0: nobody knows yet
	cancel        context.CancelFunc
	done          sync.WaitGroup
}

// follow starts following until close.
func (h *horizon) follow(tracker *stored.Tracker, log *zap.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.done.Go(func() {
		tick := time.NewTicker(horizonEvery)
		defer tick.Stop()
		for known := true; ; {
			events, err := tracker.CompleteUpTo(ctx, stored.Events)
			calls, errCalls := tracker.CompleteUpTo(ctx, stored.Calls) // of the same look, as a rule
			err = errors.Join(err, errCalls)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				h.events.Store(events.UnixMilli())
				h.calls.Store(calls.UnixMilli())
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

// completeUpTo is the JSON value of that name, for the records of a table. Ask before the statements: what
// is stored by then is seen by every statement that starts later.
func (h *horizon) completeUpTo(of *field.Table) string {
	upTo := &h.events
	if of == field.Calls {
		upTo = &h.calls
	}
	if ms := upTo.Load(); ms != 0 {
		return strconv.FormatInt(ms, 10)
	}
	return "null"
}
