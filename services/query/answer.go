package query

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
)

// How long a client may take to receive an answer, which is held in memory
// until then: writeGrace, and its size at the slowest rate that we serve.
const (
	writeGrace   = 10 * time.Second
	slowestWrite = 512 << 10 // bytes a second
)

// found is an answer's body, and how many events it is about. Without a body
// there is no such event.
type found struct {
	body   []byte
	events int64
	none   error // what is answered where there is no body
}

// errNoEvent is the same whether an event is not there or not for this caller
// to see.
var errNoEvent = problem.New(problem.KindNotFound, "There is no such event, or you may not see it.")

// answer waits for the turn of the caller's subscription to use ClickHouse,
// then sends the JSON that build makes. what says what was searched for, in the
// audit event where the subscription wants one: that is written first.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, id identity.Identity, what string, build func(context.Context) (found, error)) error {
	answer, release, err := s.build(r.Context(), id, build)
	if err != nil {
		return err
	}
	defer release()
	if err := s.auditSearch(r, id, what, answer.events); err != nil {
		return err
	}
	if answer.body == nil {
		return answer.none
	}
	return writeJSON(w, answer.body)
}

func (s *Service) build(ctx context.Context, id identity.Identity, build func(context.Context) (found, error)) (answer found, release func(), err error) {
	leave, err := s.engine.enter(ctx, id.CustomerUUID)
	if err != nil {
		return answer, nil, err
	}
	defer leave()
	if answer, err = build(ctx); err != nil {
		return answer, nil, err
	}
	// Before the place is left: what waits here is in memory too.
	release, err = s.engine.hold(ctx, id.CustomerUUID, int64(cap(answer.body)))
	return answer, release, err
}

// writeJSON writes a complete answer.
func writeJSON(w http.ResponseWriter, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTime(len(body)))) // test writers have none
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(body); err != nil || rc.Flush() != nil { //nolint:gosec // JSON, and said to be
		return nil // a client that hung up, or reads too slowly, is no error of ours
	}
	// The deadline is the connection's: its next answer must not meet it.
	_ = rc.SetWriteDeadline(time.Time{})
	return nil
}

// writeTime is how long sending an answer of n bytes may take.
func writeTime(n int) time.Duration {
	return writeGrace + time.Duration(n)*time.Second/slowestWrite
}
