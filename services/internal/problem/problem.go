// Package problem holds the kinds of errors that a caller may be told about,
// and the one place that turns an error into an HTTP answer: a problem
// document as RFC 9457 describes it. Services make these errors anywhere and
// write them only at the HTTP edge.
package problem

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kind says what sort of error it is. Every kind has one HTTP status, unless
// the error asks for another one.
type Kind int

// Kinds. The zero value is KindInternal, so that a forgotten kind leaks
// nothing.
const (
	KindInternal        Kind = iota // 500: our fault; the detail is a fixed sentence
	KindInvalid                     // 400: the request breaks a rule
	KindUnauthenticated             // 401: no token, or one that does not hold
	KindForbidden                   // 403: known caller, not allowed
	KindNotFound                    // 404: absent, or not for this caller to know of
	KindConflict                    // 409: the state does not allow it
	KindTooMany                     // 429: the caller is over a limit of its own
	KindUnavailable                 // 503: something we need is away or busy; try again
)

// kinds describes each Kind; the index is the Kind.
var kinds = [...]struct {
	name   string
	status int
	title  string
}{
	KindInternal:        {"internal", http.StatusInternalServerError, "Internal error"},
	KindInvalid:         {"invalid", http.StatusBadRequest, "Invalid request"},
	KindUnauthenticated: {"unauthenticated", http.StatusUnauthorized, "Not authenticated"},
	KindForbidden:       {"forbidden", http.StatusForbidden, "Not allowed"},
	KindNotFound:        {"notFound", http.StatusNotFound, "Not found"},
	KindConflict:        {"conflict", http.StatusConflict, "Conflict"},
	KindTooMany:         {"tooMany", http.StatusTooManyRequests, "Too many requests"},
	KindUnavailable:     {"unavailable", http.StatusServiceUnavailable, "Unavailable"},
}

func (k Kind) valid() Kind {
	if k < 0 || int(k) >= len(kinds) {
		return KindInternal
	}
	return k
}

// String returns the name used in problem documents, such as "notFound".
func (k Kind) String() string { return kinds[k.valid()].name }

// Status returns the kind's HTTP status.
func (k Kind) Status() int { return kinds[k.valid()].status }

// Violation is one broken rule of a request.
type Violation struct {
	// Field names the request's member, or its header.
	Field string `json:"field"`
	// Value is what came, shortened; absent when there was none.
	Value any `json:"value,omitempty"`
	// Limit is the rule that was broken, such as "1-200"; may be empty.
	Limit string `json:"limit,omitempty"`
	// Message says what is wrong and how to put it right.
	Message string `json:"message"`
	// Line and Column, from 1, say where in a query text; 0 elsewhere.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Example is a query, or a part of one, that would do; may be empty.
	Example string `json:"example,omitempty"`
}

// Error is an error that a caller may be told about. Everything but the cause
// travels to the caller; the cause is for the log alone.
type Error struct {
	Kind   Kind
	Detail string // a sentence or two for people
	// Violations lists every broken rule of an invalid request.
	Violations []Violation
	// Status overrides the kind's HTTP status; 0 keeps it.
	Status int
	// RetryAfter, when positive, says when to try again.
	RetryAfter time.Duration
	// Header is added to the answer, such as Allow; may be nil.
	Header http.Header
	// Cause is the error behind it; never told to the caller.
	Cause error
}

// New makes an error of a kind.
func New(kind Kind, detail string) *Error { return &Error{Kind: kind, Detail: detail} }

// Newf is New with a format.
func Newf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Invalid makes the error of a request that breaks rules: all of them.
func Invalid(violations ...Violation) *Error {
	messages := make([]string, len(violations))
	for i, v := range violations {
		messages[i] = v.Field + ": " + v.Message
	}
	return &Error{Kind: KindInvalid, Detail: strings.Join(messages, "; ") + ".", Violations: violations}
}

// Error tells kind, detail and cause: for logs, not for callers.
func (e *Error) Error() string {
	s := e.Kind.String() + ": " + e.Detail
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// HTTPStatus returns the status that the error is answered with.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return e.Kind.Status()
}

// From returns err as an Error: itself when it is or wraps one, else an
// internal error with err as its cause. Nil stays nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: KindInternal, Cause: err}
}

// maxValue bounds what of a caller's value is said back, in bytes.
const maxValue = 64

// Shorten makes a caller's text fit to be said back: cut at a character, with
// an ellipsis, and without broken UTF-8.
func Shorten(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxValue {
		return s
	}
	return strings.ToValidUTF8(s[:maxValue], "") + "..."
}
