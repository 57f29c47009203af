package sqlgen

import (
	"fmt"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// source makes the FROM and WHERE of a statement: what the caller may see, of
// it what was asked for. More may follow behind AND.
func source(v visibility.View, f Filter, params param.Set) (of *field.Table, from string) {
	switch v := v.(type) {
	case visibility.Predicate:
		of, from = field.Events, " FROM audit_events WHERE "+v.SQL(params)
		if f.Start != nil {
			from += " AND created_date >= " + instant(params, "start_date", *f.Start)
		}
		if f.End != nil {
			from += " AND created_date <= " + instant(params, "end_date", *f.End)
		}
	case visibility.Calls:
		of, from = field.Calls, latest(v, f, params)+" WHERE 1"
	default:
		panic(fmt.Sprintf("sqlgen: %T is no view", v))
	}
	if f.Where != nil {
		from += " AND " + where(of, f.Where, f.Now, params)
	}
	return of, from
}

// columns lists the columns of a table, in order, and what shows of each row of
// the view beside them.
func columns(of *field.Table) string {
	fields := make([]*field.Field, len(of.Fields))
	for i := range of.Fields {
		fields[i] = &of.Fields[i]
	}
	return columnsOf(of, fields)
}

func columnsOf(of *field.Table, fields []*field.Field) string {
	names := make([]string, len(fields), len(fields)+1)
	for i, f := range fields {
		names[i] = f.Column
	}
	if of == field.Calls {
		names = append(names, "hidden")
	}
	return strings.Join(names, ", ")
}
