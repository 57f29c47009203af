package sqlgen

import (
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Histogram makes the statement that counts events between bounds: rows of
// (bound Int64, events UInt64), in order, without those that have none. bounds
// rise, in milliseconds since the Unix epoch; an event belongs to the last that
// is not after it, to the first when there is none.
func Histogram(p visibility.Predicate, f Filter, bounds []int64) Statement {
	params := param.Set{}
	return Statement{
		sql: "SELECT roundDown(toUnixTimestamp64Milli(created_date), " + params.Ints("bounds", bounds) + ") AS bound, count()" +
			from + condition(p, f, params) + " GROUP BY bound ORDER BY bound",
		params: params,
	}
}

// Span makes the statement for when the first and the last event happened: one
// row of (events UInt64, first Int64, last Int64), in milliseconds since the
// Unix epoch.
func Span(p visibility.Predicate, f Filter) Statement {
	params := param.Set{}
	return Statement{
		sql: "SELECT count(), toUnixTimestamp64Milli(min(created_date)), toUnixTimestamp64Milli(max(created_date))" +
			from + condition(p, f, params),
		params: params,
	}
}
