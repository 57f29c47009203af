package sqlgen

import (
	"slices"
	"strconv"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Facetable says whether values of a field are worth counting: there are few of
// them, or the frequent ones tell something.
func Facetable(f *field.Field) bool {
	switch f.Type {
	case field.Keyword, field.Address:
		return true
	case field.Number:
		return f.Name != "durationMs"
	case field.Text, field.Opaque:
		return slices.Contains([]string{"userName", "userUuid", "targetName", "api", "reason", "client"}, f.Name)
	case field.UUID, field.Instant, field.JSON:
	}
	return false
}

// Facets makes the statement that counts the values of fields, for which
// Facetable holds, in one pass: rows of (index of the field UInt8, value
// String, records UInt64, distinct values UInt64, records in all UInt64), for
// each field the most frequent first, at most size. An absent value is the
// empty text, and so is a hidden address. Where there are no records there are
// no rows.
func Facets(v visibility.View, f Filter, fields []*field.Field, size int64) Statement {
	params := param.Set{}
	_, from := source(v, f, params)
	sets := make([]string, len(fields))
	// grouping() is 0 for the column of a row's own set.
	var facet, value strings.Builder
	for i, f := range fields {
		sets[i] = "(" + f.Column + ")"
		own := "grouping(" + f.Column + ") = 0, "
		facet.WriteString(own + strconv.Itoa(i) + ", ")
		value.WriteString(own + text(f) + ", ")
	}
	return Statement{
		sql: "SELECT facet, value, records, count() OVER (PARTITION BY facet) AS values, sum(records) OVER (PARTITION BY facet) AS total FROM (" +
			"SELECT toUInt8(multiIf(" + facet.String() + "255)) AS facet, multiIf(" + value.String() + "'') AS value, count() AS records" +
			from + " GROUP BY GROUPING SETS (" + strings.Join(sets, ", ") + "))" +
			" ORDER BY facet, records DESC, value LIMIT " + params.Int("facet_size", size) + " BY facet",
		params: params,
	}
}

// text is a column's value as text; an absent one is empty.
func text(f *field.Field) string {
	text := "toString(" + f.Column + ")"
	switch f.Type {
	case field.Number:
		return "if(" + f.Column + " = 0, '', " + text + ")"
	case field.Address:
		return "if(" + f.Column + " = toIPv6('::'), '', " + text + ")"
	case field.UUID, field.Keyword, field.Text, field.Opaque, field.Instant, field.JSON:
	}
	return text
}
