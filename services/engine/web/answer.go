//go:build !noengine && (linux || darwin)

package web

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine/chdb"
)

// answer is a response. Its head goes out with the first byte of the body, so
// that an error before that still has a status of its own.
type answer struct {
	w           http.ResponseWriter
	log         *zap.Logger
	format      string
	contentType string
	begun       bool
	tag         string // tells an exception in the body from data
}

// goneError is an error of the connection: there is nobody to tell.
type goneError struct{ error }

func (e goneError) Unwrap() error { return e.error }

// begin sends the head of a success.
func (a *answer) begin() error {
	if a.begun {
		return nil
	}
	a.begun = true
	if a.contentType != "" {
		a.w.Header().Set("Content-Type", a.contentType)
	}
	if a.format != "" {
		a.w.Header().Set("X-ClickHouse-Format", a.format)
	}
	a.tag = strings.ToLower(rand.Text()[:16])
	a.w.Header().Set("X-ClickHouse-Exception-Tag", a.tag)
	a.w.WriteHeader(http.StatusOK)
	return nil
}

// write sends a piece of the body. It blocks while the client is behind.
func (a *answer) write(b []byte) error {
	if err := a.begin(); err != nil {
		return err
	}
	if _, err := a.w.Write(b); err != nil { //nolint:gosec // the result of the caller's own query
		return goneError{err}
	}
	return nil
}

// file sends a body of known length.
func (a *answer) file(f io.Reader, size int64) error {
	a.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if err := a.begin(); err != nil {
		return err
	}
	if _, err := io.CopyN(a.w, f, size); err != nil {
		return goneError{err}
	}
	return nil
}

// fail answers with an exception. In the middle of a body it is appended between
// marks with the answer's tag, as ClickHouse does, and the connection is broken
// off, so that nobody takes the body for complete.
func (a *answer) fail(err error) {
	var gone goneError
	if errors.As(err, &gone) {
		panic(http.ErrAbortHandler)
	}
	var e *chdb.Error
	if !errors.As(err, &e) {
		a.log.Warn("http query", zap.Error(err))
		e = &chdb.Error{Code: chdb.CodeStdException, Message: err.Error()}
	}
	text := fmt.Sprintf("Code: %d. DB::Exception: %s\n", e.Code, e.Message)
	if a.begun {
		const mark = "\r\n__exception__\r\n"
		_, _ = fmt.Fprintf(a.w, "%s%s\r\n%s%d %s%s", mark, a.tag, text, len(text), a.tag, mark)
		_ = http.NewResponseController(a.w).Flush() // or the text is lost with the connection
		panic(http.ErrAbortHandler)
	}
	a.begun = true
	h := a.w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", typeText)
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(int(e.Code)))
	a.w.WriteHeader(status(e.Code))
	_, _ = io.WriteString(a.w, text)
}

// statuses are the codes whose status is not 500, as ClickHouse maps them.
var statuses = map[int32]int{
	6: 400, 16: 404, 26: 400, 27: 400, chdb.CodeCannotReadAllData: 400, 36: 400, 38: 400, 41: 400, 42: 400, 43: 400, 46: 404, 47: 404, 48: 501, 50: 404,
	53: 400, 57: 400, 60: 404, 62: 400, 63: 404, 73: 404, 81: 404, 82: 400, 115: 404, 117: 400, 130: 400, 131: 413,
	159: http.StatusRequestTimeout, chdb.CodeReadonly: 403, chdb.CodeTooManyQueries: 503, 456: 400, 457: 400, 497: 403, chdb.CodeAuthenticationError: 403,
}

func status(code int32) int {
	if s, ok := statuses[code]; ok {
		return s
	}
	return http.StatusInternalServerError
}
