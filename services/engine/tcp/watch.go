//go:build !noengine && (linux || darwin)

package tcp

import (
	"errors"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// watchEnd is what happened on the connection while a query ran.
type watchEnd uint8

const (
	watchQuiet     watchEnd = iota
	watchCancelled          // the client sent Cancel: the query was killed
	watchGone               // the connection is gone: the query was killed
)

// watcher looks at the client's side of the connection while a query runs, and
// kills the query when the client cancels or leaves. It owns c.in until stop.
type watcher struct {
	c    *conn
	done chan struct{} // closed by stop: the engine has returned
	wg   sync.WaitGroup
	end  watchEnd // owned by the goroutine until stop
}

func (c *conn) watch() *watcher {
	w := &watcher{c: c, done: make(chan struct{})}
	w.wg.Go(w.look)
	return w
}

func (w *watcher) look() {
	b, err := w.c.in.Peek(1)
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		return // stop
	case err != nil:
		w.end = watchGone
	case b[0] == clientCancel:
		w.end = watchCancelled
	default:
		return // the next query, sent ahead
	}
	if err := w.c.session.Kill(w.done); err != nil {
		w.c.log.Error("kill query", zap.Error(err))
	}
}

// stop ends the watch once the engine has returned. A killer still at work is
// waited for, so that it cannot hit the session's next query.
func (w *watcher) stop() watchEnd {
	close(w.done)
	_ = w.c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes look
	w.wg.Wait()
	_ = w.c.nc.SetReadDeadline(time.Time{})
	return w.end
}
