package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// askedMembers are the members of every request that says which events it is
// about.
var askedMembers = []string{"qql", "where", "startDate", "endDate", "customerUuid", "userUuid"}

// asked is which events a request is about.
type asked struct {
	of *field.Table // events or API calls
	// filter has what was asked for; bound adds the default timeframe.
	filter sqlgen.Filter
	// days is the default timeframe that bound applied; 0: none.
	days int

	customerUUID, userUUID *string
}

// readAsked reads a request's body, of which members are allowed beside
// askedMembers; rest, when not nil, reads those. The errors are problems, or
// errClientGone. The caller binds what comes back to a moment: bound.
func readAsked(w http.ResponseWriter, r *http.Request, id identity.Identity, members []string, rest func(*form)) (asked, error) {
	body, err := readBody(w, r)
	if err != nil {
		return asked{}, err
	}
	a, err := parseAsked(body, members, rest)
	if err != nil {
		return a, err
	}
	return a, a.allowed(id)
}

// parseAsked is readAsked without HTTP. The error tells every broken rule.
func parseAsked(body []byte, members []string, rest func(*form)) (asked, error) {
	f, err := readForm(body, append(members[:len(members):len(members)], askedMembers...))
	if err != nil {
		return asked{}, err
	}
	if rest != nil {
		rest(f)
	}
	a := f.asked()
	if v, ok := f.id("customerUuid"); ok {
		a.customerUUID = &v
	}
	if v, ok := f.id("userUuid"); ok {
		a.userUUID = &v
	}
	return a, f.err()
}

// asked reads the query and the dates.
func (f *form) asked() (a asked) {
	a.of = f.of
	a.filter.Where = f.condition()
	a.filter.Updated = f.of == field.Calls
	a.filter.Start, a.filter.End = f.dateRange()
	return a
}

// condition returns what qql and where demand, of both; nil when they demand
// nothing.
func (f *form) condition() qql.Expr {
	var all []qql.Expr
	if text, ok := f.short("qql", qql.MaxLength); ok && strings.TrimSpace(text) != "" {
		x, err := qql.Parse(f.of, text)
		if err != nil {
			f.violate(queryViolation(err))
		} else if x != nil {
			all = append(all, x)
		}
	}
	if x := f.where(); x != nil {
		all = append(all, x)
	}
	return both(all)
}

// both joins conditions; a part that is an And itself does not stay one.
func both(all []qql.Expr) qql.Expr {
	var parts qql.And
	for _, x := range all {
		if and, ok := x.(qql.And); ok {
			parts = append(parts, and...)
		} else {
			parts = append(parts, x)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return parts
}

// queryViolation tells what qql.Parse refused.
func queryViolation(err error) problem.Violation {
	v := problem.Violation{Field: "qql", Message: err.Error()}
	if e, ok := errors.AsType[*qql.Error](err); ok {
		v.Line, v.Column, v.Example = e.Line, e.Column, e.Example
	}
	return v
}

// allowed holds the ids that a request may name against the token. The answer
// says nothing about whom they belong to.
func (a asked) allowed(id identity.Identity) error {
	if a.customerUUID != nil && *a.customerUUID != id.CustomerUUID {
		return problem.New(problem.KindForbidden, "customerUuid is not the token's subscription. Leave it out, or use that subscription's token.")
	}
	if a.userUUID != nil && *a.userUUID != id.UserUUID {
		return problem.New(problem.KindForbidden, "userUuid is not the token's user. Leave it out, or use that user's token.")
	}
	return nil
}

// bound fixes what was asked for to now, and adds the subscription's default
// timeframe where the request names no dates. It must be called before the
// filter is used. Errors are those of chosen.of.
func (s *Service) bound(ctx context.Context, id identity.Identity, a *asked) (err error) {
	days := 0
	if !a.dated() && a.of == field.Calls {
		days = callsDays
	} else if !a.dated() {
		if days, err = s.settings.timeframe(ctx, id); err != nil {
			return err
		}
	}
	a.at(time.Now(), days)
	return nil
}

// at fixes relative dates to now, and bounds what names no dates to as many
// days before it. The end stays open: modules' clocks may run ahead.
func (a *asked) at(now time.Time, days int) {
	a.filter.Now = now
	if a.dated() {
		return
	}
	start := now.UTC().AddDate(0, 0, -days).UnixMilli()
	a.filter.Start, a.days = &start, days
}

// dated says that the request itself bounds a date, or means not to.
func (a *asked) dated() bool {
	return a.filter.Start != nil || a.filter.End != nil || slices.ContainsFunc(a.of.Fields, func(f field.Field) bool {
		return f.Type == field.Instant && qql.Mentions(a.of, a.filter.Where, f.Name)
	})
}

// appendApplied appends the members of an answer that say what the search was
// bounded to: startDate and endDate, null where open, and timeframeDays where
// the default timeframe was applied.
func (a *asked) appendApplied(b []byte) []byte {
	date := func(ms *int64) string {
		if ms == nil {
			return "null"
		}
		return fmt.Sprint(*ms)
	}
	b = fmt.Appendf(b, `"startDate":%s,"endDate":%s`, date(a.filter.Start), date(a.filter.End))
	if a.days > 0 {
		b = fmt.Appendf(b, `,"timeframeDays":%d`, a.days)
	}
	return b
}

// describe says what was asked for, for the audit event of a search.
func (a *asked) describe(what string) string {
	query := ""
	if a.filter.Where != nil {
		query = a.filter.Where.String()
	}
	return describe(what, query, a.filter.Start, a.filter.End)
}

func describe(what, query string, start, end *int64) string {
	if query == "" {
		query = "everything"
	}
	date := func(ms *int64) string {
		if ms == nil {
			return "open"
		}
		return time.UnixMilli(*ms).UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s for %s, from %s to %s", what, query, date(start), date(end))
}
