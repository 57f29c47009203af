package qql

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/field"
)

func filter(name, operator string, values ...string) Filter { return Filter{name, operator, values} }

func TestFromFilters(t *testing.T) {
	for _, test := range []struct {
		filters []Filter
		want    Expr
		print   string
	}{
		{nil, nil, ""},
		{[]Filter{filter("userName", "is", "Jack")}, Test{f("userName"), among("Jack")}, "userName: [Jack]"},
		{[]Filter{filter("USERNAME", "Is Not", "J*")}, Not{Test{f("userName"), among("J*")}}, `NOT userName: ["J*"]`},
		{[]Filter{filter("userUuid", "is", "A b")}, Test{f("userUuid"), among("=A b")}, "userUuid: [A b]"},
		{[]Filter{filter("endpointType", "IN", "Web UI", "API")}, Test{f("endpointType"), among("Web UI", "API")}, "endpointType: [Web UI, API]"},
		{[]Filter{filter("auditComment", "contains", " a*b ")}, Test{f("auditComment"), Like{"", " a*b ", ""}}, `auditComment: *" a*b "*`},
		{[]Filter{filter("targetName", "startsWith", "and")}, Test{f("targetName"), Like{"and", ""}}, "targetName: and*"},
		{[]Filter{filter("extra", "contains", `"k":`)}, Test{f("extra"), Like{"", `"k":`, ""}}, `extra: *"\"k\":"*`},
		{[]Filter{filter("id", "is", anID)}, Test{f("id"), In{{Value: ID(uuid.MustParse(anID))}}}, "id: [" + anID + "]"},
		{[]Filter{filter("sourceIp", "is not", "10.0.0.0/8")}, Not{Test{f("sourceIp"), In{{Value: network("10.0.0.0/8")}}}}, "NOT sourceIp: [10.0.0.0/8]"},
		{[]Filter{filter("sourceIp", "between", "10.0.0.1", "10.0.0.9")}, Test{f("sourceIp"), Range{&Bound{Value: ip("10.0.0.1")}, &Bound{Value: ip("10.0.0.9")}}}, "sourceIp: [10.0.0.1 .. 10.0.0.9]"},
		{[]Filter{filter("auditEnabledAppId", "between", "1", "5")}, Test{f("auditEnabledAppId"), Range{&Bound{Value: Number(1)}, &Bound{Value: Number(5)}}}, "auditEnabledAppId: [1 .. 5]"},
		{[]Filter{filter("createdDate", "between", "2026-01", "now-7d")}, Test{f("createdDate"), Range{&Bound{Value: january}, &Bound{Value: week}}}, "createdDate: [2026-01 .. now-7d]"},
		{[]Filter{filter("createdDate", "before", "2026-01")}, Test{f("createdDate"), Range{High: &Bound{january, true}}}, "createdDate < 2026-01"},
		{[]Filter{filter("createdDate", "after", "now-7d")}, Test{f("createdDate"), Range{Low: &Bound{week, true}}}, "createdDate > now-7d"},
		{[]Filter{filter("createdDate", "is", "2026-01")}, Test{f("createdDate"), In{{Value: january}}}, "createdDate: [2026-01]"},
		{[]Filter{filter("changes.field", "is", "role")}, inChanges(Test{entry("field"), among("role")}), "changes.field: [role]"},
		{[]Filter{filter("changes.field", "is not", "role")}, Not{inChanges(Test{entry("field"), among("role")})}, "NOT changes.field: [role]"},
		{[]Filter{filter("action", "is", "Add"), filter("action", "is not", "Delete")},
			And{Test{f("action"), among("Add")}, Not{Test{f("action"), among("Delete")}}}, "action: [Add] AND NOT action: [Delete]"},
	} {
		got, errs := FromFilters(field.Events, test.filters)
		if errs != nil {
			t.Errorf("%v: %v", test.filters, errs)
			continue
		}
		if diff := cmp.Diff(test.want, got, equal); diff != "" {
			t.Errorf("%v: -want +got\n%s", test.filters, diff)
		}
		if got == nil {
			continue
		}
		if got.String() != test.print {
			t.Errorf("%v\nprints  %s\nwant    %s", test.filters, got, test.print)
		}
		printsBack(t, field.Events, got)
	}
}

func TestWrongFilters(t *testing.T) {
	ok := filter("action", "is", "Add")
	for _, test := range []struct {
		filter Filter
		want   string
	}{
		{filter("acton", "is", "Add"), "acton is not a field; did you mean action?"},
		{filter("changes.filed", "is", "role"), "changes has field, before and after; changes.filed is none of them; did you mean changes.field?"},
		{filter("action", "before", "Add"), `action is a text and has no operator "before"; it has is, is not, contains, starts with and in`},
		{filter("action", "", "Add"), `action is a text and has no operator ""; it has is, is not, contains, starts with and in`},
		{filter("userUuid", "contains", "a"), `userUuid is an id and has no operator "contains"; it has is, is not and in`},
		{filter("createdDate", "contains", "2026"), `createdDate is a date and has no operator "contains"; it has is, is not, in, between, before and after`},
		{filter("action", "is"), "action is: needs one value; it has 0. For one of several there is in"},
		{filter("action", "is", "a", "b"), "action is: needs one value; it has 2. For one of several there is in"},
		{filter("action", "in"), "action in: needs one or more values"},
		{filter("action", "in", slices.Repeat([]string{"a"}, 101)...), "action in: has 101 values; at most 100 are possible"},
		{filter("createdDate", "between", "now"), "createdDate between: needs two values, from and to; it has 1"},
		{filter("createdDate", "between", "2026-02", "2026-01"), "createdDate between: the range ends before it begins: swap its ends"},
		{filter("createdDate", "after", "1650444199"), "createdDate after: 1650444199 can only be seconds since 1970: createdDate is in milliseconds, so write 1650444199000"},
		{filter("createdDate", "is", "soon"), `createdDate is: createdDate is a date: "soon" is not one; write one such as now-7d or 2026-01-31`},
		{filter("action", "is", " "), "action is: a value is empty"},
		{filter("action", "is", "\xff"), "action is: a value is not valid UTF-8"},
		{filter("action", "is", strings.Repeat("ä", 501)), "action is: a value has 501 characters; at most 500 are possible"},
	} {
		x, errs := FromFilters(field.Events, []Filter{ok, test.filter, ok})
		if x != nil || len(errs) != 1 || errs[1] == nil {
			t.Errorf("%.60v: %v, %v", test.filter, x, errs)
			continue
		}
		if errs[1].Error() != test.want {
			t.Errorf("%.60v\nsays  %v\nwant  %s", test.filter, errs[1], test.want)
		}
	}
	if _, errs := FromFilters(field.Events, slices.Repeat([]Filter{ok}, MaxFilters)); errs != nil {
		t.Errorf("%d filters: %v", MaxFilters, errs)
	}
	_, errs := FromFilters(field.Events, slices.Repeat([]Filter{ok}, MaxFilters+1))
	if want := "there are 21 filters; at most 20 are possible"; len(errs) != 1 || errs[MaxFilters] == nil || errs[MaxFilters].Error() != want {
		t.Errorf("%d filters: %v", MaxFilters+1, errs)
	}
}

// TestFiltersPrint checks that what filters make is a query like any.
func TestFiltersPrint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := rapid.SampledFrom(tables).Draw(t, "table")
		filters := make([]Filter, rapid.IntRange(1, 3).Draw(t, "filters"))
		for i := range filters {
			of := table.Fields[rapid.IntRange(0, len(table.Fields)-1).Draw(t, "field")]
			filters[i] = filter(of.Name, rapid.SampledFrom(FilterOperators(of.Type)).Draw(t, "operator"))
			n := 1
			if filters[i].Operator == "between" {
				n = 2
			}
			for range n {
				value := drawText(t)
				if one, _ := samples(&of); typed(of.Type) {
					value = strings.TrimSuffix(one, "/8")
				}
				filters[i].Values = append(filters[i].Values, value)
			}
		}
		if x, errs := FromFilters(table, filters); errs == nil {
			printsBack(t, table, x)
		}
	})
}

// TestOperatorsWork checks that each type has the operators that are listed
// for it, and no others.
func TestOperatorsWork(t *testing.T) {
	every := []string{":", "=", ">", ">=", "<", "<=", "is null", "is not null"}
	filters := []string{"is", "is not", "contains", "starts with", "in", "between", "before", "after"}
	for _, table := range tables {
		for i := range table.Fields {
			of := &table.Fields[i]
			value, _ := samples(of)
			value = strings.TrimSuffix(value, "/8")
			for _, operator := range every {
				query := fmt.Sprintf("%s %s %s", of.Name, operator, value)
				if strings.HasPrefix(operator, "is") {
					query = of.Name + " " + operator
				}
				_, err := Parse(table, query)
				if listed := slices.Contains(Operators(of.Type), operator); listed != (err == nil) {
					t.Errorf("%s: listed %v, but %v", query, listed, err)
				}
			}
			for _, operator := range filters {
				values := []string{value}
				if operator == "between" {
					values = append(values, value)
				}
				_, errs := FromFilters(table, []Filter{{of.Name, operator, values}})
				if listed := slices.Contains(FilterOperators(of.Type), operator); listed != (errs == nil) {
					t.Errorf("%s %s %s: listed %v, but %v", of.Name, operator, value, listed, errs)
				}
			}
		}
	}
}

func TestMentions(t *testing.T) {
	for _, test := range []struct {
		query, name string
		want        bool
	}{
		{"", "action", false},
		{"action: add", "ACTION", true},
		{"action: add", "status", false},
		{"a AND (b OR NOT createdDate > now)", "createdDate", true},
		{"createdDate is null", "createdDate", true},
		{"changes.field: action", "changes", true},
		{"changes.field: action", "field", false},
		{"changes.field: action", "action", false},
		{"failed", "auditComment", true},
		{"failed", "action", false},
	} {
		x, err := Parse(field.Events, test.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := Mentions(field.Events, x, test.name); got != test.want {
			t.Errorf("%q mentions %s: %v", test.query, test.name, got)
		}
	}
}

func TestFieldsOfMessagesAreFields(t *testing.T) {
	for _, table := range tables {
		for _, name := range table.Common {
			if of := field.Find(table.Fields, name); of == nil || of.Name != name {
				t.Errorf("%s is not a field of %s", name, table.Name)
			}
		}
	}
}
