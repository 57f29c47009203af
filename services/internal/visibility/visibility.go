// Package visibility says who may see which audit events, and what of API calls.
// It is the only place that does: every read path asks it for a View, and no
// query can be built without one.
package visibility

import (
	"slices"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// scope is how much of a subscription a Predicate lets through.
type scope int

const (
	scopeNothing      scope = iota // the zero value: fail closed
	scopeOwn                       // the user's own events
	scopeUnits                     // those of the user's business units, and the own ones
	scopeSubscription              // every event of the subscription
)

// Predicate decides which events a caller may see. It is opaque and
// immutable; its zero value lets nothing through. Its two forms, SQL and
// Allows, mean the same: a property test holds them together on the engine.
type Predicate struct {
	scope    scope
	customer string
	user     string
	name     string   // empty: matches by user id alone
	units    []string // without the empty unit
}

// For returns what id may see. Manager, Auditor and anyone with the viewAll
// permission: the subscription. Unit Manager: events of the own business
// units, and the own events. Every other known role: the own events. An
// identity without customer, user or known role sees nothing.
//
// Own events are those with the user's id; where an event has no user id,
// those with the user's name. An event without a business unit belongs to no
// unit. All comparisons are exact.
func For(id identity.Identity) Predicate {
	if id.CustomerUUID == "" || id.UserUUID == "" {
		return Predicate{}
	}
	p := Predicate{customer: id.CustomerUUID, user: id.UserUUID, name: id.Name}
	switch id.Role {
	case identity.RoleManager, identity.RoleAuditor:
		p.scope = scopeSubscription
	case identity.RoleUnitManager:
		p.scope, p.units = scopeUnits, units(id)
	case identity.RoleScanner, identity.RoleReader, identity.RoleKnowledgeBaseOnly,
		identity.RoleRemediationUser, identity.RoleContact:
		p.scope = scopeOwn
	default:
		return Predicate{}
	}
	if id.ViewAll {
		p.scope = scopeSubscription
	}
	return p
}

// units are the business units of id, without the empty one.
func units(id identity.Identity) []string {
	var units []string
	for _, u := range id.BusinessUnits {
		if u != "" && !slices.Contains(units, u) {
			units = append(units, u)
		}
	}
	return units
}

// SQL returns the predicate as a ClickHouse condition over audit_events, fit
// to stand beside AND, and adds its values to params. The condition always
// pins customer_uuid. Parameter names begin with "see_".
func (p Predicate) SQL(params param.Set) string {
	cond := "customer_uuid = " + params.Text("see_customer", p.customer)
	switch p.scope {
	case scopeSubscription:
		return cond
	case scopeUnits:
		if len(p.units) == 0 {
			return cond + " AND " + p.own(params)
		}
		return cond + " AND (business_unit IN " + params.Texts("see_units", p.units) + " OR " + p.own(params) + ")"
	case scopeOwn:
		return cond + " AND " + p.own(params)
	case scopeNothing:
	}
	return cond + " AND 1 = 0"
}

func (p Predicate) own(params param.Set) string {
	byID := "user_uuid = " + params.Text("see_user", p.user)
	if p.name == "" {
		return byID
	}
	return "(" + byID + " OR user_uuid = '' AND user_name = " + params.Text("see_name", p.name) + ")"
}

// Allows tells whether the caller may see e: the same decision in memory.
func (p Predicate) Allows(e *audit.Event) bool {
	if e == nil || p.scope == scopeNothing || e.CustomerUUID != p.customer {
		return false
	}
	own := e.UserUUID == p.user || e.UserUUID == "" && p.name != "" && e.UserName == p.name
	switch p.scope {
	case scopeSubscription:
		return true
	case scopeUnits:
		return own || slices.Contains(p.units, e.BusinessUnit)
	case scopeOwn:
		return own
	case scopeNothing:
	}
	return false
}
