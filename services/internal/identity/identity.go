// Package identity turns a bearer token into an Identity: who calls, from
// which subscription, in which role. Tokens are JWTs signed with an
// asymmetric key, verified against an OpenID Connect provider or a file of
// public keys. Everything that does not hold is refused; see Verifier.
package identity

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Identity is a verified caller. Only this package's Verifier makes one from
// outside bytes. Treat it as read-only: it is shared by everything that
// serves the request.
type Identity struct {
	UserUUID      string   // claim sub: the opaque user id, 1-64 bytes
	CustomerUUID  string   // claim customerUuid: the subscription, 1-64 bytes
	Name          string   // claim name: the login name; may be empty
	Role          Role     // claim role
	BusinessUnits []string // claim businessUnits; may be empty
	Tier          Tier     // claim tier; TierStandard when absent
	ViewAll       bool     // claim viewAll: sees the whole subscription in any role
}

// Role is a user's role in the subscription. Its text is the claim's.
type Role string

// Roles, as the seeds and facts list them.
const (
	RoleManager           Role = "Manager"
	RoleUnitManager       Role = "Unit Manager"
	RoleAuditor           Role = "Auditor"
	RoleScanner           Role = "Scanner"
	RoleReader            Role = "Reader"
	RoleKnowledgeBaseOnly Role = "KnowledgeBase Only"
	RoleRemediationUser   Role = "Remediation User"
	RoleContact           Role = "Contact"
)

// Roles lists every Role.
var Roles = []Role{
	RoleManager, RoleUnitManager, RoleAuditor, RoleScanner, RoleReader,
	RoleKnowledgeBaseOnly, RoleRemediationUser, RoleContact,
}

// Tier is the subscription's service tier. Its text is the claim's.
type Tier string

// Tiers, smallest first.
const (
	TierExpressLite Tier = "Express Lite"
	TierExpress     Tier = "Express"
	TierStandard    Tier = "Standard"
	TierEnterprise  Tier = "Enterprise"
	TierPremium     Tier = "Premium"
)

// Tiers lists every Tier.
var Tiers = []Tier{TierExpressLite, TierExpress, TierStandard, TierEnterprise, TierPremium}

// Bounds of the claims, in bytes.
const (
	MaxID   = 64
	MaxName = 256
	MaxUnit = 256
)

// validate checks an Identity against the rules of the claims. The error names
// the claim and, for role and tier, its value; it is for the log.
func (id Identity) validate() error {
	for _, c := range []struct {
		claim, value string
		min, max     int
	}{
		{"sub", id.UserUUID, 1, MaxID},
		{"customerUuid", id.CustomerUUID, 1, MaxID},
		{"name", id.Name, 0, MaxName},
	} {
		if err := checkText(c.claim, c.value, c.min, c.max); err != nil {
			return err
		}
	}
	if !slices.Contains(Roles, id.Role) {
		return fmt.Errorf("claim role: unknown role %.64q", string(id.Role))
	}
	if !slices.Contains(Tiers, id.Tier) {
		return fmt.Errorf("claim tier: unknown tier %.64q", string(id.Tier))
	}
	for _, u := range id.BusinessUnits {
		if err := checkText("businessUnits", u, 0, MaxUnit); err != nil {
			return err
		}
	}
	return nil
}

func checkText(claim, value string, least, most int) error {
	switch {
	case len(value) < least:
		return fmt.Errorf("claim %s: missing or empty", claim)
	case len(value) > most:
		return fmt.Errorf("claim %s: longer than %d bytes", claim, most)
	case !utf8.ValidString(value):
		return fmt.Errorf("claim %s: not UTF-8", claim)
	}
	return nil
}

type contextKey struct{}

// newContext returns ctx carrying id.
func newContext(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// FromContext returns the Identity that ctx carries. False when there is none:
// the caller is then to refuse.
func FromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}
