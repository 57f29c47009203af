//go:build !noengine && (linux || darwin)

package web

import (
	"bytes"
	"errors"
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
}

// reserved are URL parameters that are not settings.
var reserved = map[string]bool{
	"query": true, "database": true, "default_format": true, "user": true, "password": true,
	"query_id": true, "quota_key": true, "client_protocol_version": true, "stacktrace": true,
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
	if err := q.readText(v.Get("query"), r.Body); err != nil {
		return nil, err
	}
	writes := q.st.Kind == sqltext.KindCommand || q.st.Kind == sqltext.KindInsert
	if writes && r.Method != http.MethodPost && r.Method != http.MethodPut {
		return nil, chdb.Errorf(164, "READONLY", "Cannot execute query in readonly mode. For queries over HTTP, method %s implies readonly. You should use method POST for modifying queries.", r.Method)
	}
	return q, nil
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
	n, err := io.ReadFull(body, head)
	more := err == nil
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
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
			return err
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
