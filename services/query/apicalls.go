package query

import (
	"context"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// callsPath is of the list "Recent API Calls" (seed 000) and what is below it.
const callsPath = "/audit-log/admin/api-calls"

// callsDays is how far back the list goes where nothing else is asked for: the
// past week.
const callsDays = 7

var (
	// callsLists are the filters of calls: of each, one of the values must hold.
	callsLists = []string{"state", "api", "moduleCode", "userName", "userUuid"}
	// callsParameters are what else says which calls a request is about.
	callsParameters = []string{"qql", "startDate", "endDate"}
	// callsChoices are the values that there are.
	callsChoices = map[string][]string{"state": audit.APICallStates}
)

// seeCalls says what the caller sees of API calls. The error is a problem 403
// for Express Lite (seed 000), and that of chosen.of.
func (s *Service) seeCalls(ctx context.Context, id identity.Identity) (visibility.Calls, error) {
	if id.Tier == identity.TierExpressLite {
		return visibility.Calls{}, problem.New(problem.KindForbidden,
			"Recent API Calls is not available to Express Lite users. What limits your calls is told by GET "+limitsPath+" and in the headers of every answer.")
	}
	chose, err := s.settings.of(ctx, id.CustomerUUID)
	return visibility.ForCalls(id, chose.RestrictUserInformation), err
}

// readCalls reads which calls a request is about, and the parameters more with
// rest. The error tells every broken rule.
func readCalls(r *http.Request, more []string, rest func(*form)) (asked, error) {
	f, err := readParameters(r, field.Calls, slices.Concat(callsParameters, more), callsLists)
	if err != nil {
		return asked{}, err
	}
	rest(f)
	a := f.asked()
	if x := f.anyOf(callsLists, callsChoices); x != nil {
		parts := []qql.Expr{x}
		if a.filter.Where != nil {
			parts = append(parts, a.filter.Where)
		}
		a.filter.Where = both(parts)
	}
	return a, f.err()
}

// apiCalls answers GET /audit-log/admin/api-calls: the calls that were submitted
// or updated in a time, by default the past week, newest first, as a page or as
// a CSV file of all.
func (s *Service) apiCalls(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	see, err := s.seeCalls(r.Context(), id)
	if err != nil {
		return err
	}
	var page searchRequest
	file := exportRequest{format: "csv", zone: time.UTC}
	csv := wantsCSV(r)
	a, err := readCalls(r, []string{"sort", "pageSize", "searchAfter", "format"}, func(f *form) {
		if text, ok := f.text("format"); ok && text != "csv" && text != "json" {
			f.violate(problem.Violation{Field: "format", Value: problem.Shorten(text), Limit: "json or csv", Message: "must be json or csv"})
		}
		f.sortText()
		page.read(f)
		for _, name := range []string{"sort", "pageSize", "searchAfter"} {
			if _, given := f.members[name]; given && csv {
				f.violate(problem.Violation{Field: name, Message: "does not go with CSV, which has all calls, newest first"})
			}
		}
		file.columns = f.columns(nil)
	})
	if err != nil {
		return err
	}
	page.asked, file.asked = a, a
	if csv {
		return s.file(w, r, id, see, file)
	}
	return s.page(w, r, id, see, page)
}

// wantsCSV says that a request is for a file: by its parameter format, else by
// its Accept, when that prefers it to JSON.
func wantsCSV(r *http.Request) bool {
	if format := r.URL.Query().Get("format"); format != "" {
		return format == "csv"
	}
	prefers := map[string]float64{}
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		prefers[media] = 1
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			prefers[media] = q
		}
	}
	return prefers["text/csv"] > prefers["application/json"]
}

// errNoCall is the answer for a call that is not there, or not in the caller's
// subscription.
var errNoCall = problem.New(problem.KindNotFound, "There is no such API call in your subscription.")

// apiCall answers GET /audit-log/admin/api-calls/{callId}: a call in its latest
// state, and the states that it was in.
func (s *Service) apiCall(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	see, err := s.seeCalls(r.Context(), id)
	if err != nil {
		return err
	}
	if err := noParameters(r); err != nil {
		return err
	}
	wanted, err := pathUUID(r, "callId", "an API call")
	if err != nil {
		return err
	}
	return s.answer(w, r, id, "API call "+wanted.String(), func(ctx context.Context) (found, error) {
		var latest, history []byte
		rec := newRecord(field.Calls)
		err := s.engine.query(ctx, "api-call", sqlgen.History(see, wanted), func(r driver.Rows) error {
			if err := rec.scan(r); err != nil {
				return err
			}
			if history != nil {
				history = append(history, ',')
			}
			history = rec.appendFields(history, historyShows)
			latest = rec.appendJSON(latest[:0], nil)
			return nil
		})
		if err != nil || latest == nil {
			return found{none: errNoCall}, err
		}
		answer := append(latest[:len(latest)-1], `,"history":[`...)
		return found{body: append(append(answer, history...), "]}"...), events: 1}, nil
	})
}

// noParameters refuses every parameter.
func noParameters(r *http.Request) error {
	f, err := readParameters(r, field.Calls, nil, nil)
	if err != nil {
		return err
	}
	return f.err()
}

// historyShows says what is told of a state that a call was in.
func historyShows(name string, _ bool) (shown, empty bool) {
	switch name {
	case "state", "updatedDate":
		return true, true
	case "reason", "durationMs", "httpStatus":
		return true, false
	}
	return false, false
}

// pathUUID reads a part of the path that must be a UUID. The error is a problem.
func pathUUID(r *http.Request, name, of string) (uuid.UUID, error) {
	text := r.PathValue(name)
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return id, problem.Invalid(problem.Violation{
			Field: name, Value: problem.Shorten(text), Limit: "a UUID",
			Message: "must be the id of " + of + ", such as eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9",
		})
	}
	return id, nil
}
