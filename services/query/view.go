package query

import (
	"slices"

	"github.com/auditrail/auditrail/services/internal/problem"
)

// view is which fields of a record are shown; nil: the full record.
type view []string

// activityLog is the view of the seeds' page Activity Logs: User, Action,
// Endpoint Type, Date. Each is always there, also when empty.
var activityLog = view{"userName", "action", "endpointType", "createdDate"}

// shows says whether a field is shown, and whether also when it is empty.
func (v view) shows(name string, always bool) (shown, empty bool) {
	if v == nil {
		return true, always
	}
	in := slices.Contains(v, name)
	return in, in
}

// view reads the member view: "full", the default, or "activity-log".
func (f *form) view() view {
	switch text, _ := f.text("view"); text {
	case "", "full":
	case "activity-log":
		return activityLog
	default:
		f.violate(problem.Violation{Field: "view", Value: problem.Shorten(text), Limit: "full or activity-log", Message: "must be full or activity-log"})
	}
	return nil
}
