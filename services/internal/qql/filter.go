package qql

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/auditrail/auditrail/services/internal/field"
)

// Filter is one structured filter: a field, what to compare and with what.
type Filter struct {
	Field    string   // in any case; changes.field is one of an entry of changes
	Operator string   // one of FilterOperators of the field's type, in any case
	Values   []string // one; two for between; one or more for in
}

// Limits of filters.
const (
	MaxFilters      = 20
	MaxFilterValues = 100 // in one filter
	MaxFilterValue  = 500 // characters in a value
)

// FilterError says what is wrong with a filter.
type FilterError struct {
	Member  string // field, operator or value
	Message string // what is wrong, and what would do
}

func (e *FilterError) Error() string { return e.Message }

// FromFilters makes the condition on a table that all filters demand; nil when there are
// none. The errors are those of the filters, by their index, each a
// *FilterError; nil when there are none.
func FromFilters(of *field.Table, filters []Filter) (Expr, map[int]error) {
	if len(filters) > MaxFilters {
		return nil, map[int]error{MaxFilters: fmt.Errorf("there are %d filters; at most %d are possible", len(filters), MaxFilters)}
	}
	var parts And
	errs := map[int]error{}
	for i, f := range filters {
		x, err := f.expr(of)
		if err != nil {
			errs[i] = err
			continue
		}
		parts = append(parts, x)
	}
	switch {
	case len(errs) > 0:
		return nil, errs
	case len(parts) == 0:
		return nil, nil
	case len(parts) == 1:
		return parts[0], nil
	}
	return parts, nil
}

// expr makes the condition of one filter.
func (f Filter) expr(table *field.Table) (Expr, error) {
	of, nested := find(table, f.Field)
	if of == nil {
		return nil, &FilterError{"field", unknown(table, f.Field)}
	}
	var operator string
	for _, o := range FilterOperators(of.Type) {
		if plain(o) == plain(f.Operator) {
			operator = o
		}
	}
	if operator == "" {
		return nil, &FilterError{"operator", fmt.Sprintf("%s is %s and has no operator %s; it has %s", of.Name, kind(of.Type),
			quoteForMessage(f.Operator), list(FilterOperators(of.Type)))}
	}
	cond, err := f.cond(of, operator)
	if err != nil {
		return nil, &FilterError{"value", fmt.Sprintf("%s %s: %s", of.Name, operator, err)}
	}
	var x Expr = Test{of, cond}
	if nested != nil {
		x = Nested{nested, x}
	}
	if operator == "is not" {
		x = Not{x}
	}
	return x, nil
}

func (f Filter) cond(of *field.Field, operator string) (Cond, error) {
	if err := f.checkValues(operator); err != nil {
		return nil, err
	}
	first := f.Values[0]
	switch operator {
	case "contains":
		return Like{"", first, ""}, nil
	case "starts with":
		return Like{first, ""}, nil
	case "between":
		return between(of, first, f.Values[1])
	case "before", "after":
		v, err := parseBound(of, first)
		if err != nil {
			return nil, err
		}
		if operator == "before" {
			return Range{High: &Bound{v, true}}, nil
		}
		return Range{Low: &Bound{v, true}}, nil
	}
	in := make(In, len(f.Values))
	for i, text := range f.Values {
		m, err := member(of, text, false)
		if err != nil {
			return nil, err
		}
		in[i] = m
	}
	return in, nil
}

// checkValues checks what holds for the values of any field.
func (f Filter) checkValues(operator string) error {
	n := len(f.Values)
	switch {
	case operator == "in" && n == 0:
		return errors.New("needs one or more values")
	case operator == "in" && n > MaxFilterValues:
		return fmt.Errorf("has %d values; at most %d are possible", n, MaxFilterValues)
	case operator == "between" && n != 2:
		return fmt.Errorf("needs two values, from and to; it has %d", n)
	case operator != "in" && operator != "between" && n != 1:
		return fmt.Errorf("needs one value; it has %d. For one of several there is in", n)
	}
	for _, v := range f.Values {
		switch c := utf8.RuneCountInString(v); {
		case c > MaxFilterValue:
			return fmt.Errorf("a value has %d characters; at most %d are possible", c, MaxFilterValue)
		case strings.TrimSpace(v) == "":
			return errors.New("a value is empty")
		case !utf8.ValidString(v):
			return errors.New("a value is not valid UTF-8")
		}
	}
	return nil
}
