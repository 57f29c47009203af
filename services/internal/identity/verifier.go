package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
)

// maxToken bounds a token, in bytes: room for hundreds of business units,
// below the header limit of the servers in front of us.
const maxToken = 8 << 10

// leeway forgives clocks that differ, for the claim nbf.
const leeway = time.Minute

// Verifier checks tokens. Safe for concurrent use.
type Verifier struct {
	oidc *oidc.IDTokenVerifier
	keys *keySet
	now  func() time.Time
}

// NewVerifier makes a Verifier from a valid configuration. Keys are read at
// first use, and see Ready.
func NewVerifier(c Config, log *zap.Logger) (*Verifier, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	var src source = &fileSource{path: c.JWKSFile}
	issuer := c.TokenIssuer
	if c.OIDCIssuer != "" {
		src = newProviderSource(c.OIDCIssuer)
		issuer = c.OIDCIssuer
	}
	return newVerifier(issuer, c.TokenAudience, src, time.Now, log), nil
}

func newVerifier(issuer, audience string, src source, now func() time.Time, log *zap.Logger) *Verifier {
	keys := &keySet{source: src, now: now, log: log}
	return &Verifier{
		oidc: oidc.NewVerifier(issuer, keys, &oidc.Config{
			ClientID:             audience,
			SupportedSigningAlgs: algorithms,
			Now:                  now,
		}),
		keys: keys,
		now:  now,
	}
}

// Ready reports whether the source of keys answers and lists any; a readiness
// check. It says no as soon as a load fails, before the older keys run out.
func (v *Verifier) Ready(ctx context.Context) error { return v.keys.ready(ctx) }

// claims are the members that we read of a token. Names match exactly, and a
// member that comes twice is refused: two readers must not see two tokens.
type claims struct {
	Sub           string   `json:"sub"`
	CustomerUUID  string   `json:"customerUuid"`
	Name          string   `json:"name"`
	Role          Role     `json:"role"`
	BusinessUnits []string `json:"businessUnits"`
	Tier          *Tier    `json:"tier"`
	ViewAll       bool     `json:"viewAll"`
	NotBefore     *float64 `json:"nbf"`
}

// Verify checks a token in compact form and returns who it speaks for. An
// error tells why not, for the log; it never holds the token. errKeysAway is
// in the chain when there are no keys to verify with.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, fmt.Errorf("token is longer than %d bytes", maxToken)
	}
	if strings.Count(token, ".") != 2 || strings.ContainsFunc(token, notTokenRune) {
		return Identity{}, errors.New("not a compact JWT")
	}
	// go-oidc formats key set errors without wrapping them: ask first.
	if _, err := v.keys.current(ctx); err != nil {
		return Identity{}, err
	}
	t, err := v.oidc.Verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	var raw jsontext.Value
	if err := t.Claims(&raw); err != nil {
		return Identity{}, fmt.Errorf("claims: %w", err)
	}
	var c claims
	if err := json.Unmarshal(raw, &c); err != nil {
		return Identity{}, fmt.Errorf("claims: %w", err)
	}
	// go-oidc forgives five minutes; we do not.
	if c.NotBefore != nil && float64(v.now().Add(leeway).Unix()) < *c.NotBefore {
		return Identity{}, errors.New("token is not valid yet")
	}
	id := Identity{
		UserUUID: c.Sub, CustomerUUID: c.CustomerUUID, Name: c.Name, Role: c.Role,
		BusinessUnits: c.BusinessUnits, Tier: TierStandard, ViewAll: c.ViewAll,
	}
	if c.Tier != nil {
		id.Tier = *c.Tier
	}
	if err := id.validate(); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// notTokenRune tells what cannot occur in a compact JWT: base64url and dots
// can.
func notTokenRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}
