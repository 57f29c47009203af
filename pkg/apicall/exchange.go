package apicall

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
)

// unknown is how much of an answer is left that did not say how long it is.
const unknown = -1

// exchange is the response writer of a call. It watches the answer, to know its
// status and to free the call's place before the last bytes go out. Owned by
// the goroutines of the handler, as every response writer.
type exchange struct {
	http.ResponseWriter
	run      Running
	head     bool  // the answer has no body, whatever its headers say
	hijacked bool  // the handler has the connection
	status   int   // of the answer; 0 until it is written
	left     int64 // how much of the body is to be written, or unknown
}

// Unwrap serves http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader keeps the status. Those from 100 to 199 but for 101 are not the
// answer's: more follow.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		x.begin(status)
	}
	x.ResponseWriter.WriteHeader(status)
}

// begin notes what the answer says about itself.
func (x *exchange) begin(status int) {
	x.status = status
	if x.head || status == http.StatusNoContent || status == http.StatusNotModified {
		x.left = 0
		return
	}
	if length := x.Header()["Content-Length"]; len(length) == 1 {
		if n, err := strconv.ParseInt(length[0], 10, 64); err == nil && n >= 0 {
			x.left = n
		}
	}
}

// wrote is called before n bytes go out.
func (x *exchange) wrote(n int) {
	if x.status == 0 {
		x.begin(http.StatusOK)
	}
	// The place is not free at the first byte of an answer to HEAD, which nobody
	// sends: whoever asks with HEAD would run as many calls as they like.
	if x.left == unknown || x.head {
		return
	}
	if x.left = max(0, x.left-int64(n)); x.left == 0 {
		x.run.release() // the client has all of it before the handler returns
	}
}

func (x *exchange) Write(p []byte) (int, error) {
	x.wrote(len(p))
	return x.ResponseWriter.Write(p)
}

// WriteString serves io.WriteString.
func (x *exchange) WriteString(s string) (int, error) {
	x.wrote(len(s))
	return io.WriteString(x.ResponseWriter, s)
}

// ReadFrom lets the kernel copy files, for calls without a place. One with a
// place sends through Write, to free it before the end.
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	if !x.run.unplaced {
		return io.Copy(struct{ io.Writer }{x}, src)
	}
	n, err := io.Copy(x.ResponseWriter, src)
	if n > 0 {
		x.wrote(int(n))
	}
	return n, err
}

// Flush serves handlers that look for an http.Flusher.
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError sends what was written.
func (x *exchange) FlushError() error {
	x.wrote(0)
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// Hijack gives the connection to the handler.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(x.ResponseWriter).Hijack()
	x.hijacked = x.hijacked || err == nil
	return conn, buf, err
}
