package visibility

import (
	"slices"
	"strings"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// Hidden is what stands for a value that the viewer may not see.
const Hidden = "-"

// Calls decides what a caller sees of API calls. It is opaque and immutable;
// its zero value lets nothing through. Its two forms, SQL and Show, mean the
// same: a property test holds them together on the engine.
type Calls struct {
	lets     bool
	hides    bool // who made calls of other business units
	customer string
	user     string
	name     string   // empty: matches by user id alone
	units    []string // without the empty unit
}

// ForCalls returns what id may see: all calls of the subscription in every
// known role, none of them in Express Lite. restrict is the subscription's
// setting restrictUserInformation: with it, user and role, address and client
// are hidden for calls whose business unit is absent or not among the viewer's.
// They never are for one's own calls (see For), nor for Manager, Auditor and
// anyone with the viewAll permission.
func ForCalls(id identity.Identity, restrict bool) Calls {
	if For(id).scope == scopeNothing || id.Tier == identity.TierExpressLite {
		return Calls{}
	}
	c := Calls{lets: true, customer: id.CustomerUUID, user: id.UserUUID, name: id.Name}
	if c.hides = restrict && For(id).scope != scopeSubscription; c.hides {
		c.units = units(id)
	}
	return c
}

// SQL returns the condition of the calls that are let through, fit to stand
// beside AND, and adds its values to params. It always pins customer_uuid.
// Parameter names begin with "see_". table qualifies the columns.
func (c Calls) SQL(table string, params param.Set) string {
	cond := table + ".customer_uuid = " + params.Text("see_customer", c.customer)
	if !c.lets {
		cond += " AND 1 = 0"
	}
	return cond
}

// hidden are the columns that say who made a call.
var hidden = []string{"user_name", "user_role", "user_uuid", "client", "source_ip"}

// Columns returns the columns of field.Calls, in order, as the caller sees them,
// and then hidden, a Bool: whether who made the call is hidden. The address of
// such a call is ::, as if it had none. As SQL otherwise. Nothing else of a
// statement may look at the columns of table that are hidden.
func (c Calls) Columns(table string, params param.Set) string {
	hides := "false"
	if c.hides {
		visible := table + ".user_uuid = " + params.Text("see_user", c.user)
		if c.name != "" {
			visible += " OR " + table + ".user_uuid = '' AND " + table + ".user_name = " + params.Text("see_name", c.name)
		}
		if len(c.units) > 0 {
			visible += " OR " + table + ".business_unit IN " + params.Texts("see_units", c.units)
		}
		hides = "NOT (" + visible + ")"
	}
	var b strings.Builder
	for _, f := range field.Calls.Fields {
		column := table + "." + f.Column
		if c.hides && slices.Contains(hidden, f.Column) {
			instead := "'" + Hidden + "'"
			if f.Type == field.Address {
				instead = "toIPv6('::')"
			}
			column = "if(" + hides + ", " + instead + ", " + column + ")"
		}
		b.WriteString(column + " AS " + f.Column + ", ")
	}
	return b.String() + hides + " AS hidden"
}

// Show returns a call as the caller sees it; false when they do not: the same
// decision in memory.
func (c Calls) Show(call *audit.APICall) (audit.APICall, bool) {
	if call == nil || !c.lets || call.CustomerUUID != c.customer {
		return audit.APICall{}, false
	}
	shown := *call
	own := shown.UserUUID == c.user || shown.UserUUID == "" && c.name != "" && shown.UserName == c.name
	if c.hides && !own && !slices.Contains(c.units, shown.BusinessUnit) {
		shown.UserName, shown.UserRole, shown.UserUUID = Hidden, Hidden, Hidden
		shown.Client, shown.SourceIP = Hidden, Hidden
	}
	return shown, true
}
