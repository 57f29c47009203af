package sqlgen

import (
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Export makes the statement for all records, newest first, with the columns of
// some rows of the table's Fields, in their order, and hidden as Rows has it.
// One column at least.
func Export(v visibility.View, f Filter, fields []*field.Field) Statement {
	params := param.Set{}
	of, from := source(v, f, params)
	return Statement{sql: "SELECT " + columnsOf(of, fields) + from + Sort{}.orderBy(of), params: params}
}
