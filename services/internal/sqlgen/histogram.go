package sqlgen

import (
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Histogram makes the statement that counts records between bounds: rows of
// (bound Int64, records UInt64), in order, without those that have none. bounds
// rise, in milliseconds since the Unix epoch; a record belongs to the last that
// is not after its date, to the first when there is none.
func Histogram(v visibility.View, f Filter, bounds []int64) Statement {
	params := param.Set{}
	of, from := source(v, f, params)
	return Statement{sql: "SELECT " + bound(of, bounds, params) + ", count()" + from + " GROUP BY bound ORDER BY bound", params: params}
}

// HistogramBy is Histogram by the values of a field, for which Facetable holds:
// rows of (bound Int64, value String, records UInt64), in order; an absent value
// is the empty text.
func HistogramBy(v visibility.View, f Filter, bounds []int64, by *field.Field) Statement {
	params := param.Set{}
	of, from := source(v, f, params)
	return Statement{
		sql: "SELECT " + bound(of, bounds, params) + ", " + text(by) + " AS value, count()" + from +
			" GROUP BY bound, value ORDER BY bound, value",
		params: params,
	}
}

func bound(of *field.Table, bounds []int64, params param.Set) string {
	return "roundDown(toUnixTimestamp64Milli(" + of.Date.Column + "), " + params.Ints("bounds", bounds) + ") AS bound"
}

// Span makes the statement for the first and the last date: one row of (records
// UInt64, first Int64, last Int64), in milliseconds since the Unix epoch.
func Span(v visibility.View, f Filter) Statement {
	params := param.Set{}
	of, from := source(v, f, params)
	return Statement{
		sql:    "SELECT count(), toUnixTimestamp64Milli(min(" + of.Date.Column + ")), toUnixTimestamp64Milli(max(" + of.Date.Column + "))" + from,
		params: params,
	}
}
