// Package sqlgen makes every SELECT that a user's request leads to. A
// statement cannot be made without a visibility.Predicate, and values travel
// beside the text; see param.
package sqlgen

import (
	"maps"
	"strings"
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

// Params returns a copy of the parameter values; see param.Set for their form.
func (s Statement) Params() map[string]string { return maps.Clone(s.params) }

// Filter narrows what a caller may see to what was asked for. The zero value
// narrows nothing.
type Filter struct {
	// Start and End bound createdDate, in milliseconds since the Unix epoch,
	// both inclusive; nil leaves that end open.
	Start, End *int64
	// Where is what the event must satisfy; nil: anything. Relative dates in it
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

// from is the table of audit events.
const from = " FROM audit_events"

// newestFirst is the order of events: newest first, ties by the text of the
// id, descending. That is how the primary key ends: a page is read backwards
// along the key.
const newestFirst = " ORDER BY created_date DESC, " + idNumber + " DESC"

// columns lists the columns of field.Fields, in order.
var columns = func() string {
	names := make([]string, len(field.Fields))
	for i, f := range field.Fields {
		names[i] = f.Column
	}
	return strings.Join(names, ", ")
}()

// Rows makes the statement for one page of events, with the columns
// of field.Fields in their order.
func Rows(p visibility.Predicate, f Filter, page Page) Statement {
	params := param.Set{}
	where := condition(p, f, params)
	if page.After != nil {
		where += " AND " + page.Sort.after(*page.After, params)
	}
	return Statement{
		sql: "SELECT " + columns + from + where + page.Sort.orderBy() +
			" LIMIT " + params.Int("page_limit", page.Limit) + " OFFSET " + params.Int("page_offset", page.Offset),
		params: params,
		lazy:   page.Sort.Field == nil,
	}
}

// Count makes the statement for the exact number of events: one UInt64.
func Count(p visibility.Predicate, f Filter) Statement {
	params := param.Set{}
	return Statement{sql: "SELECT count()" + from + condition(p, f, params), params: params}
}

// condition is the one WHERE clause: what the caller may see, then what was
// asked for.
func condition(p visibility.Predicate, f Filter, params param.Set) string {
	cond := " WHERE " + p.SQL(params)
	if f.Start != nil {
		cond += " AND created_date >= " + instant(params, "start_date", *f.Start)
	}
	if f.End != nil {
		cond += " AND created_date <= " + instant(params, "end_date", *f.End)
	}
	if f.Where != nil {
		cond += " AND " + where(f.Where, f.Now, params)
	}
	return cond
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
