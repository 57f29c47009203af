package sqlgen

import (
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// latest makes the FROM of calls in their latest states, within the times that
// were asked for. Who made them is hidden in it, before anything else is done
// with the rows. FINAL goes before every condition but those on the primary key,
// so that none of them meets an earlier state.
func latest(v visibility.Calls, f Filter, params param.Set) string {
	cond := v.SQL("c", params)
	var start, end string
	if f.End != nil {
		end = instant(params, "end_date", *f.End)
		cond += " AND c.submitted_date <= " + end // and so were calls that changed before it
	}
	if f.Start != nil {
		start = instant(params, "start_date", *f.Start)
		first := start
		if f.Updated {
			within := func(updated string) string {
				if f.End == nil {
					return updated + " >= " + start
				}
				return updated + " >= " + start + " AND " + updated + " <= " + end
			}
			// When the first of the calls came in that changed within, by the key of
			// their events: so the key of the calls serves, too.
			first = "(SELECT if(count() = 0, " + start + ", min(e.submitted_date)) FROM api_call_events AS e WHERE " + v.SQL("e", params) +
				" AND " + within("e.updated_date") + " AND e.submitted_date < " + start + ")"
			cond += " AND (c.submitted_date >= " + start + " OR " + within("c.updated_date") + ")"
		}
		cond += " AND c.submitted_date >= " + first
	}
	return " FROM (SELECT " + v.Columns("c", params) + " FROM api_calls AS c FINAL WHERE " + cond + ")"
}

// History makes the statement for the states that a call was in, by their rank,
// so that the last is its latest whatever clocks said, with the columns that Rows
// has: no row when there is no such call that the caller may see.
func History(v visibility.Calls, id uuid.UUID) Statement {
	params := param.Set{}
	return Statement{
		sql: "SELECT " + columns(field.Calls) + " FROM (SELECT " + v.Columns("e", params) + ", e.state_rank AS state_rank FROM api_call_events AS e WHERE " +
			v.SQL("e", params) + " AND e.call_id = toUUID(" + params.Text("id", id.String()) + ")) ORDER BY state_rank, updated_date, state LIMIT 1 BY state",
		params: params,
	}
}
