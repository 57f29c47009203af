package sqlgen

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// Sort is an order. Records with the same value come newest first, ties by id,
// descending. The zero value is newest first.
type Sort struct {
	// Field is a row of the table's Fields for which Sortable holds; nil stands
	// for its Date, descending.
	Field     *field.Field
	Ascending bool
}

// Sortable says whether records can be sorted by a field. Texts sort by their
// first SortBytes bytes.
func Sortable(f *field.Field) bool { return f.Type != field.JSON }

// SortBytes is how much of a text counts for its order: a position has to
// travel.
const SortBytes = 256

// Position is the place of a record in an order.
type Position struct {
	// Value is that of the sort's field: the first SortBytes bytes of a text, a
	// number in decimal, an address, an instant in milliseconds since the Unix
	// epoch. Not used for the table's Date and ID.
	Value string
	Date  int64 // the table's, in milliseconds since the Unix epoch
	ID    uuid.UUID
}

// number orders ids as their text does. ClickHouse orders a UUID by its
// second half first, for historical reasons.
func number(id *field.Field) string { return "toUInt128(" + id.Column + ")" }

// key is what a sort by f compares.
func key(f *field.Field) string {
	switch f.Type {
	case field.UUID:
		return number(f)
	case field.Keyword, field.Text, field.Opaque:
		return fmt.Sprintf("substring(%s, 1, %d)", f.Column, SortBytes)
	case field.Number, field.Address, field.Instant:
		return f.Column
	case field.JSON:
	}
	panic("sqlgen: no order of " + f.Name)
}

// orderBy is the ORDER BY clause. Newest first is how the primary key ends: a
// page of events is read backwards along it.
func (s Sort) orderBy(of *field.Table) string {
	direction := " DESC"
	if s.Ascending {
		direction = " ASC"
	}
	newest := of.Date.Column + " DESC, "
	switch s.Field {
	case nil:
	case of.ID:
		return " ORDER BY " + number(of.ID) + direction
	case of.Date:
		newest = of.Date.Column + direction + ", "
	default:
		newest = key(s.Field) + direction + ", " + newest
	}
	return " ORDER BY " + newest + number(of.ID) + " DESC"
}

// after is the condition of the records behind a position.
func (s Sort) after(of *field.Table, p Position, params param.Set) string {
	id := "toUInt128(toUUID(" + params.Text("after_id", p.ID.String()) + "))"
	beyond := " < "
	if s.Ascending {
		beyond = " > "
	}
	if s.Field == of.ID {
		return number(of.ID) + beyond + id
	}
	column, date := of.Date.Column, instant(params, "after_date", p.Date)
	if s.Field == nil || s.Field == of.Date {
		// The first comparison serves the primary key.
		return column + beyond[:2] + "= " + date + " AND (" + column + beyond + date + " OR " + number(of.ID) + " < " + id + ")"
	}
	value := params.Text("after_value", p.Value)
	switch s.Field.Type {
	case field.Number:
		value = "toUInt32(" + value + ")"
	case field.Address:
		value = "toIPv6(" + value + ")"
	case field.Instant:
		value = "fromUnixTimestamp64Milli(toInt64(" + value + "), 'UTC')"
	case field.UUID, field.Keyword, field.Text, field.Opaque, field.JSON:
	}
	key := key(s.Field)
	return "(" + key + beyond + value + " OR " + key + " = " + value +
		" AND (" + column + " < " + date + " OR " + column + " = " + date + " AND " + number(of.ID) + " < " + id + "))"
}
