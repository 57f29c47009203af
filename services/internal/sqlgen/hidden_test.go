package sqlgen_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// otherwise are the same calls, made by others where who made them is hidden
// from a viewer, and how many those are.
func otherwise(see visibility.Calls, all [][]audit.APICall) (other [][]audit.APICall, hidden int) {
	return rapid.Custom(func(t *rapid.T) [][]audit.APICall {
		hidden = 0
		other := make([][]audit.APICall, len(all))
		for i, states := range all {
			for _, c := range states {
				if shown, ok := see.Show(&c); ok && shown.UserRole == visibility.Hidden && shown.SourceIP == visibility.Hidden {
					hidden++
					o := c
					for {
						o.UserName, o.UserRole, o.UserUUID = pick(t, who), pick(t, nastyTexts), pick(t, who)
						o.Client, o.SourceIP = pick(t, nastyTexts), pick(t, addresses)
						if again, _ := see.Show(&o); again == shown {
							break
						}
					}
					c = o
				}
				other[i] = append(other[i], c)
			}
		}
		return other
	}).Example(2), hidden
}

// rows are the rows of an answer, each in its text.
func rows(t testing.TB, conn driver.Conn, s sqlgen.Statement) (rows []string) {
	t.Helper()
	query(t, conn, s, func(r driver.Rows) error {
		dest := make([]any, len(r.Columns()))
		for i, c := range r.ColumnTypes() {
			dest[i] = reflect.New(c.ScanType()).Interface()
		}
		err := r.Scan(dest...)
		var row strings.Builder
		for _, d := range dest {
			fmt.Fprintf(&row, "%q|", fmt.Sprint(reflect.ValueOf(d).Elem().Interface()))
		}
		rows = append(rows, row.String())
		return err
	})
	return rows
}

// positionOf is the place of a call in an order.
func positionOf(c audit.APICall, s sqlgen.Sort) *sqlgen.Position {
	p := sqlgen.Position{Date: c.SubmittedDate, ID: uuid.MustParse(c.CallID)}
	if s.Field == nil || s.Field == field.Calls.Date || s.Field == field.Calls.ID {
		return &p
	}
	call := reflect.ValueOf(c)
	for i := range call.NumField() {
		if name, _, _ := strings.Cut(call.Type().Field(i).Tag.Get("json"), ","); name == s.Field.Name {
			p.Value = fmt.Sprint(call.Field(i).Interface())
		}
	}
	if s.Field.Type == field.Address && (p.Value == "" || p.Value == visibility.Hidden) {
		p.Value = "::"
	}
	p.Value = p.Value[:min(len(p.Value), sqlgen.SortBytes)]
	return &p
}

// statement draws what a viewer may ask about calls.
func statement(t *rapid.T, see visibility.Calls, all [][]audit.APICall) sqlgen.Statement {
	f := sqlgen.Filter{Now: now, Updated: rapid.Bool().Draw(t, "updated")}
	if rapid.IntRange(0, 3).Draw(t, "where") > 0 {
		f.Where = trees{T: t, of: field.Calls}.expr(rapid.IntRange(0, 2).Draw(t, "depth"))
	}
	if rapid.Bool().Draw(t, "start") {
		at := pick(t, instants)
		f.Start = &at
	}
	var facetable, fields []*field.Field
	for i := range field.Calls.Fields {
		of := &field.Calls.Fields[i]
		fields = append(fields, of)
		if sqlgen.Facetable(of) {
			facetable = append(facetable, of)
		}
	}
	switch rapid.IntRange(0, 8).Draw(t, "statement") {
	case 0:
		return sqlgen.Count(see, f)
	case 1:
		return sqlgen.Facets(see, f, facetable, int64(rapid.IntRange(1, 50).Draw(t, "size")))
	case 2:
		return sqlgen.Histogram(see, f, instants[:2])
	case 3:
		return sqlgen.HistogramBy(see, f, instants[:2], pick(t, facetable))
	case 4:
		return sqlgen.Export(see, f, fields)
	case 5:
		return sqlgen.History(see, eventID(rapid.IntRange(0, len(all)-1).Draw(t, "call")))
	}
	page := sqlgen.Page{Limit: int64(rapid.IntRange(1, 50).Draw(t, "limit")), Offset: int64(rapid.IntRange(0, 20).Draw(t, "offset"))}
	if rapid.Bool().Draw(t, "sorted") {
		page.Sort = sqlgen.Sort{Field: pick(t, fields), Ascending: rapid.Bool().Draw(t, "ascending")}
	}
	if rapid.Bool().Draw(t, "after") { // a call that it was shown
		i := rapid.IntRange(0, len(all)-1).Draw(t, "position")
		shown, _ := see.Show(&latestOf(all)[i])
		if shown.CallID != "" {
			page.After = positionOf(asStored(shown), page.Sort)
		}
	}
	return sqlgen.Rows(see, f, page)
}

// TestNothingHiddenShows holds that no answer depends on who made a call whose
// user is hidden from the viewer: two tables that differ in nothing else answer
// every question alike, to the byte.
func TestNothingHiddenShows(t *testing.T) {
	all := someCalls(150)
	this := open(t)
	storeCalls(t, this, all)
	for name, id := range map[string]identity.Identity{
		"reader":         reader,
		"without a unit": {CustomerUUID: "c1", UserUUID: "-", Name: "-", Role: identity.RoleScanner},
		"unit manager":   {CustomerUUID: "c1", UserUUID: `\N`, Role: identity.RoleUnitManager, BusinessUnits: []string{"a", "οδος"}},
	} {
		t.Run(name, func(t *testing.T) {
			see, everything := visibility.ForCalls(id, true), visibility.ForCalls(id, false)
			others, hidden := otherwise(see, all)
			if hidden < 50 {
				t.Fatalf("%d states are hidden", hidden)
			}
			other := open(t)
			storeCalls(t, other, others)
			trials, differ := 0, 0
			rapid.Check(t, func(rt *rapid.T) {
				s := statement(rt, see, all)
				if d := cmp.Diff(rows(t, this, s), rows(t, other, s)); d != "" {
					rt.Fatalf("%s\n%v\n%s", s.SQL(), s.Params(), d)
				}
				trials++
			})
			for _, s := range []sqlgen.Statement{sqlgen.Rows(everything, sqlgen.Filter{}, sqlgen.Page{Limit: 500}), sqlgen.Facets(everything, sqlgen.Filter{}, []*field.Field{field.Find(field.Calls.Fields, "userName")}, 50)} {
				if cmp.Diff(rows(t, this, s), rows(t, other, s)) != "" {
					differ++
				}
			}
			if differ != 2 {
				t.Error("the tables do not differ where nothing is hidden")
			}
			t.Logf("%d questions, %d states hidden", trials, hidden)
		})
	}
}
