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

// Call makes the statement for one call in its latest state, with the columns
// that Rows has: no row when there is none that the caller may see.
func Call(v visibility.Calls, id uuid.UUID) Statement {
	params := param.Set{}
	call := "toUUID(" + params.Text("id", id.String()) + ")"
	// The events know the call's place in the key: one place, unless its module
	// told of it with several submittedDates.
	return Statement{
		sql: "SELECT " + columns(field.Calls) + " FROM (SELECT " + v.Columns("c", params) + ", c.version AS version FROM api_calls AS c FINAL WHERE " + v.SQL("c", params) +
			" AND c.call_id = " + call + " AND c.submitted_date IN (SELECT e.submitted_date FROM api_call_events AS e WHERE " + v.SQL("e", params) +
			" AND e.call_id = " + call + ")) ORDER BY version DESC LIMIT 1",
		params: params,
	}
}

// History makes the statement for the states that a call was in, as they
// followed, with the columns that Rows has.
func History(v visibility.Calls, id uuid.UUID) Statement {
	params := param.Set{}
	return Statement{
		sql: "SELECT " + columns(field.Calls) + " FROM (SELECT " + v.Columns("e", params) + ", e.state_rank AS state_rank FROM api_call_events AS e WHERE " +
			v.SQL("e", params) + " AND e.call_id = toUUID(" + params.Text("id", id.String()) + ")) ORDER BY updated_date, state_rank, state LIMIT 1 BY state",
		params: params,
	}
}
