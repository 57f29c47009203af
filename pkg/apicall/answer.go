package apicall

import (
	"net/http"
	"strconv"

	"github.com/segmentio/encoding/json"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Codes of blocked calls, for clients that look for them: Config.Conflict.
const (
	CodeConcurrency = 1960
	CodeRate        = 1965
)

// retryAway is when to try again, in seconds, while counters are away.
const retryAway = 5

// setHeaders tells the client of its limits, as far as they are known: on every
// answer of a call that was counted, also of a blocked one.
func (run *Running) setHeaders(h http.Header) {
	if !run.counted {
		return
	}
	limit, usage := &run.limit, &run.decision.Usage
	// Two allocations for all of them.
	names, numbers := make([]string, 0, 6), make([]int64, 0, 6)
	if limit.Calls > 0 {
		names = append(names, "X-Ratelimit-Limit", "X-Ratelimit-Window-Sec", "X-Ratelimit-Remaining", "X-Ratelimit-Towait-Sec")
		numbers = append(numbers, int64(limit.Calls), seconds(limit.Window), int64(max(0, limit.Calls-usage.Calls)), seconds(usage.Wait))
	}
	if limit.Concurrency > 0 {
		names = append(names, "X-Concurrency-Limit-Limit", "X-Concurrency-Limit-Running")
		numbers = append(numbers, int64(limit.Concurrency), int64(usage.Running))
	}
	var room [6 * 20]byte
	var ends [6]int
	digits := room[:0]
	for i, n := range numbers {
		digits = strconv.AppendInt(digits, n, 10)
		ends[i] = len(digits)
	}
	text, values, begin := string(digits), make([]string, len(names)), 0
	for i, name := range names {
		values[i] = text[begin:ends[i]]
		h[name] = values[i : i+1 : i+1]
		begin = ends[i]
	}
}

// document is a problem document (RFC 9457) about a call that does not run.
// Limit and the members after it are extensions.
type document struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Limit     int    `json:"limit,omitempty"`     // how many calls may begin in the window, or run at a time
	WindowSec int64  `json:"windowSec,omitempty"` // of BlockedRate
	ToWaitSec int64  `json:"toWaitSec,omitempty"` // as Retry-After
	Code      int    `json:"code,omitempty"`      // Config.Conflict: CodeConcurrency or CodeRate
	RequestID string `json:"requestId,omitempty"`
}

// blockedStatus is what blocked calls are answered with.
func (c *Calls) blockedStatus() int {
	if c.cfg.Conflict {
		return http.StatusConflict
	}
	return http.StatusTooManyRequests
}

// refuse answers a call that does not run.
func (c *Calls) refuse(w http.ResponseWriter, run *Running, requestID string, err error) {
	var doc document
	switch err := err.(type) { //nolint:errorlint // begin wraps nothing
	case *BlockedError:
		run.setHeaders(w.Header())
		doc = c.blockedDocument(err)
	default:
		switch {
		case run.record.HTTPStatus == statusClientGone: // nobody is there to read it
			doc = document{Type: "unavailable", Title: "Unavailable", Status: http.StatusServiceUnavailable, Detail: "The call waited for a place until its time was over."}
		case err == ErrCountersAway: //nolint:errorlint // begin wraps nothing
			doc = document{Type: "unavailable", Title: "Unavailable", Status: http.StatusServiceUnavailable, ToWaitSec: retryAway,
				Detail: "The limits of calls cannot be checked right now, and calls run only within them. Try again."}
		default:
			c.cfg.Logger.Error("api call without a usable caller", zap.Error(err))
			doc = document{Type: "internal", Title: "Internal error", Status: http.StatusInternalServerError,
				Detail: "Something went wrong on our side. Quote the request id when you report it."}
		}
	}
	doc.RequestID = clean(requestID, audit.MaxNameBytes)
	doc.write(w)
}

func (c *Calls) blockedDocument(e *BlockedError) document {
	doc := document{
		Type: "tooMany", Title: "Too many requests", Status: c.blockedStatus(),
		Detail: e.Error(), ToWaitSec: seconds(e.RetryAfter()),
	}
	code := CodeConcurrency
	doc.Limit = e.Limit.Concurrency
	if e.By == BlockedRate {
		code = CodeRate
		doc.Limit, doc.WindowSec = e.Limit.Calls, seconds(e.Limit.Window)
	}
	if c.cfg.Conflict {
		doc.Title, doc.Code = http.StatusText(doc.Status), code
	}
	return doc
}

// write answers with the document. It is the first write to w.
func (doc *document) write(w http.ResponseWriter) {
	doc.Type = "urn:auditrail:problem:" + doc.Type
	body, err := json.Append(nil, doc, 0)
	if err != nil { // its strings are valid and its numbers whole
		body = nil
	}
	h := w.Header()
	if doc.ToWaitSec > 0 {
		h.Set("Retry-After", strconv.FormatInt(doc.ToWaitSec, 10))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(doc.Status)
	_, _ = w.Write(body) // a caller that hung up is no error of ours
}
