//go:build !noengine && (linux || darwin)

package tcp

import (
	"bufio"
	"errors"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/native"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// insert tells the client the columns, and passes its blocks on to the engine
// as they arrive. Nothing is acknowledged before the engine has stored it all.
func (c *conn) insert(q *query, st sqltext.Statement) error {
	c.inserting.Store(true)
	defer c.inserting.Store(false)
	columns, err := c.session.InsertColumns(st, q.params)
	for i := 0; err == nil && i < len(columns); i++ {
		if t := native.CheckType(columns[i].Type); t != nil {
			err = chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "column %s: %s.", columns[i].Name, t)
		}
	}
	if err != nil {
		return c.fail(err)
	}
	engine, err := c.session.Conn().Insert(st.Text, "Native", q.params...)
	if err != nil {
		return c.fail(err)
	}
	defer engine.Free()
	r := &result{c: c, to: c.blocks(q.compress)}
	if err := r.header(columns); err != nil {
		engine.Cancel()
		return err
	}
	if err := c.out.Flush(); err != nil {
		engine.Cancel()
		return err
	}
	end, err := c.feed(engine, q)
	if c.frames != nil {
		c.frames.Shrink()
	}
	switch {
	case err != nil:
		// The client is gone or speaks nonsense, in the middle of a block perhaps.
		engine.Cancel()
		return err
	case end == insertCancelled:
		engine.Cancel()
		return c.end()
	case end == insertRefused:
		return nil // the exception was sent
	}
	rows, bytes, err := engine.Done()
	if err != nil {
		return c.fail(err)
	}
	c.out.progress(c.rev, 0, 0, rows, bytes)
	return c.end()
}

// insertEnd is how the client's data ended.
type insertEnd uint8

const (
	insertComplete insertEnd = iota
	insertCancelled
	insertRefused // the engine failed; the client was told, and its data drained
)

// feed passes blocks on until the empty one. The error is the connection's.
func (c *conn) feed(engine *chdb.Insert, q *query) (insertEnd, error) {
	to := &appender{engine: engine}
	out := bufio.NewWriterSize(to, bufferSize)
	end := insertComplete
	for {
		if end == insertRefused {
			// Told already: a client may stop its data and ask something else.
			if b, err := c.in.Peek(1); err == nil && b[0] != clientData && b[0] != clientCancel {
				return end, nil
			}
		}
		p := c.in.uvarint()
		if c.in.err != nil {
			return end, c.in.err
		}
		switch p {
		case clientCancel:
			if end == insertRefused {
				return end, nil
			}
			return insertCancelled, nil
		case clientData:
		default:
			return end, unexpected(p, "in an insert")
		}
		size, err := c.readBlock(out, q.compress)
		if err != nil {
			var t *native.UnsupportedTypeError
			if errors.As(err, &t) {
				err = unsupported(err)
			}
			return end, err
		}
		if err := out.Flush(); err != nil {
			return end, err
		}
		if end != insertRefused && to.err == nil && q.initial && c.rev >= revInsertEvents {
			// Some clients wait for this after each block, the empty one included.
			c.out.profileEvents(c.framing())
			if err := c.out.Flush(); err != nil {
				return end, err
			}
		}
		if to.err != nil && end != insertRefused {
			end = insertRefused
			_, _, err := engine.Done() // has the engine's own words
			if err == nil {
				err = to.err
			}
			c.inserting.Store(false) // Shutdown need not wait for what is thrown away
			if err := c.fail(err); err != nil {
				return end, err
			}
		}
		if size.Columns == 0 {
			return end, nil
		}
	}
}

// appender hands bytes to the engine, and after an error drops them: the
// client's data must be read to its end either way.
type appender struct {
	engine *chdb.Insert
	err    error
}

func (a *appender) Write(p []byte) (int, error) {
	if a.err == nil {
		a.err = a.engine.Append(p)
	}
	return len(p), nil
}
