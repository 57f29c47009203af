package sqlgen

import (
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Event makes the statement for one event, with the columns of field.Events in
// their order: no row when there is none that the caller may see.
func Event(p visibility.Predicate, id uuid.UUID) Statement {
	params := param.Set{}
	of, from := source(p, Filter{}, params)
	return Statement{
		sql: "SELECT " + columns(of) + from +
			" AND id = toUUID(" + params.Text("id", id.String()) + ") LIMIT 1",
		params: params,
	}
}
