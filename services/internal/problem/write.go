package problem

import (
	"net/http"
	"strconv"
	"time"

	"github.com/segmentio/encoding/json"
	"go.uber.org/zap"
)

// ContentType is the media type of a problem document.
const ContentType = "application/problem+json"

// RequestIDHeader carries the request id, in both directions.
const RequestIDHeader = "X-Request-Id"

// internalDetail is all that a caller learns about an internal error.
const internalDetail = "Something went wrong on our side. Quote the request id when you report it."

// Document is the body of an answer. Type is "urn:auditrail:problem:" and the
// kind; the members from RequestID on are extensions.
type Document struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail,omitempty"`
	RequestID string      `json:"requestId,omitempty"`
	Errors    []Violation `json:"errors,omitempty"`
}

// Write answers a request with err as a problem document. The request id is
// the one that w's headers already carry. Internal errors are logged with
// their cause and told as one fixed sentence; unavailability is logged too.
// It must be the first write to w.
func Write(w http.ResponseWriter, r *http.Request, logger *zap.Logger, err error) {
	e := From(err)
	if e == nil {
		e = &Error{Kind: KindInternal}
	}
	status := e.HTTPStatus()
	doc := Document{
		Type:      "urn:auditrail:problem:" + e.Kind.String(),
		Title:     kinds[e.Kind.valid()].title,
		Status:    status,
		Detail:    e.Detail,
		RequestID: w.Header().Get(RequestIDHeader),
		Errors:    e.Violations,
	}
	if status != e.Kind.Status() {
		doc.Title = http.StatusText(status)
	}
	switch e.Kind.valid() {
	case KindInternal:
		doc.Detail, doc.Errors = internalDetail, nil
		logger.Error("request failed", zap.String("requestId", doc.RequestID), zap.String("path", r.URL.Path), zap.Error(err))
	case KindUnavailable:
		logger.Warn("request refused", zap.String("requestId", doc.RequestID), zap.String("path", r.URL.Path), zap.Error(err))
	case KindInvalid, KindUnauthenticated, KindForbidden, KindNotFound, KindConflict, KindTooMany:
		// The caller's doing: the access log has it.
	}
	body, merr := json.Append(nil, doc, 0)
	if merr != nil { // a Value that JSON cannot hold
		doc.Errors = nil
		body, _ = json.Append(nil, doc, 0)
	}
	h := w.Header()
	for name, values := range e.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that hung up is no error of ours
}
