package sqlgen

import (
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Export makes the statement for all events, newest first, with the columns of
// some rows of field.Fields, in their order. One column at least.
func Export(p visibility.Predicate, f Filter, fields []*field.Field) Statement {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Column
	}
	params := param.Set{}
	return Statement{sql: "SELECT " + strings.Join(names, ", ") + from + condition(p, f, params) + newestFirst, params: params}
}
