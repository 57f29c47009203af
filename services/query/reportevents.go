package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

const (
	// maxStreams is how many clients of a subscription may watch reports at a time
	// on one replica.
	maxStreams = 20
	// streamEvery is the least time between two events of a stream.
	streamEvery = 500 * time.Millisecond
	// streamAlive is how often a stream says that it lives.
	streamAlive = 15 * time.Second
)

// enter takes one of a subscription's places for streams. The error is a problem
// 429.
func (p *reports) enter(customerUUID string) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.streams[customerUUID]; n >= maxStreams {
		return nil, &problem.Error{
			Kind: problem.KindTooMany, RetryAfter: retryAfter,
			Detail: fmt.Sprintf("%d clients of your subscription watch reports; the limit is %d. Close one, or ask GET %s/{id} from time to time.", n, maxStreams, reportPath),
		}
	}
	p.streams[customerUUID]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.streams[customerUUID]--; p.streams[customerUUID] == 0 {
			delete(p.streams, customerUUID)
		}
	}, nil
}

// reportEvents answers GET /audit-log/admin/report/{id}/events with server-sent
// events: progress whenever the report has changed, and end once it is over, with
// how it stands. It also ends when the token expires and when the service stops;
// a client that comes back goes on from there. One that comes back behind the end
// gets 204, upon which browsers stop.
func (s *Service) reportEvents(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := noParameters(r); err != nil {
		return err
	}
	j, _, err := s.job(r, id)
	if err != nil {
		return err
	}
	if r.Header.Get("Last-Event-ID") == eventID(j) && j.State.Over() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	leave, err := s.reports.enter(id.CustomerUUID)
	if err != nil {
		return err
	}
	defer leave()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Connection", "close") // its write deadline must not meet another answer
	st := &stream{w: w, rc: http.NewResponseController(w)}
	return s.watch(r, st, j.ID)
}

// watch sends what becomes of a report until it is over.
func (s *Service) watch(r *http.Request, st *stream, id int64) error {
	changed, stop := s.reports.table.Watch()
	defer stop()
	alive := time.NewTicker(s.reports.alive)
	defer alive.Stop()
	sent := ""
	for {
		// Looked at behind the watch, and after each of its signals: nothing is missed.
		j := s.reports.table.Job(id)
		if s.verifier.Again(r) != nil {
			return nil
		}
		if j == nil {
			return st.send("end", "deleted", []byte(fmt.Sprintf(`{"reportId":%d,"deleted":true}`, id)))
		}
		if at := eventID(j); at != sent {
			body, err := json.Marshal(s.status(j, time.Now()))
			if err != nil {
				return err
			}
			name := "progress"
			if j.State.Over() {
				name = "end"
			}
			if err := st.send(name, at, body); err != nil || j.State.Over() {
				return err
			}
			sent = at
			if !s.pause(r.Context(), streamEvery) {
				return s.streamEnds(r)
			}
		}
		select {
		case <-changed:
		case <-alive.C:
			if err := st.write([]byte(": alive\n\n")); err != nil {
				return err
			}
		case <-s.stopping:
			return nil
		case <-r.Context().Done():
			return errClientGone
		}
	}
}

// pause waits, and is false when the wait was cut short.
func (s *Service) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-s.stopping:
	case <-ctx.Done():
	}
	return false
}

func (s *Service) streamEnds(r *http.Request) error {
	if r.Context().Err() != nil {
		return errClientGone
	}
	return nil // the service stops: the client comes back to another replica
}

// eventID changes whenever a report does.
func eventID(j *report.Job) string { return strconv.FormatInt(j.Last, 10) }

// stream is a stream of server-sent events. Owned by the request's goroutine.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// send sends an event. data is JSON, which has no line ends.
func (st *stream) send(name, id string, data []byte) error {
	return st.write(fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", id, name, data))
}

func (st *stream) write(b []byte) error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(writeTime(len(b)))) // test writers have none
	if _, err := st.w.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	if err := st.rc.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}
