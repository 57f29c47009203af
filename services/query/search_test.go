package query

import (
	"testing"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

func TestTotalNeverContradictsThePage(t *testing.T) {
	for _, c := range []struct{ offset, limit, rows, count, want int64 }{
		{0, 10, 0, 0, 0},
		{0, 10, 0, 3, 0},    // events came after the page was read
		{0, 10, 3, 3, 3},    //
		{0, 10, 3, 2, 3},    // one came between count and page
		{0, 10, 3, 99, 3},   // a short page is the end: it knows better
		{0, 10, 10, 10, 10}, //
		{0, 10, 10, 9, 10},  //
		{0, 10, 10, 50, 50}, //
		{20, 10, 5, 25, 25}, //
		{20, 10, 5, 24, 25}, //
		{20, 10, 0, 7, 7},   // beyond the end
		{20, 10, 0, 21, 20}, // beyond the end when the page was read
	} {
		if got := total(sqlgen.Page{Offset: c.offset, Limit: c.limit}, c.rows, c.count); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

func TestRequestMustAgreeWithToken(t *testing.T) {
	id := identity.Identity{CustomerUUID: "c1", UserUUID: "u1"}
	for _, c := range []struct {
		customer, user *string
		want           string
	}{
		{nil, nil, "ok"},
		{ptr("c1"), ptr("u1"), "ok"},
		{ptr("c2"), nil, "403"},
		{nil, ptr("u2"), "403"},
		{ptr("C1"), nil, "403"},
		{ptr("u1"), ptr("c1"), "403"},
	} {
		err := asked{customerUUID: c.customer, userUUID: c.user}.allowed(id)
		if got := told(err); got != c.want {
			t.Errorf("%v %v: got %s, want %s", c.customer, c.user, got, c.want)
		}
		if err != nil && problem.From(err).Violations != nil {
			t.Errorf("values told: %v", err)
		}
	}
}
