// Package sqlgen makes every SELECT that a user's request leads to. A
// statement cannot be made without a visibility.View, which says what is read,
// events or API calls, and what of them; values travel beside the text; see
// param. Rows are those of the view's table: field.Events or field.Calls.
package sqlgen

import (
	"maps"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Statement is a SELECT with its parameters. Only this package makes one.
type Statement struct {
	sql    string
	params param.Set
	lazy   bool

	format   string
	settings map[string]string
}

// Settings of ClickHouse that statements run fastest with; no answer depends on
// them. What each gives: docs/adr/0006-table-layout.md.
var Settings = map[string]any{
	// A page of few and scattered rows costs twice as much with it.
	"use_top_k_dynamic_filtering": 0,
	// Frequent words have long posting lists.
	"use_text_index_postings_cache": 1,
}

// SQL returns the text: constant parts, columns of the field table and
// placeholders.
func (s Statement) SQL() string { return s.sql }

// Lazy says that the statement reads along the primary key until it has enough:
// how many rows the engine expects to read says nothing about it.
func (s Statement) Lazy() bool { return s.lazy }

// Output is ClickHouse's name of the format that the rows must come in, and the
// settings that it needs; empty where any will do.
func (s Statement) Output() (format string, settings map[string]string) {
	return s.format, maps.Clone(s.settings)
}

// Params returns a copy of the parameter values; see param.Set for their form.
func (s Statement) Params() map[string]string { return maps.Clone(s.params) }

// Filter narrows what a caller may see to what was asked for. The zero value
// narrows nothing.
type Filter struct {
	// Start and End bound the table's date, in milliseconds since the Unix epoch,
	// both inclusive; nil leaves that end open.
	Start, End *int64
	// Updated adds the calls that came into their latest state within Start and
	// End. Of API calls.
	Updated bool
	// Where is what the record must satisfy; nil: anything. Relative dates in it
	// count from Now.
	Where qql.Expr
	Now   time.Time
}

// Page picks rows from an order.
type Page struct {
	Sort   Sort
	After  *Position // rows behind it; nil: from the beginning
	Offset int64     // rows to pass over, 0 or more
	Limit  int64     // rows to return at most, 1 or more
}

// Rows makes the statement for one page, with the columns of the table's Fields
// in their order; of API calls, hidden follows, a Bool: see
// visibility.Calls.Columns.
func Rows(v visibility.View, f Filter, page Page) Statement {
	params := param.Set{}
	of, from := source(v, f, params)
	if page.After != nil {
		from += " AND " + page.Sort.after(of, *page.After, params)
	}
	return Statement{
		sql: "SELECT " + columns(of) + from + page.Sort.orderBy(of) +
			" LIMIT " + params.Int("page_limit", page.Limit) + " OFFSET " + params.Int("page_offset", page.Offset),
		params: params,
		lazy:   page.Sort.Field == nil && of == field.Events,
	}
}

// Count makes the statement for the exact number of records: one UInt64.
func Count(v visibility.View, f Filter) Statement {
	params := param.Set{}
	_, from := source(v, f, params)
	return Statement{sql: "SELECT count()" + from, params: params}
}

// Instants that a DateTime64(3) can hold, 1900-01-01 to 2299-12-31, in
// milliseconds since the Unix epoch. Events lie well inside.
const (
	MinInstant = -2208988800000
	MaxInstant = 10413791999999
)

// instant compares as the column's own type, so that the primary key and the
// months serve. A bound beyond the type's range bounds like the range's end.
func instant(params param.Set, name string, ms int64) string {
	return "fromUnixTimestamp64Milli(" + params.Int(name, min(max(ms, MinInstant), MaxInstant)) + ", 'UTC')"
}
