//go:build !noengine && (linux || darwin)

package web

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/session"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// How much of a request may be query text. ClickHouse's parser takes 256 KiB of
// SQL by default; what is longer holds data.
const (
	headText     = 256 << 10
	maxQueryText = 128 << 20
)

// request is a query as it came over HTTP.
type request struct {
	text     string
	st       sqltext.Statement
	data     io.Reader // what an INSERT takes: the rest of the body
	database string
	format   string // asked for outside the query; empty for none
	settings []session.Setting
	params   []chdb.Param
	// readOnly: the session writes nothing and reads no files or other servers.
	readOnly bool
}

// reserved are URL parameters that are not settings.
var reserved = map[string]bool{
	"query": true, "database": true, "default_format": true, "user": true, "password": true,
	"query_id": true, "quota_key": true, "client_protocol_version": true, "stacktrace": true,
	// How a server buffers its answer. Half a body never looks whole here anyway.
	"wait_end_of_query": true, "buffer_size": true, "send_progress_in_http_headers": true, "http_headers_progress_interval_ms": true,
}

// unsupported are URL parameters that change what the client reads or keeps.
var unsupported = []string{"session_id", "compress", "decompress", "role"}

func readRequest(r *http.Request) (*request, error) {
	v := r.URL.Query()
	for _, name := range unsupported {
		if x := v.Get(name); x != "" && x != "0" {
			return nil, chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "The embedded engine's HTTP interface has no %s.", name)
		}
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "The embedded engine's HTTP interface takes no Content-Encoding, got %s.", e)
	}
	q := &request{
		database: first(v.Get("database"), r.Header.Get("X-ClickHouse-Database")),
		format:   first(v.Get("default_format"), r.Header.Get("X-ClickHouse-Format")),
	}
	for name, values := range v {
		if param, ok := strings.CutPrefix(name, "param_"); ok {
			q.params = append(q.params, chdb.Param{Name: param, Value: values[0]})
		} else if !reserved[name] && !slices.Contains(unsupported, name) && values[0] != "" {
			q.settings = append(q.settings, session.Setting{Name: name, Value: values[0], Important: true})
		}
	}
	q.restrict(r.Method)
	if err := q.readText(v.Get("query"), r.Body); err != nil {
		return nil, err
	}
	writes := q.st.Kind == sqltext.KindCommand || q.st.Kind == sqltext.KindInsert
	if writes && r.Method != http.MethodPost && r.Method != http.MethodPut {
		return nil, chdb.Errorf(chdb.CodeReadonly, "READONLY", "Cannot execute query in readonly mode. For queries over HTTP, method %s implies readonly. You should use method POST for modifying queries.", r.Method)
	}
	if q.readOnly {
		if what := sqltext.OutsideCall(q.st.Text); what != "" {
			return nil, chdb.Errorf(chdb.CodeReadonly, "READONLY", "Cannot execute query in readonly mode: %s.", what)
		}
	}
	return q, nil
}

// restrict makes everything but POST and PUT read only, with the engine's own
// readonly=1: a GET is what a link does, so it must not reach files or other
// servers either. One SET brings it together with the other settings, which
// would be refused after it.
func (q *request) restrict(method string) {
	at := slices.IndexFunc(q.settings, func(s session.Setting) bool { return s.Name == "readonly" })
	if method != http.MethodPost && method != http.MethodPut {
		if at < 0 {
			at = len(q.settings)
			q.settings = append(q.settings, session.Setting{Name: "readonly", Important: true})
		}
		q.settings[at].Value = "1"
	}
	q.readOnly = at >= 0 && q.settings[at].Value != "0"
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// readText finds the query: the URL's with the body after it, or the body. Of an
// INSERT's data only the beginning is read here.
func (q *request) readText(inURL string, body io.Reader) error {
	head := make([]byte, headText)
	n, more, err := readPiece(body, head)
	if err != nil {
		return err
	}
	head = head[:n]
	if inURL != "" {
		if q.text = inURL; n > 0 {
			q.text += "\n"
		}
		if err := q.parse(inURL); err != nil {
			return err
		}
		if q.st.Kind == sqltext.KindInsert {
			q.data = io.MultiReader(strings.NewReader(strings.TrimLeft(inURL[q.st.Data:], " \t\r\n")), bytes.NewReader(head), body)
			return nil
		}
	} else if err := q.parse(string(head)); err != nil && !more {
		return err
	} else if err == nil && q.st.Kind == sqltext.KindInsert {
		q.data = io.MultiReader(bytes.NewReader(afterFormat(head[q.st.Data:])), body)
		return nil
	}
	if more {
		rest, err := io.ReadAll(io.LimitReader(body, maxQueryText+1))
		if err != nil {
			return cutShort(err)
		}
		if len(rest) > maxQueryText {
			return chdb.Errorf(chdb.CodeTooLarge, "TOO_LARGE_STRING_SIZE", "A query of more than %d bytes.", maxQueryText)
		}
		head = append(head, rest...)
	}
	if q.text += string(head); strings.TrimSpace(q.text) == "" {
		return chdb.Errorf(chdb.CodeSyntaxError, "SYNTAX_ERROR", "Empty query.")
	}
	return q.parse(q.text)
}

// readPiece fills buf, or reads to the end of the body: then more is false. Only
// io.EOF is the end; a body that was cut short is an error, at the end of a piece
// as anywhere.
func readPiece(body io.Reader, buf []byte) (n int, more bool, err error) {
	for n < len(buf) {
		k, err := body.Read(buf[n:])
		n += k
		if err == io.EOF {
			return n, false, nil
		}
		if err != nil {
			return n, false, cutShort(err)
		}
	}
	return n, true, nil
}

func cutShort(err error) error {
	return chdb.Errorf(chdb.CodeCannotReadAllData, "CANNOT_READ_ALL_DATA", "The request's body ended early: %s.", err)
}

func (q *request) parse(text string) (err error) {
	if q.st, err = sqltext.Parse(text); err != nil {
		return chdb.Errorf(chdb.CodeSyntaxError, "SYNTAX_ERROR", "%s.", err)
	}
	return nil
}

// afterFormat drops the blanks and the one line end between FORMAT X and its data.
func afterFormat(b []byte) []byte {
	b = bytes.TrimLeft(b, " \t\r")
	return bytes.TrimPrefix(b, []byte("\n"))
}

// credentials are the user and password of a request, from its headers or its URL.
func credentials(r *http.Request) (user, password string) {
	if user, password, ok := r.BasicAuth(); ok {
		return user, password
	}
	if user = r.Header.Get("X-ClickHouse-User"); user != "" {
		return user, r.Header.Get("X-ClickHouse-Key")
	}
	v := r.URL.Query()
	return v.Get("user"), v.Get("password")
}
