package query

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
)

// readParameters reads the query of a URL as readForm reads a body: parameters
// among allowed, which are texts; of those in lists, which are lists of texts,
// several may be given. An empty one counts as not given.
func readParameters(r *http.Request, of *field.Table, allowed, lists []string) (*form, error) {
	given, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &problem.Error{Kind: problem.KindInvalid, Cause: err, Detail: "The query of the URL is broken: encode parameters as %XX, and part them by &."}
	}
	f := &form{of: of, members: map[string]jsontext.Value{}, blank: map[string]jsontext.Value{}}
	names := make([]string, 0, len(given))
	for name := range given {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values := slices.DeleteFunc(slices.Clone(given[name]), func(v string) bool { return v == "" })
		switch {
		case slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }):
			f.violate(problem.Violation{Field: problem.Shorten(name), Message: "must be UTF-8, of which each byte is encoded as %XX"})
		case slices.Contains(lists, name):
			if len(values) > 0 {
				f.members[name] = appendTexts(nil, values)
			}
		case !slices.Contains(allowed, name):
			f.unknown(name, slices.Concat(allowed, lists))
		case len(given[name]) > 1:
			f.violate(problem.Violation{Field: name, Message: "is given more than once"})
		case len(values) > 0:
			f.members[name] = appendText(nil, values[0])
		}
	}
	return f, nil
}

// one of the values of each list must hold. choices, where a list has some, are
// the only values, in any case.
func (f *form) anyOf(lists []string, choices map[string][]string) qql.Expr {
	var filters []qql.Filter
	for _, name := range lists {
		elements, ok := f.list(name, qql.MaxFilterValues)
		if !ok {
			continue
		}
		filter := qql.Filter{Field: name, Operator: "in"}
		for _, raw := range elements {
			value := unquote(raw)
			if allowed := choices[name]; allowed != nil && !slices.ContainsFunc(allowed, func(c string) bool { return strings.EqualFold(c, value) }) {
				all := strings.Join(allowed, ", ")
				f.violate(problem.Violation{Field: name, Value: problem.Shorten(value), Limit: all, Message: "must be one of " + all})
				continue
			}
			filter.Values = append(filter.Values, value)
		}
		if len(filter.Values) > 0 {
			filters = append(filters, filter)
		}
	}
	x, errs := qql.FromFilters(f.of, filters)
	for i := range filters {
		if err := errs[i]; err != nil {
			f.violate(problem.Violation{Field: filters[i].Field, Message: err.Error()})
		}
	}
	if len(errs) > 0 {
		return nil
	}
	return x
}

// sortText reads the parameter sort, a field or a field and an order, such as
// userName:desc, as the member sort of a body.
func (f *form) sortText() {
	text, ok := f.text("sort")
	if !ok {
		return
	}
	name, order, _ := strings.Cut(text, ":")
	object := append(appendText([]byte(`{"field":`), name), `,"order":`...)
	f.members["sort"] = append(appendText(object, order), '}')
}
