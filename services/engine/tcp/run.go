//go:build !noengine && (linux || darwin)

package tcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/native"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// run runs a statement whose data does not come from the client, and answers.
func (c *conn) run(q *query, st sqltext.Statement) error {
	w := c.watch()
	r := &result{c: c, to: c.blocks(q.compress)}
	err := r.produce(q, st)
	switch end := w.stop(); {
	case end == watchGone:
		return errDone
	case err == nil || end == watchCancelled:
	default:
		var broken *writeError
		if errors.As(err, &broken) {
			return broken.err
		}
		return c.fail(err)
	}
	c.out.profile(r.rows, r.count, r.bytes)
	return c.end()
}

// result sends blocks and counts them.
type result struct {
	c                  *conn
	to                 blocks
	rows, count, bytes uint64
}

// writeError is an error of the connection, as opposed to one of the query.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

func (r *result) produce(q *query, st sqltext.Statement) error {
	s := r.c.session
	switch st.Kind {
	case sqltext.KindSelect:
		return r.stream(q, st)
	case sqltext.KindShow:
		return r.show(q, st)
	case sqltext.KindCommand, sqltext.KindInsert:
	}
	out, err := s.Conn().Query(s.Command(q.text, st), "Native", q.params...)
	if err != nil {
		return err
	}
	defer out.Free()
	if st.Set {
		if err := s.Retag(); err != nil {
			return err
		}
	}
	r.progress(out)
	return r.send(out.Bytes())
}

func (r *result) stream(q *query, st sqltext.Statement) error {
	stream, err := r.c.session.Conn().Stream(r.c.session.Tagged(st.Text), "Native", q.params...)
	if err != nil {
		return err
	}
	// Freed before DESCRIBE below: a session runs one statement at a time.
	err = r.fetch(stream)
	stream.Free()
	if err != nil || r.count > 0 {
		return err
	}
	// Native has no bytes for an empty result, and clients wait for a header.
	columns, err := r.c.session.SelectColumns(st.Text, q.params)
	if err != nil {
		return err
	}
	return r.header(columns)
}

func (r *result) fetch(stream *chdb.Stream) error {
	for {
		piece, err := stream.Fetch()
		if err != nil {
			return err
		}
		if piece == nil {
			return nil
		}
		r.progress(piece)
		err = r.send(piece.Bytes())
		piece.Free()
		if err != nil {
			stream.Cancel()
			return err
		}
	}
}

// show runs a statement that the engine does not stream.
func (r *result) show(q *query, st sqltext.Statement) error {
	conn := r.c.session.Conn()
	out, err := conn.Query(r.c.session.Tagged(st.Text), "Native", q.params...)
	if err != nil {
		return err
	}
	err = r.send(out.Bytes())
	out.Free()
	if err != nil || r.count > 0 {
		return err
	}
	// No rows: this format still has the header, and the statement changes nothing.
	out, err = conn.Query(r.c.session.Tagged(st.Text), "RowBinaryWithNamesAndTypes", q.params...)
	if err != nil {
		return err
	}
	columns, err := native.ReadRowBinaryHeader(out.Bytes())
	out.Free()
	if err != nil {
		return err
	}
	return r.header(columns)
}

func (r *result) progress(out *chdb.Result) {
	rows, bytes := out.Read()
	wroteRows, wroteBytes := out.Written()
	r.c.out.progress(r.c.rev, rows, bytes, wroteRows, wroteBytes)
}

// send sends plain blocks.
func (r *result) send(plain []byte) error {
	in := native.Bytes(plain)
	for len(in) > 0 {
		if r.count == 0 {
			// An unsupported type shows in the first block. Until it is known to
			// be whole, nothing of it is sent: an exception must still fit.
			if err := r.trial(in); err != nil {
				return err
			}
		}
		r.c.out.uvarint(serverData)
		r.c.out.text("") // table name
		before := len(in)
		size, err := native.Frame(r.to.out, &in, r.c.framing())
		if err == nil {
			err = r.to.end()
		}
		if err != nil {
			return &writeError{err}
		}
		r.rows += size.Rows
		r.bytes += uint64(before - len(in))
		r.count++
	}
	if err := r.c.out.Flush(); err != nil {
		return &writeError{err}
	}
	return nil
}

// trial walks the first block without sending it.
func (r *result) trial(in native.Bytes) error {
	_, err := native.Frame(io.Discard, &in, r.c.framing())
	return unsupported(err)
}

// unsupported gives an error about a type its ClickHouse code.
func unsupported(err error) error {
	var t *native.UnsupportedTypeError
	if errors.As(err, &t) {
		return chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "%s; convert the column with toString or CAST.", err)
	}
	if err != nil {
		return fmt.Errorf("result of the engine: %w", err)
	}
	return nil
}

// header sends a block of columns without rows.
func (r *result) header(columns []native.Column) error {
	r.c.out.uvarint(serverData)
	r.c.out.text("")
	b := bytes.NewBuffer(native.AppendHeader(nil, columns, r.c.framing()))
	if _, err := b.WriteTo(r.to.out); err != nil {
		return &writeError{err}
	}
	if err := r.to.end(); err != nil {
		return &writeError{err}
	}
	return nil
}
