package query

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// sort reads the member sort: {"field": ..., "order": "asc" or "desc"}. The
// order is "asc" when it is not given. Newest first is the zero value.
func (f *form) sort() (sort sqlgen.Sort) {
	raw, given := f.members["sort"]
	if !given {
		return sort
	}
	inner, ok := f.object("sort", raw, []string{"field", "order"})
	if !ok {
		return sort
	}
	if sort.Field = inner.field("field", sqlgen.Sortable); sort.Field == nil && len(inner.violations) == 0 {
		inner.violate(problem.Violation{Field: "field", Message: "is missing"})
	}
	order, _ := inner.text("order")
	switch strings.ToLower(order) {
	case "asc", "":
		sort.Ascending = true
	case "desc":
	default:
		inner.violate(problem.Violation{Field: "order", Value: problem.Shorten(order), Limit: "asc or desc", Message: "must be asc or desc"})
	}
	f.within("sort", inner)
	if sort.Field != nil && sort.Field == f.of.Date && !sort.Ascending {
		return sqlgen.Sort{} // the order of the primary key
	}
	return sort
}

// field returns the row of the table that a member names, in any case, among
// those that fit; nil when it is not given or broken.
func (f *form) field(name string, fit func(*field.Field) bool) *field.Field {
	text, ok := f.text(name)
	if !ok {
		return nil
	}
	return f.named(name, text, fit)
}

// named finds a field that the request names at a place.
func (f *form) named(at, name string, fit func(*field.Field) bool) *field.Field {
	found := field.Find(f.of.Fields, name)
	if found != nil && fit(found) {
		return found
	}
	var names []string
	for _, of := range allOf(f.of) {
		if fit(of) {
			names = append(names, of.Name)
		}
	}
	f.violate(problem.Violation{Field: at, Value: problem.Shorten(name), Limit: strings.Join(names, ", "), Message: "must be one of " + strings.Join(names, ", ")})
	return nil
}

// object reads a value that must be an object with members among allowed. The
// caller hands its violations on: within.
func (f *form) object(at string, raw jsontext.Value, allowed []string) (inner *form, ok bool) {
	if raw.Kind() == '{' {
		if inner, err := readForm(raw, allowed); err == nil {
			inner.of = f.of
			return inner, true
		}
	}
	f.violate(problem.Violation{Field: at, Value: problem.Shorten(string(raw)), Message: "must be an object with the members " + strings.Join(allowed, ", ")})
	return nil, false
}

// within takes over the violations of an object that stands at a place.
func (f *form) within(at string, inner *form) {
	for _, v := range inner.violations {
		v.Field = at + "." + v.Field
		f.violate(v)
	}
}
