//go:build !noengine && (linux || darwin)

package chdb

import (
	"errors"
	"runtime"
	"unsafe"
)

// Stream is a running SELECT whose output is fetched piece by piece. Its Conn
// does nothing else until the stream is freed.
type Stream struct {
	conn *Conn
	p    unsafe.Pointer
}

// Stream starts a SELECT. The engine refuses every other statement here. Some
// errors of a bad query come only with the first Fetch.
func (c *Conn) Stream(query, format string, params ...Param) (*Stream, error) {
	a := newArgs(query, format, params)
	defer a.free()
	r := &Result{p: cStreamQuery(c.handle(), a.query, a.queryLen, a.format, a.formatLen,
		a.names, a.nameLens, a.values, a.valueLens, a.count)}
	if err := r.err(); err != nil {
		r.Free()
		return nil, err
	}
	return &Stream{conn: c, p: r.p}, nil
}

// Fetch returns the next piece, which the caller frees, or nil at the end. It
// blocks until the engine has one: the engine runs only as far as is fetched.
func (s *Stream) Fetch() (*Result, error) {
	p := cStreamFetch(s.conn.handle(), s.p)
	if p == nil {
		return nil, nil
	}
	r := &Result{p: p}
	if err := r.err(); err != nil {
		r.Free()
		return nil, err
	}
	if cResultLength(p) == 0 {
		r.Free()
		return nil, nil
	}
	return r, nil
}

// Cancel ends the query before its end. Not while a Fetch runs: it would wait
// for it.
func (s *Stream) Cancel() { cStreamCancel(s.conn.handle(), s.p) }

// Free releases the stream.
func (s *Stream) Free() { cResultDestroy(s.p) }

// Insert is a running INSERT that takes data piece by piece. Its Conn does
// nothing else until it is freed.
type Insert struct {
	p unsafe.Pointer
}

// Insert starts an INSERT. The statement has neither FORMAT nor data.
func (c *Conn) Insert(query, format string, params ...Param) (*Insert, error) {
	a := newArgs(query, format, params)
	defer a.free()
	i := &Insert{p: cInsert(c.handle(), a.query, a.queryLen, a.format, a.formatLen,
		a.names, a.nameLens, a.values, a.valueLens, a.count)}
	if err := i.err(); err != nil {
		i.Free()
		return nil, err
	}
	return i, nil
}

// Append hands over one piece, cut anywhere; the engine copies it. It blocks
// while the engine is behind.
func (i *Insert) Append(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	state := cInsertAppend(i.p, unsafe.Pointer(&b[0]), uintptr(len(b)))
	runtime.KeepAlive(b)
	if state == 0 {
		return nil
	}
	if err := i.err(); err != nil {
		return err
	}
	return errors.New("the engine ended the insert")
}

// Done commits, and says how many rows and bytes were written. Nothing is
// stored for sure before it returns nil.
func (i *Insert) Done() (rows, bytes uint64, err error) {
	r := &Result{p: cInsertDone(i.p)}
	defer r.Free()
	if err := r.err(); err != nil {
		return 0, 0, err
	}
	rows, bytes = r.Written()
	return rows, bytes, nil
}

// Cancel ends the insert without committing the open part.
func (i *Insert) Cancel() { cInsertCancel(i.p) }

// Free releases the insert; one that is still open is cancelled.
func (i *Insert) Free() { cInsertDestroy(i.p) }

func (i *Insert) err() error {
	if text := goString(cInsertError(i.p)); text != "" {
		return parseError(text)
	}
	return nil
}
