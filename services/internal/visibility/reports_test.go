package visibility

import (
	"testing"

	"github.com/auditrail/auditrail/services/internal/identity"
)

// TestWhoseReports is design section 7 for reports, as a table.
func TestWhoseReports(t *testing.T) {
	of := func(role identity.Role, viewAll bool) identity.Identity {
		return identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Name: "jack", Role: role, ViewAll: viewAll, BusinessUnits: []string{"EU"}}
	}
	type verdict struct{ seesOthers, changesOthers bool }
	for _, role := range identity.Roles {
		want := verdict{role == identity.RoleManager || role == identity.RoleAuditor, role == identity.RoleManager}
		for viewAll, want := range map[bool]verdict{false: want, true: {true, want.changesOthers}} {
			r := ForReports(of(role, viewAll))
			if got := (verdict{r.Sees("c1", "u2"), r.Changes("c1", "u2")}); got != want {
				t.Errorf("%s, viewAll %v: %+v, want %+v", role, viewAll, got, want)
			}
			if !r.Sees("c1", "u1") || !r.Changes("c1", "u1") {
				t.Errorf("%s does not see the own reports", role)
			}
			if r.Sees("c2", "u1") || r.Sees("", "u1") || r.Changes("c2", "u2") {
				t.Errorf("%s sees another subscription", role)
			}
		}
	}
	for name, id := range map[string]identity.Identity{
		"zero": {}, "unknown role": of("Root", true),
		"no customer": {UserUUID: "u1", Role: identity.RoleManager}, "no user": {CustomerUUID: "c1", Role: identity.RoleManager, ViewAll: true},
	} {
		r := ForReports(id)
		for _, user := range []string{"", "u1"} {
			if r.Sees("c1", user) || r.Sees("", user) || r.Changes("c1", user) {
				t.Errorf("%s sees reports of %q", name, user)
			}
		}
	}
}
