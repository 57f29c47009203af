package query

import (
	"net/netip"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/segmentio/encoding/json"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// row reads rows of some columns. It is reused from row to row. Owned by one
// goroutine.
type row struct {
	dest   []any // one pointer a column
	hidden *bool // the caller may not see whose the row is; nil: always
	shown  []any // dest, but for what is hidden and has no text of its own
}

// newRow is for columns of a table.
func newRow(of *field.Table, columns []*field.Field) *row {
	r := &row{}
	for _, f := range columns {
		r.dest = append(r.dest, newDest(f.Type))
	}
	r.shown = append(r.shown, r.dest...)
	if of == field.Calls {
		r.hidden = new(bool)
		r.dest = append(r.dest, r.hidden)
	}
	return r
}

// scan reads the current row.
func (r *row) scan(rows driver.Rows) error {
	if err := rows.Scan(r.dest...); err != nil || r.hidden == nil {
		return err
	}
	for i := range r.shown {
		if _, address := r.dest[i].(*netip.Addr); !address {
			continue
		}
		if r.shown[i] = r.dest[i]; *r.hidden {
			dash := visibility.Hidden
			r.shown[i] = &dash
		}
	}
	return nil
}

// record reads rows made by sqlgen.Rows and writes them as JSON.
type record struct {
	*row
	of *field.Table
}

func newRecord(of *field.Table) *record { return &record{newRow(of, allOf(of)), of} }

// allOf are the fields of a table.
func allOf(of *field.Table) []*field.Field {
	fields := make([]*field.Field, len(of.Fields))
	for i := range of.Fields {
		fields[i] = &of.Fields[i]
	}
	return fields
}

// newDest is what a column of a type is scanned into.
func newDest(t field.Type) any {
	switch t {
	case field.UUID:
		return new(uuid.UUID)
	case field.Number:
		return new(uint32)
	case field.Address:
		return new(netip.Addr)
	case field.Instant:
		return new(int64) // milliseconds: the column's precision is 3
	case field.Keyword, field.Text, field.Opaque, field.JSON:
	}
	return new(string)
}

// appendJSON appends the fields of a view as a JSON object: some always, the
// others only when they are not empty.
func (r *record) appendJSON(b []byte, v view) []byte { return r.appendFields(b, v.shows) }

// appendFields appends an object of the fields that are shown, and of those the
// empty ones that always are.
func (r *record) appendFields(b []byte, shows func(name string, always bool) (shown, empty bool)) []byte {
	b = append(b, '{')
	first := true
	for i, f := range r.of.Fields {
		shown, always := shows(f.Name, f.Always)
		if !shown {
			continue
		}
		start := len(b)
		if !first {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, f.Name...)
		b = append(b, '"', ':')
		var empty bool
		if b, empty = appendValue(b, f.Type, r.shown[i]); empty && !always {
			b = b[:start]
			continue
		}
		first = false
	}
	return append(b, '}')
}

// position is the row's place in an order; see sqlgen.Position.
func (r *record) position(sort sqlgen.Sort) (value []byte, date int64, id uuid.UUID) {
	for i := range r.of.Fields {
		f := &r.of.Fields[i]
		switch d := r.dest[i].(type) {
		case *uuid.UUID:
			if f == r.of.ID {
				id = *d
			}
		case *int64:
			switch f {
			case r.of.Date:
				date = *d
			case sort.Field:
				value = strconv.AppendInt(nil, *d, 10)
			}
		case *uint32:
			if f == sort.Field {
				value = strconv.AppendUint(nil, uint64(*d), 10)
			}
		case *netip.Addr:
			if f == sort.Field {
				value = []byte(netip.AddrFrom16(d.As16()).String())
			}
		case *string:
			if f == sort.Field {
				value = []byte((*d)[:min(len(*d), sqlgen.SortBytes)])
			}
		}
	}
	return value, date, id
}

// appendValue appends one value and tells whether it is the empty one.
func appendValue(b []byte, t field.Type, v any) ([]byte, bool) {
	switch v := v.(type) {
	case *uuid.UUID:
		return appendText(b, v.String()), *v == uuid.Nil
	case *uint32:
		return strconv.AppendUint(b, uint64(*v), 10), *v == 0
	case *int64:
		return strconv.AppendInt(b, *v, 10), *v == 0
	case *netip.Addr:
		if !v.IsValid() || *v == netip.IPv6Unspecified() {
			return append(b, '"', '"'), true
		}
		return appendText(b, v.Unmap().String()), false
	case *string:
		if t == field.JSON {
			return appendRaw(b, *v)
		}
		return appendText(b, *v), *v == ""
	}
	return append(b, "null"...), true // cannot be: newRecord makes no other
}

// plainAddress is an address as records show it: IPv4 is not mapped.
func plainAddress(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().String()
	}
	return text
}

// appendText appends a JSON string. HTML stays as it is, so that links come
// back unchanged; what is not UTF-8 is replaced.
func appendText(b []byte, s string) []byte { return json.AppendEscape(b, s, 0) }

// appendRaw appends stored JSON as it is. Text that is not JSON must not
// break the answer: it comes as a string.
func appendRaw(b []byte, s string) ([]byte, bool) {
	switch s {
	case "", "null", "[]", "{}":
		return append(b, "null"...), true
	}
	if !jsontext.Value(s).IsValid(jsontext.AllowDuplicateNames(true)) {
		return appendText(b, s), false
	}
	return append(b, s...), false
}
