//go:build !noengine && (linux || darwin)

package tcp

import (
	"io"
	"strings"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/native"
	"github.com/auditrail/auditrail/services/engine/session"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// query is a client's Query packet.
type query struct {
	text     string
	settings []session.Setting
	params   []chdb.Param
	compress bool // blocks travel in compressed frames, both ways
	initial  bool // it comes from a client, not from another server
}

// query reads a query, runs it, and answers. The error ends the connection.
func (c *conn) query() error {
	q, err := c.readQuery()
	if err != nil {
		return err
	}
	external, err := c.readExternal(q.compress)
	if err != nil {
		return err
	}
	if external {
		return c.fail(chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "External tables are not supported by the embedded engine."))
	}
	st, err := sqltext.Parse(q.text)
	if err != nil {
		return c.fail(chdb.Errorf(chdb.CodeSyntaxError, "SYNTAX_ERROR", "%s.", err))
	}
	if err := c.refuseExtra(q, st); err != nil {
		return c.fail(err)
	}
	if err := c.session.Apply(q.settings); err != nil {
		return c.fail(err)
	}
	if st.Kind == sqltext.KindInsert && blank(q.text[st.Data:]) {
		return c.insert(q, st)
	}
	return c.run(q, st)
}

func blank(s string) bool { return strings.Trim(s, " \t\r\n;") == "" }

// fail answers with an exception; the connection lives on.
func (c *conn) fail(err error) error {
	c.out.exception(err)
	return c.out.Flush()
}

// end answers that the query is done.
func (c *conn) end() error {
	c.out.uvarint(serverEndOfStream)
	return c.out.Flush()
}

func (c *conn) readQuery() (*query, error) {
	in := &c.in
	q := &query{}
	in.short() // query id: the engine makes its own
	q.initial = c.skipClientInfo()
	if c.rev < revStringSetting {
		return nil, chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "The client is too old: protocol revision %d, %d at least.", c.rev, revStringSetting)
	}
	left := uint64(maxQuery)
	text := func(limit uint64) string {
		s := in.text(min(limit, left))
		left -= uint64(len(s))
		return s
	}
	for n := 0; ; n++ {
		name := text(maxShortText)
		if name == "" {
			break
		}
		if n == maxEntries {
			return nil, tooMany("settings")
		}
		flags := in.uvarint()
		value := text(maxQueryText)
		if flags&settingCustom != 0 {
			value = undump(value)
		}
		q.settings = append(q.settings, session.Setting{Name: name, Value: value, Important: flags&settingImportant != 0})
	}
	if c.rev >= revSecret {
		in.short()
	}
	in.uvarint() // stage: always to the end
	q.compress = in.uvarint() != 0
	q.text = text(maxQueryText)
	if c.rev >= revParameters {
		for n := 0; ; n++ {
			name := text(maxShortText)
			if name == "" {
				break
			}
			if n == maxEntries {
				return nil, tooMany("parameters")
			}
			in.uvarint()
			q.params = append(q.params, chdb.Param{Name: name, Value: undump(text(maxQueryText))})
		}
	}
	return q, in.err
}

func tooMany(what string) error {
	return chdb.Errorf(chdb.CodeTooLarge, "TOO_LARGE_ARRAY_SIZE", "A query with more than %d %s.", maxEntries, what)
}

// refuseExtra refuses what asks for rows beside the result: the engine does not
// hand them out, and a client would miss them without a word.
func (c *conn) refuseExtra(q *query, st sqltext.Statement) error {
	extra := st.Extra
	for _, s := range q.settings {
		if s.Name == "extremes" && s.Value != "0" && s.Value != "false" && s.Value != "" {
			extra = s.Name
		}
	}
	if extra == "" {
		return nil
	}
	return chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED", "%s is not supported by the embedded engine's native protocol.", extra)
}

const (
	settingImportant = 1
	settingCustom    = 2
)

// skipClientInfo reads what the client says of itself, and tells whether the
// query is its own rather than another server's.
func (c *conn) skipClientInfo() (initial bool) {
	in := &c.in
	kind := in.byte()
	if kind == 0 { // none, and no info
		return true
	}
	for range 3 { // initial user, query id, address
		in.short()
	}
	if c.rev >= revStartTime {
		in.skip(8)
	}
	in.byte()     // interface
	for range 3 { // OS user, host, client
		in.short()
	}
	for range 3 { // version and revision
		in.uvarint()
	}
	if c.rev >= revQuotaKey {
		in.short()
	}
	if c.rev >= revDepth {
		in.uvarint()
	}
	if c.rev >= revVersionPatch {
		in.uvarint()
	}
	if c.rev >= revTelemetry && in.byte() != 0 {
		in.skip(16 + 8) // trace and span
		in.short()
		in.byte()
	}
	if c.rev >= revReplicas {
		for range 3 {
			in.uvarint()
		}
	}
	return kind == queryInitial
}

const queryInitial = 1

// readExternal reads the tables that may come with a query, up to the empty
// block that ends them, and says whether there were any.
func (c *conn) readExternal(compressed bool) (found bool, err error) {
	for {
		p := c.in.uvarint()
		if c.in.err != nil {
			return found, c.in.err
		}
		if p != clientData {
			return found, unexpected(p, "after a query")
		}
		size, err := c.readBlock(io.Discard, compressed)
		if err != nil {
			return found, err
		}
		if size.Columns == 0 {
			return found, nil
		}
		found = true
	}
}

// readBlock reads the rest of a Data packet and writes its block, plain, to out.
func (c *conn) readBlock(out io.Writer, compressed bool) (native.Size, error) {
	c.in.short() // table name
	if c.in.err != nil {
		return native.Size{}, c.in.err
	}
	if !compressed {
		return native.Unframe(out, native.Buffered{Reader: c.in.Reader}, c.framing())
	}
	if c.frames == nil {
		c.frames = native.NewFrameReader(c.in.Reader)
	}
	size, err := native.Unframe(out, c.frames, c.framing())
	if err == nil && c.frames.Rest() != 0 {
		err = chdb.Errorf(chdb.CodeIncorrectData, "INCORRECT_DATA", "A compressed frame goes on after its block.")
	}
	return size, err
}

// undump reads a value in Field-dump form: 'it\'s' is it's. Other values stay.
func undump(s string) string {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		if at := strings.IndexByte(escapes, s[i]); at >= 0 {
			b = append(b, escaped[at])
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// escapes are ClickHouse's letters after a backslash, escaped what they mean.
const (
	escapes = "abefnrtv0"
	escaped = "\a\b\x1b\f\n\r\t\v\x00"
)

// blocks is where a query's result goes: a writer for one block at a time.
type blocks struct {
	out      io.Writer
	compress *native.FrameWriter // nil: not compressed
}

func (c *conn) blocks(compress bool) blocks {
	if !compress {
		return blocks{out: c.out.Writer}
	}
	if c.packed == nil {
		c.packed = native.NewFrameWriter(c.out.Writer)
	}
	return blocks{out: c.packed, compress: c.packed}
}

// end ends the block's last frame.
func (b blocks) end() error {
	if b.compress == nil {
		return nil
	}
	return b.compress.Flush()
}
