package visibility

import (
	"strings"
	"testing"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// TestRules is design section 7 as a table: who sees which event.
func TestRules(t *testing.T) {
	events := map[string]audit.Event{
		"mine":             {CustomerUUID: "c1", UserUUID: "u1", UserName: "jack", BusinessUnit: "EU"},
		"mine, no unit":    {CustomerUUID: "c1", UserUUID: "u1", UserName: "renamed"},
		"by name only":     {CustomerUUID: "c1", UserName: "jack", BusinessUnit: "US"},
		"namesake":         {CustomerUUID: "c1", UserUUID: "u2", UserName: "jack", BusinessUnit: "US"},
		"other case":       {CustomerUUID: "c1", UserName: "Jack", BusinessUnit: "US"},
		"colleague":        {CustomerUUID: "c1", UserUUID: "u3", UserName: "ann", BusinessUnit: "EU"},
		"unit, other case": {CustomerUUID: "c1", UserUUID: "u3", UserName: "ann", BusinessUnit: "eu"},
		"no unit":          {CustomerUUID: "c1", UserUUID: "u3", UserName: "ann"},
		"nobody":           {CustomerUUID: "c1"},
		"other customer":   {CustomerUUID: "c2", UserUUID: "u1", UserName: "jack", BusinessUnit: "EU"},
	}
	const everything = "by name only,colleague,mine,mine, no unit,namesake,no unit,nobody,other case,unit, other case"
	const own = "by name only,mine,mine, no unit"
	jack := identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Name: "jack"}
	as := func(role identity.Role, edit func(*identity.Identity)) Predicate {
		id := jack
		id.Role = role
		if edit != nil {
			edit(&id)
		}
		return For(id)
	}
	units := func(u ...string) func(*identity.Identity) {
		return func(id *identity.Identity) { id.BusinessUnits = u }
	}
	viewAll := func(id *identity.Identity) { id.ViewAll = true }
	for name, c := range map[string]struct {
		p    Predicate
		want string
	}{
		"zero":                  {Predicate{}, ""},
		"Manager":               {as(identity.RoleManager, nil), everything},
		"Auditor":               {as(identity.RoleAuditor, nil), everything},
		"Unit Manager of EU":    {as(identity.RoleUnitManager, units("EU")), "by name only,colleague,mine,mine, no unit"},
		"Unit Manager of none":  {as(identity.RoleUnitManager, nil), own},
		"Unit Manager of ''":    {as(identity.RoleUnitManager, units("")), own},
		"Unit Manager, viewAll": {as(identity.RoleUnitManager, viewAll), everything},
		"Scanner":               {as(identity.RoleScanner, units("EU")), own},
		"Scanner, viewAll":      {as(identity.RoleScanner, viewAll), everything},
		"Reader":                {as(identity.RoleReader, nil), own},
		"Reader without a name": {as(identity.RoleReader, func(id *identity.Identity) { id.Name = "" }), "mine,mine, no unit"},
		"KnowledgeBase Only":    {as(identity.RoleKnowledgeBaseOnly, nil), own},
		"Remediation User":      {as(identity.RoleRemediationUser, nil), own},
		"Contact":               {as(identity.RoleContact, nil), own},
		"unknown role":          {as("Root", nil), ""},
		"unknown role, viewAll": {as("Root", viewAll), ""},
		"no customer":           {as(identity.RoleManager, func(id *identity.Identity) { id.CustomerUUID = "" }), ""},
		"no user":               {as(identity.RoleManager, func(id *identity.Identity) { id.UserUUID = "" }), ""},
	} {
		var seen []string
		for _, e := range []string{"by name only", "colleague", "mine", "mine, no unit", "namesake", "no unit", "nobody", "other case", "other customer", "unit, other case"} {
			if ev := events[e]; c.p.Allows(&ev) {
				seen = append(seen, e)
			}
		}
		if got := strings.Join(seen, ","); got != c.want {
			t.Errorf("%s sees %q, want %q", name, got, c.want)
		}
		if c.p.Allows(nil) {
			t.Errorf("%s sees nil", name)
		}
		if sql := c.p.SQL(param.Set{}); !strings.HasPrefix(sql, "customer_uuid = {see_customer:String}") {
			t.Errorf("%s does not pin the customer: %s", name, sql)
		}
	}
}

func TestEveryKnownRoleHasARule(t *testing.T) {
	for _, role := range identity.Roles {
		e := audit.Event{CustomerUUID: "c1", UserUUID: "u1"}
		if !For(identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Role: role}).Allows(&e) {
			t.Errorf("%s does not see the own events", role)
		}
	}
}
