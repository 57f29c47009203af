package sqlgen

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// Sort is an order of events. Events with the same value come newest first,
// ties by id, descending. The zero value is newest first.
type Sort struct {
	// Field is a row of field.Fields for which Sortable holds; nil stands for
	// createdDate, descending.
	Field     *field.Field
	Ascending bool
}

// Sortable says whether events can be sorted by a field. Texts sort by their
// first SortBytes bytes.
func Sortable(f *field.Field) bool { return f.Type != field.JSON }

// SortBytes is how much of a text counts for its order: a position has to
// travel.
const SortBytes = 256

// Position is the place of an event in an order.
type Position struct {
	// Value is that of the sort's field: the first SortBytes bytes of a text, a
	// number in decimal, an address. Not used for createdDate and id.
	Value       string
	CreatedDate int64 // milliseconds since the Unix epoch
	ID          uuid.UUID
}

// idNumber orders ids as their text does. ClickHouse orders a UUID by its
// second half first, for historical reasons.
const idNumber = "toUInt128(id)"

// key is what a sort by f compares.
func key(f *field.Field) string {
	switch f.Type {
	case field.UUID:
		return idNumber
	case field.Keyword, field.Text, field.Opaque:
		return fmt.Sprintf("substring(%s, 1, %d)", f.Column, SortBytes)
	case field.Number, field.Address, field.Instant:
		return f.Column
	case field.JSON:
	}
	panic("sqlgen: no order of " + f.Name)
}

// orderBy is the ORDER BY clause.
func (s Sort) orderBy() string {
	direction := " DESC"
	if s.Ascending {
		direction = " ASC"
	}
	switch {
	case s.Field == nil:
		return newestFirst
	case s.Field.Type == field.UUID:
		return " ORDER BY " + idNumber + direction
	case s.Field.Type == field.Instant:
		return " ORDER BY created_date" + direction + ", " + idNumber + " DESC"
	}
	return " ORDER BY " + key(s.Field) + direction + ", created_date DESC, " + idNumber + " DESC"
}

// after is the condition of the events behind a position.
func (s Sort) after(p Position, params param.Set) string {
	id := "toUInt128(toUUID(" + params.Text("after_id", p.ID.String()) + "))"
	beyond := " < "
	if s.Ascending {
		beyond = " > "
	}
	if s.Field != nil && s.Field.Type == field.UUID {
		return idNumber + beyond + id
	}
	date := instant(params, "after_date", p.CreatedDate)
	if s.Field == nil || s.Field.Type == field.Instant {
		// The first comparison serves the primary key.
		return "created_date" + beyond[:2] + "= " + date + " AND (created_date" + beyond + date + " OR " + idNumber + " < " + id + ")"
	}
	value := params.Text("after_value", p.Value)
	switch s.Field.Type {
	case field.Number:
		value = "toUInt32(" + value + ")"
	case field.Address:
		value = "toIPv6(" + value + ")"
	case field.UUID, field.Keyword, field.Text, field.Opaque, field.Instant, field.JSON:
	}
	key := key(s.Field)
	return "(" + key + beyond + value + " OR " + key + " = " + value +
		" AND (created_date < " + date + " OR created_date = " + date + " AND " + idNumber + " < " + id + "))"
}
