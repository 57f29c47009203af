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
)

// record reads rows made by sqlgen.Rows and writes them as JSON. It is reused
// from row to row. Owned by one goroutine.
type record struct {
	dest []any // one pointer a field, in the order of field.Events.Fields
}

func newRecord() *record {
	r := &record{dest: make([]any, len(field.Events.Fields))}
	for i, f := range field.Events.Fields {
		r.dest[i] = newDest(f.Type)
	}
	return r
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

// scan reads the current row.
func (r *record) scan(rows driver.Rows) error { return rows.Scan(r.dest...) }

// appendJSON appends the fields of a view as a JSON object: some always, the
// others only when they are not empty.
func (r *record) appendJSON(b []byte, v view) []byte {
	b = append(b, '{')
	first := true
	for i, f := range field.Events.Fields {
		shown, always := v.shows(f.Name, f.Always)
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
		if b, empty = appendValue(b, f.Type, r.dest[i]); empty && !always {
			b = b[:start]
			continue
		}
		first = false
	}
	return append(b, '}')
}

// position is the row's place in an order; see sqlgen.Position.
func (r *record) position(sort sqlgen.Sort) (value []byte, date int64, id uuid.UUID) {
	for i := range field.Events.Fields {
		f := &field.Events.Fields[i]
		switch d := r.dest[i].(type) {
		case *uuid.UUID:
			id = *d
		case *int64:
			date = *d
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
