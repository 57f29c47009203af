package visibility

import "github.com/auditrail/auditrail/services/internal/identity"

// Reports decides whose reports a caller sees, and may do something about. What
// is in a report is its requester's view; that was decided when it was asked
// for. The zero value sees none.
type Reports struct {
	customer, user string // empty: sees none
	all, manages   bool
}

// ForReports returns what id sees: the own reports; Manager, Auditor and anyone
// with the viewAll permission: those of the subscription. An identity without
// customer, user or known role sees none.
func ForReports(id identity.Identity) Reports {
	p := For(id)
	if p.scope == scopeNothing {
		return Reports{}
	}
	return Reports{
		customer: p.customer, user: p.user,
		all: p.scope == scopeSubscription, manages: id.Role == identity.RoleManager,
	}
}

// Sees says whether the caller sees that user's reports.
func (r Reports) Sees(customerUUID, userUUID string) bool {
	return r.customer != "" && customerUUID == r.customer && (r.all || userUUID == r.user)
}

// Changes says whether the caller may cancel, repeat and delete that user's
// reports: the own ones; a Manager, those of the subscription.
func (r Reports) Changes(customerUUID, userUUID string) bool {
	return r.Sees(customerUUID, userUUID) && (r.manages || userUUID == r.user)
}
