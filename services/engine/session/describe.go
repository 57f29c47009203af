//go:build !noengine && (linux || darwin)

package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/native"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// describeSettings keep a client's settings from changing DESCRIBE's output.
const describeSettings = " SETTINGS describe_compact_output=0, describe_include_subcolumns=0, describe_include_virtual_columns=0"

// describeFields is how many strings DESCRIBE gives for a column: name, type,
// default type, and four that are of no use here.
const describeFields = 7

type described struct{ name, typ, kind string }

func (s *Session) describe(what string, params []chdb.Param) ([]described, error) {
	r, err := s.conn.Query("DESCRIBE TABLE "+what+describeSettings, "RowBinary", params...)
	if err != nil {
		return nil, err
	}
	defer r.Free()
	in := bufio.NewReader(bytes.NewReader(r.Bytes()))
	var out []described
	for {
		var field [describeFields]string
		for i := range field {
			if field[i], err = readString(in); err != nil {
				if errors.Is(err, io.EOF) && i == 0 {
					return out, nil
				}
				return nil, err
			}
		}
		out = append(out, described{name: field[0], typ: field[1], kind: field[2]})
	}
}

func readString(in *bufio.Reader) (string, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if _, err := io.CopyN(&b, in, int64(n)); err != nil {
		return "", errors.New("describe: short output")
	}
	return b.String(), nil
}

// SelectColumns are the columns that a SELECT would return.
func (s *Session) SelectColumns(query string, params []chdb.Param) ([]native.Column, error) {
	all, err := s.describe("("+query+"\n)", params)
	if err != nil {
		return nil, err
	}
	out := make([]native.Column, len(all))
	for i, c := range all {
		out[i] = native.Column{Name: c.name, Type: c.typ}
	}
	return out, nil
}

// InsertColumns are the columns that an insert takes, in the order it takes them.
func (s *Session) InsertColumns(st sqltext.Statement, params []chdb.Param) ([]native.Column, error) {
	sel, ok := sqltext.ParseColumns(st.Columns)
	if !ok {
		return nil, chdb.Errorf(chdb.CodeNotImplemented, "NOT_IMPLEMENTED",
			"The embedded engine takes column names, * and * EXCEPT (...) in INSERT, not: %s.", st.Columns)
	}
	all, err := s.describe(st.Target, params)
	if err != nil {
		return nil, err
	}
	var out []native.Column
	if sel.All {
		for _, c := range all {
			if c.kind == "MATERIALIZED" || c.kind == "ALIAS" || c.kind == "EPHEMERAL" || slices.Contains(sel.Names, c.name) {
				continue
			}
			out = append(out, native.Column{Name: c.name, Type: c.typ})
		}
		return out, nil
	}
	for _, name := range sel.Names {
		i := slices.IndexFunc(all, func(c described) bool { return c.name == name })
		if i < 0 {
			return nil, chdb.Errorf(chdb.CodeNoSuchColumn, "NO_SUCH_COLUMN_IN_TABLE", "No such column %s in table %s.", name, st.Target)
		}
		out = append(out, native.Column{Name: all[i].name, Type: all[i].typ})
	}
	return out, nil
}
