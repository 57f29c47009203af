package apicall

import (
	"context"
	"fmt"
	"net/http"
)

// statusClientGone is the status of a call whose client hung up before it was
// answered; nobody is there to receive it.
const statusClientGone = 499

// Option is about the calls of one API.
type Option func(*handler)

// Unplaced lets the calls take no place among the concurrent ones: for streams,
// long polls and downloads, which are slow by nature.
func Unplaced() Option { return func(h *handler) { h.unplaced = true } }

// Unlimited lets the calls be listed, and never blocked.
func Unlimited() Option { return func(h *handler) { h.unlimited = true } }

// handler serves the calls of one API.
type handler struct {
	calls               *Calls
	api                 string
	next                http.Handler
	unplaced, unlimited bool
}

// Handler puts the limits of an API before next, and tells of its calls. Put it
// behind the authentication that Config.Caller looks for, and before whatever
// compresses or buffers answers.
//
// api is the name that limits and lists know, such as "api/v1/jobs/{id}"; it is
// as in Call. As http.ServeMux does with patterns, Handler panics when it is
// bad, and when Config.Caller is not set.
//
// A call that does not run is answered with a problem document (RFC 9457): 429,
// or 409 (Config.Conflict), when a limit blocks it, 503 when nobody knows
// (Config.FailClosed), with Retry-After. A handler that panics ends its call as
// Finished with 500, and the panic goes on.
func (c *Calls) Handler(api string, next http.Handler, opts ...Option) http.Handler {
	if err := checkAPI(api); err != nil {
		panic(fmt.Errorf("api calls: %w", err))
	}
	if c.cfg.Caller == nil {
		panic(errCallerUnset)
	}
	if c.exempt(api) {
		return next
	}
	h := &handler{calls: c, api: api, next: next}
	for _, opt := range opts {
		opt(h)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cfg := &h.calls.cfg
	caller, ok := cfg.Caller(r)
	if !ok {
		h.next.ServeHTTP(w, r)
		return
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	x := &exchange{ResponseWriter: w, head: method == http.MethodHead, left: unknown}
	call := Call{
		API: h.api, Caller: caller,
		Method: method, Client: sent(r, "User-Agent"), SourceIP: cfg.ClientAddress(r), RequestID: cfg.RequestID(r),
		Unplaced: h.unplaced, Unlimited: h.unlimited,
	}
	if err := h.calls.begin(r.Context(), &x.run, &call); err != nil {
		h.calls.refuse(w, &x.run, call.RequestID, err)
		return
	}
	x.run.setHeaders(w.Header())
	returned := false
	defer func() { //nolint:contextcheck // a place is given back also when the request is over
		v := recover()
		status, reason := x.outcome(r.Context(), returned, v)
		// The place is free before net/http sends the end of the answer, so that
		// a client that then calls again finds it free.
		x.run.End(status, reason)
		if v != nil {
			panic(v)
		}
	}()
	h.next.ServeHTTP(x, r)
	returned = true
}

// outcome is the status of the answer, and why it is odd if it is.
func (x *exchange) outcome(ctx context.Context, returned bool, v any) (status int, reason string) {
	gone := ctx.Err() != nil && x.left != 0
	switch {
	case !returned && gone && (v == nil || v == http.ErrAbortHandler): //nolint:errorlint // as net/http compares it
	case !returned:
		switch v {
		case nil:
			reason = "the handler ended its goroutine"
		case http.ErrAbortHandler:
			reason = "the handler cut the answer off"
		default:
			reason = "the handler panicked"
		}
		if x.status != 0 {
			reason += fmt.Sprintf(", after it had begun to answer %d", x.status)
		}
		return http.StatusInternalServerError, reason
	case x.hijacked:
		return x.status, "the handler took the connection over"
	case !gone && x.status == 0:
		return http.StatusOK, "" // what net/http answers for it
	case !gone:
		return x.status, ""
	}
	if x.status == 0 {
		return statusClientGone, "the client hung up before it was answered"
	}
	return x.status, "the client hung up before the answer was complete"
}
