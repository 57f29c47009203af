package query

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

// TestTheDefaultTimeframe holds that a search without dates goes back so many
// days, to the millisecond, and says so; one with a date goes where it says.
func TestTheDefaultTimeframe(t *testing.T) {
	now := time.UnixMilli(1750000000123)
	a := asked{of: field.Events}
	a.at(now, 30)
	want := now.Add(-30 * 24 * time.Hour).UnixMilli()
	if *a.filter.Start != want || a.filter.End != nil || a.days != 30 || !a.filter.Now.Equal(now) {
		t.Errorf("got %+v", a)
	}
	if got := string(a.appendApplied(nil)); got != fmt.Sprintf(`"startDate":%d,"endDate":null,"timeframeDays":30`, want) {
		t.Errorf("told %s", got)
	}
	a = between(nil, ptr[int64](5))
	a.at(now, 30)
	if a.filter.Start != nil || a.days != 0 {
		t.Errorf("got %+v", a)
	}
	if got := string(a.appendApplied(nil)); got != `"startDate":null,"endDate":5` {
		t.Errorf("told %s", got)
	}
}

func TestASearchWithoutDatesFindsTheDefaultTimeframe(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now()
	for _, age := range []time.Duration{-time.Hour, 29 * 24 * time.Hour, 31 * 24 * time.Hour} {
		db.insert(t, t, audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: now.Add(-age).UnixMilli()})
	}
	for body, want := range map[string]int64{
		`{}`:              2,
		`{"startDate":0}`: 3,
		fmt.Sprintf(`{"endDate":%d}`, now.UnixMilli()): 2,
	} {
		if a := b.searchAs(t, t, manager, body); a.TotalCount != want {
			t.Errorf("%s: %d events, want %d", body, a.TotalCount, want)
		}
	}
}

func TestFiltersAreRefused(t *testing.T) {
	for where, want := range map[string]string{
		`{}`:     "400 where",
		`"x"`:    "400 where",
		`[1]`:    "400 where[0]",
		`[null]`: "400 where[0]",
		`[{}]`:   "400 where[0].field where[0].operator where[0].value",
		`[{"field":1,"operator":2,"value":null}]`:                                           "400 where[0].value where[0].field where[0].operator",
		`[{"field":"action","operator":"is","value":true}]`:                                 "400 where[0].value",
		`[{"field":"action","operator":"is","value":{}}]`:                                   "400 where[0].value",
		`[{"field":"action","operator":"in","value":[]}]`:                                   "400 where[0].value",
		`[{"field":"action","operator":"in","value":["a",["b"]]}]`:                          "400 where[0].value",
		`[{"field":"action","operator":"in","value":[` + strings.Repeat("1,", 100) + `1]}]`: "400 where[0].value",
		`[{"field":"action","operator":"is","value":"` + strings.Repeat("x", 501) + `"}]`:   "400 where[0].value",
		`[{"field":"action","operator":"is","value":"a","x":1}]`:                            "400 where[0].x",
		`[{"field":"action","field":"x","operator":"is","value":"a"}]`:                      "400 where[0].field",
		`[` + strings.Repeat(`{"field":"action","operator":"is","value":"a"},`, 20) + `{}]`: "400 where",
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000):                               "400 where[0]",
		`[` + strings.Repeat(`{"field":`, 2000) + `1` + strings.Repeat("}", 2000) + `]`:     "400 where[0].operator where[0].value where[0].field",
	} {
		_, err := parseSearch([]byte(`{"where":` + where + `}`))
		if got := told(err); got != want {
			t.Errorf("%.100s: got %q, want %q", where, got, want)
		}
	}
}

func TestFilterValues(t *testing.T) {
	f, err := readForm([]byte(`{"a":"x","b":5.0,"c":[1e3,"y",0.5],"d":-1}`), []string{"a", "b", "c", "d"})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(f.values("a"), f.values("b"), f.values("c"), f.values("d"), f.violations)
	if want := "[x] [5] [1000 y 0.5] [-1] []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
