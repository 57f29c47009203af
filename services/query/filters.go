package query

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
)

// filterMembers are the members of one filter.
var filterMembers = []string{"field", "operator", "value"}

// where returns the condition of the member where, a list of structured
// filters; nil when there are none or they are broken.
func (f *form) where() qql.Expr {
	elements, ok := f.list("where", qql.MaxFilters)
	if !ok {
		return nil
	}
	broken := len(f.violations)
	filters := make([]qql.Filter, len(elements))
	for i, raw := range elements {
		filters[i] = f.filter(fmt.Sprintf("where[%d]", i), raw)
	}
	if len(f.violations) > broken {
		return nil
	}
	x, errs := qql.FromFilters(f.of, filters)
	for i := range filters {
		if err := errs[i]; err != nil {
			at := fmt.Sprintf("where[%d]", i)
			if of, ok := errors.AsType[*qql.FilterError](err); ok {
				at += "." + of.Member
			}
			f.violate(problem.Violation{Field: at, Message: err.Error()})
		}
	}
	if len(errs) > 0 {
		return nil
	}
	return x
}

// filter reads one filter. at says where it stands.
func (f *form) filter(at string, raw jsontext.Value) (filter qql.Filter) {
	inner, ok := f.object(at, raw, filterMembers)
	if !ok {
		return filter
	}
	for _, name := range filterMembers {
		if _, given := inner.members[name]; !given {
			inner.violate(problem.Violation{Field: name, Message: "is missing"})
		}
	}
	filter.Field, _ = inner.short("field", qql.MaxLength)
	filter.Operator, _ = inner.short("operator", qql.MaxLength)
	filter.Values = inner.values("value")
	f.within(at, inner)
	return filter
}

// values reads a member that is a string, a number or a list of them. An empty
// string is not a value.
func (f *form) values(name string) []string {
	raw, given := f.members[name]
	elements := []jsontext.Value{raw}
	if given && raw.Kind() == '[' {
		elements, given = f.list(name, qql.MaxFilterValues)
		if !given {
			return nil
		}
	}
	if !given {
		return nil
	}
	if len(elements) == 0 {
		f.violate(problem.Violation{Field: name, Message: "must not be an empty list"})
		return nil
	}
	values := make([]string, len(elements))
	for i, e := range elements {
		text := string(e)
		switch e.Kind() {
		case '"':
			text = unquote(e)
		case '0':
			if n, err := parseWhole(text); err == nil {
				text = strconv.FormatInt(n, 10)
			}
		default:
			f.violate(problem.Violation{Field: name, Value: problem.Shorten(text), Message: "must be a string, a number or a list of them"})
			return nil
		}
		values[i] = text
	}
	return values
}

// list returns the elements of a member that is an array of at most so many;
// ok is false when it is not given or broken.
func (f *form) list(name string, most int) (elements []jsontext.Value, ok bool) {
	raw, given := f.members[name]
	if !given {
		return nil, false
	}
	if raw.Kind() != '[' {
		f.violate(problem.Violation{Field: name, Value: problem.Shorten(string(raw)), Message: "must be a list"})
		return nil, false
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true))
	_, err := dec.ReadToken()
	for err == nil && dec.PeekKind() != ']' {
		var v jsontext.Value
		if v, err = dec.ReadValue(); err == nil {
			elements = append(elements, v.Clone())
		}
	}
	if err != nil { // cannot be: the value was decoded
		f.violate(problem.Violation{Field: name, Message: "is not valid JSON"})
		return nil, false
	}
	if n := len(elements); n > most {
		f.violate(problem.Violation{
			Field: name, Limit: fmt.Sprintf("%d", most), Message: fmt.Sprintf("has %d entries; the limit is %d", n, most),
		})
		return nil, false
	}
	return elements, true
}
