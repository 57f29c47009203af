package visibility

import (
	"strings"
	"testing"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// TestRulesOfCalls is design section 7 as a table: who sees which call, and of
// which who made it.
func TestRulesOfCalls(t *testing.T) {
	names := []string{"mine", "mine, no unit", "by name only", "namesake", "colleague", "unit, other case", "no unit", "other customer"}
	calls := map[string]audit.APICall{
		"mine":             {CustomerUUID: "c1", UserUUID: "u1", UserName: "jack", BusinessUnit: "US"},
		"mine, no unit":    {CustomerUUID: "c1", UserUUID: "u1", UserName: "renamed"},
		"by name only":     {CustomerUUID: "c1", UserName: "jack", BusinessUnit: "US"},
		"namesake":         {CustomerUUID: "c1", UserUUID: "u2", UserName: "jack", BusinessUnit: "US"},
		"colleague":        {CustomerUUID: "c1", UserUUID: "u3", UserName: "ann", BusinessUnit: "EU"},
		"unit, other case": {CustomerUUID: "c1", UserUUID: "u3", UserName: "ann", BusinessUnit: "eu"},
		"no unit":          {CustomerUUID: "c1", UserUUID: "u3", UserName: "ann"},
		"other customer":   {CustomerUUID: "c2", UserUUID: "u1", UserName: "jack", BusinessUnit: "EU"},
	}
	const all = "mine|mine, no unit|by name only|namesake|colleague|unit, other case|no unit"
	const own = "mine|mine, no unit|by name only"
	of := func(role identity.Role, edit func(*identity.Identity)) identity.Identity {
		id := identity.Identity{CustomerUUID: "c1", UserUUID: "u1", Name: "jack", Role: role, BusinessUnits: []string{"EU", ""}, Tier: identity.TierStandard}
		if edit != nil {
			edit(&id)
		}
		return id
	}
	for name, c := range map[string]struct {
		id                     identity.Identity
		lets, shown, unlimited string // all; with the setting, without it
	}{
		"Manager":           {of(identity.RoleManager, nil), all, all, all},
		"Auditor":           {of(identity.RoleAuditor, nil), all, all, all},
		"Reader, viewAll":   {of(identity.RoleReader, func(id *identity.Identity) { id.ViewAll = true }), all, all, all},
		"Unit Manager":      {of(identity.RoleUnitManager, nil), all, own + "|colleague", all},
		"Reader":            {of(identity.RoleReader, nil), all, own + "|colleague", all},
		"Contact, no units": {of(identity.RoleContact, func(id *identity.Identity) { id.BusinessUnits = nil }), all, own, all},
		"Scanner, no name":  {of(identity.RoleScanner, func(id *identity.Identity) { id.Name = "" }), all, "mine|mine, no unit|colleague", all},
		"Express Lite":      {of(identity.RoleManager, func(id *identity.Identity) { id.Tier = identity.TierExpressLite }), "", "", ""},
		"Lite with viewAll": {of(identity.RoleReader, func(id *identity.Identity) { id.Tier, id.ViewAll = identity.TierExpressLite, true }), "", "", ""},
		"unknown role":      {of("Root", nil), "", "", ""},
		"no customer":       {of(identity.RoleManager, func(id *identity.Identity) { id.CustomerUUID = "" }), "", "", ""},
		"no user":           {of(identity.RoleManager, func(id *identity.Identity) { id.UserUUID = "" }), "", "", ""},
		"zero":              {identity.Identity{}, "", "", ""},
	} {
		for restrict, want := range map[bool]string{true: c.shown, false: c.unlimited} {
			see := ForCalls(c.id, restrict)
			var lets, shown []string
			for _, n := range names {
				call := calls[n]
				call.UserRole, call.Client, call.SourceIP, call.API, call.RequestID = "Reader", "curl", "10.1.2.3", "api", "request"
				got, ok := see.Show(&call)
				if !ok {
					if got != (audit.APICall{}) {
						t.Errorf("%s: %s is not let through and shows %+v", name, n, got)
					}
					continue
				}
				lets = append(lets, n)
				if got == call {
					shown = append(shown, n)
					continue
				}
				call.UserName, call.UserRole, call.UserUUID, call.Client, call.SourceIP = "-", "-", "-", "-", "-"
				if got != call {
					t.Errorf("%s: %s is hidden as %+v", name, n, got)
				}
			}
			if got := strings.Join(lets, "|"); got != c.lets {
				t.Errorf("%s, restrict %v: %q are let through, want %q", name, restrict, got, c.lets)
			}
			if got := strings.Join(shown, "|"); got != want {
				t.Errorf("%s, restrict %v: %q are shown, want %q", name, restrict, got, want)
			}
			if sql := see.SQL("c", param.Set{}); !strings.HasPrefix(sql, "c.customer_uuid = {see_customer:String}") || strings.HasSuffix(sql, " AND 1 = 0") != (c.lets == "") {
				t.Errorf("%s: %s", name, sql)
			}
		}
		if _, ok := ForCalls(c.id, false).Show(nil); ok {
			t.Errorf("%s sees nil", name)
		}
	}
}
