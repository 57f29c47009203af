package query

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
)

// openAgain is the pause before Kafka is tried anew.
const openAgain = time.Second

// opening opens what needs Kafka in the background, so that the service starts
// while Kafka is away. Safe for concurrent use.
type opening struct {
	stop  context.CancelFunc
	ended chan struct{} // closed when the background is over
	read  chan struct{} // closed once it is open

	mu  sync.Mutex
	err error // why it is not open yet; guarded by mu
}

// startOpening calls open, which must heed its context, again and again until
// that works, or close is called. what names it in logs.
func startOpening(what string, open func(context.Context) error, log *zap.Logger) *opening {
	ctx, stop := context.WithCancel(context.Background())
	o := &opening{stop: stop, ended: make(chan struct{}), read: make(chan struct{}), err: errors.New("not read yet")}
	go o.run(ctx, what, open, log)
	return o
}

func (o *opening) run(ctx context.Context, what string, open func(context.Context) error, log *zap.Logger) {
	defer close(o.ended)
	for {
		err := open(ctx)
		if err == nil {
			close(o.read)
			return
		}
		if ctx.Err() != nil {
			return
		}
		log.Warn("cannot be read yet", zap.String("what", what), zap.Error(err))
		o.mu.Lock()
		o.err = err
		o.mu.Unlock()
		select {
		case <-time.After(openAgain):
		case <-ctx.Done():
			return
		}
	}
}

// end ends the background, and says whether it is open: the caller then closes
// what that is.
func (o *opening) end() (open bool) {
	o.stop()
	<-o.ended
	return o.ready(context.Background()) == nil
}

// ready is the readiness check: nil once it is open, and from then on.
func (o *opening) ready(context.Context) error {
	select {
	case <-o.read:
		return nil
	default:
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.err
	}
}
