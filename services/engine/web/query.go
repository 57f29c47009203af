//go:build !noengine && (linux || darwin)

package web

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/session"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// defaultFormat is ClickHouse's.
const defaultFormat = "TabSeparated"

// root runs a query, or says that the server is there.
func (s *Server) root(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		http.Error(w, "The embedded engine stops.", http.StatusServiceUnavailable)
		return
	}
	defer s.requests.Done()
	if r.Method == http.MethodGet && r.URL.RawQuery == "" {
		s.ping(w, r)
		return
	}
	a := &answer{w: w, log: s.Log}
	if err := s.Login.Check(credentials(r)); err != nil {
		a.fail(err)
		return
	}
	q, err := readRequest(r)
	if err != nil {
		a.fail(err)
		return
	}
	if err := s.run(r.Context(), a, q); err != nil {
		a.fail(err)
	}
}

// run gives the request a session of its own.
func (s *Server) run(ctx context.Context, a *answer, q *request) error {
	ses, err := s.Sessions.New(q.database)
	if err != nil {
		return err
	}
	defer ses.Close()
	if err := ses.Apply(q.settings); err != nil {
		return err
	}
	if q.st.Kind == sqltext.KindInsert {
		return insert(a, ses, q) // not killed: Shutdown lets it end
	}
	defer s.killOnDone(ctx, ses)()
	a.format = first(q.st.Format, first(q.format, defaultFormat))
	f := formatOf(a.format)
	a.contentType = f.contentType
	switch {
	case q.st.Kind == sqltext.KindSelect && f.join == joinFile && !q.readOnly:
		return s.throughFile(a, ses, q)
	case q.st.Kind == sqltext.KindSelect && f.join == joinFile:
		// A read-only session writes no file either: the result is in memory.
	case q.st.Kind == sqltext.KindSelect:
		return stream(a, ses, q, f)
	}
	out, err := ses.Conn().Query(ses.Command(q.text, q.st), a.format, q.params...)
	if err != nil {
		return err
	}
	defer out.Free()
	return a.write(out.Bytes())
}

// killOnDone kills the session's query when ctx is done: the client is gone, or
// the server stops. The returned function ends that, after the query.
func (s *Server) killOnDone(ctx context.Context, ses *session.Session) func() {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-done:
		case <-ctx.Done():
			if err := ses.Kill(done); err != nil {
				s.Log.Error("kill query", zap.Error(err))
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// stream passes pieces on as the engine makes them: one is in memory at a time,
// and a slow reader slows the engine.
func stream(a *answer, ses *session.Session, q *request, f format) error {
	st, err := ses.Conn().Stream(ses.Tagged(q.st.Text), a.format, q.params...)
	if err != nil {
		return err
	}
	pieces, err := fetch(a, st, f)
	st.Free()
	switch {
	case err != nil:
		return err
	case pieces > 0 || f.join != joinHeader:
		return a.begin()
	}
	// No rows, no pieces: the same statement, not streamed, has the header.
	out, err := ses.Conn().Query(ses.Command(q.text, q.st), a.format, q.params...)
	if err != nil {
		return err
	}
	defer out.Free()
	return a.write(out.Bytes())
}

// fetch sends the pieces. The engine makes one while the one before is sent.
func fetch(a *answer, st *chdb.Stream, f format) (n int, err error) {
	pieces, failed := make(chan *chdb.Result), make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		defer close(pieces)
		for {
			piece, err := st.Fetch()
			if piece == nil || err != nil {
				failed <- err
				return
			}
			select {
			case pieces <- piece:
			case <-gone:
				piece.Free()
				st.Cancel()
				failed <- nil
				return
			}
		}
	}()
	var header []byte
	for piece := range pieces {
		if err == nil {
			b := piece.Bytes()
			if f.join == joinHeader {
				if n == 0 {
					header = bytes.Clone(b[:f.header(b)])
				} else {
					b = bytes.TrimPrefix(b, header)
				}
			}
			if err = a.write(b); err != nil {
				close(gone)
			}
			n++
		}
		piece.Free()
	}
	return n, cmp.Or(err, <-failed)
}

// throughFile has the engine write the result to a file, and sends that. A crash
// while the engine writes leaves the file to the next start.
func (s *Server) throughFile(a *answer, ses *session.Session, q *request) error {
	path := filepath.Join(s.TempDir, fmt.Sprintf("%d.out", s.files.Add(1)))
	defer os.Remove(path) //nolint:errcheck // gone already, below
	into := "INSERT INTO FUNCTION file(" + sqltext.Quote(path) + ", " + sqltext.Quote(a.format) + ", 'auto', 'none') "
	out, err := ses.Conn().Query(ses.Tagged(into+q.st.Text), "Null", q.params...)
	if err != nil {
		return err
	}
	out.Free()
	f, err := os.Open(path) //nolint:gosec // a path of ours
	if err != nil {
		return err
	}
	defer f.Close()                         //nolint:errcheck // only read
	if err := os.Remove(path); err != nil { // open: the disk is free once it is sent
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return a.file(f, info.Size())
}

// insertPiece is how much of a body is handed to the engine at a time.
const insertPiece = 256 << 10

// insert streams the body into the engine.
func insert(a *answer, ses *session.Session, q *request) error {
	in, err := ses.Conn().Insert(q.st.Text, first(q.st.Format, first(q.format, "Values")), q.params...)
	if err != nil {
		return err
	}
	defer in.Free()
	for buf := make([]byte, insertPiece); ; {
		n, more, err := readPiece(q.data, buf)
		if err != nil { // the client left in the middle
			in.Cancel()
			return err
		}
		if in.Append(buf[:n]) != nil || !more {
			break // Done has the engine's words
		}
	}
	rows, written, err := in.Done()
	if err != nil {
		return err
	}
	a.w.Header().Set("X-ClickHouse-Summary", fmt.Sprintf(`{"written_rows":"%d","written_bytes":"%d"}`, rows, written))
	return a.begin()
}
