package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// clock is the time of the tests.
var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// memory is a source for tests.
type memory struct {
	keys  []jose.JSONWebKey
	err   error
	loads int
}

func (m *memory) pace() (least, most time.Duration) { return 10 * time.Second, time.Hour }

func (m *memory) load(context.Context) ([]jose.JSONWebKey, error) {
	m.loads++
	return m.keys, m.err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	ecKey   = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ec384   = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	rsaKey  = must(rsa.GenerateKey(rand.Reader, 2048))
	edKey   = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	strange = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
)

var testKeys = []jose.JSONWebKey{
	{KeyID: "ec", Key: ecKey.Public(), Algorithm: "ES256"},
	{KeyID: "ec384", Key: ec384.Public()},
	{KeyID: "rsa", Key: rsaKey.Public()},
	{KeyID: "ed", Key: edKey.Public()},
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": "https://issuer.example", "aud": "auditrail", "exp": clock.Add(time.Hour).Unix(), "nbf": clock.Unix(),
		"sub": "1c9a83aa-20p8-e972-8036-899e5e608855", "customerUuid": "c1", "name": "Jack", "role": "Unit Manager",
		"businessUnits": []string{"EU", "US"}, "tier": "Premium", "viewAll": true,
	}
}

// with returns the good claims with some replaced; nil removes.
func with(edits map[string]any) map[string]any {
	c := goodClaims()
	maps.Copy(c, edits)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, payload any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	if kid != "" {
		opts = opts.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := payload.([]byte)
	if !ok {
		body = must(json.Marshal(payload))
	}
	jws, err := signer.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	return must(jws.CompactSerialize())
}

func testVerifier(src source, now func() time.Time) *Verifier {
	return newVerifier("https://issuer.example", "auditrail", src, now, zap.NewNop())
}

func at(when time.Time) func() time.Time { return func() time.Time { return when } }

func TestGoodTokens(t *testing.T) {
	v := testVerifier(&memory{keys: testKeys}, at(clock))
	full := Identity{
		UserUUID: "1c9a83aa-20p8-e972-8036-899e5e608855", CustomerUUID: "c1", Name: "Jack", Role: RoleUnitManager,
		BusinessUnits: []string{"EU", "US"}, Tier: TierPremium, ViewAll: true,
	}
	least := Identity{UserUUID: full.UserUUID, CustomerUUID: "c1", Role: RoleReader, Tier: TierStandard}
	fewest := with(map[string]any{"name": nil, "role": "Reader", "businessUnits": nil, "tier": nil, "viewAll": nil, "nbf": nil})
	for name, c := range map[string]struct {
		token string
		want  Identity
	}{
		"ES256":           {sign(t, jose.ES256, ecKey, "ec", goodClaims()), full},
		"ES384":           {sign(t, jose.ES384, ec384, "ec384", goodClaims()), full},
		"RS256":           {sign(t, jose.RS256, rsaKey, "rsa", goodClaims()), full},
		"PS512":           {sign(t, jose.PS512, rsaKey, "rsa", goodClaims()), full},
		"EdDSA":           {sign(t, jose.EdDSA, edKey, "ed", goodClaims()), full},
		"no key id":       {sign(t, jose.ES256, ecKey, "", goodClaims()), full},
		"audience list":   {sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"aud": []string{"x", "auditrail"}})), full},
		"fewest claims":   {sign(t, jose.ES256, ecKey, "ec", fewest), least},
		"null claims":     {sign(t, jose.ES256, ecKey, "ec", []byte(`{"iss":"https://issuer.example","aud":"auditrail","exp":1e11,"sub":"1c9a83aa-20p8-e972-8036-899e5e608855","customerUuid":"c1","role":"Reader","name":null,"businessUnits":null,"tier":null,"viewAll":null}`)), least},
		"clocks differ":   {sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"nbf": clock.Add(50 * time.Second).Unix()})), full},
		"unknown claims":  {sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"Role": "Manager", "admin": true})), full},
		"id of 64 bytes":  {sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"customerUuid": strings.Repeat("x", 64)})), func() Identity { id := full; id.CustomerUUID = strings.Repeat("x", 64); return id }()},
		"expires shortly": {sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"exp": clock.Add(time.Second).Unix()})), full},
	} {
		got, err := v.Verify(t.Context(), c.token)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d := cmp.Diff(got, c.want); d != "" {
			t.Errorf("%s (-got +want)\n%s", name, d)
		}
	}
}

// attacks are tokens that must be refused.
func attacks(t *testing.T) map[string]string {
	t.Helper()
	good := sign(t, jose.ES256, ecKey, "ec", goodClaims())
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	der := must(x509.MarshalPKIXPublicKey(rsaKey.Public()))
	pemBytes := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk := must(jose.JSONWebKey{Key: rsaKey.Public()}.MarshalJSON())
	embedded := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: strange}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "ec")))
	full := must(embedded.Sign(must(json.Marshal(goodClaims())))).FullSerialize()
	m := map[string]string{
		"none":                   raw(`{"alg":"none"}`) + "." + payload + ".",
		"None":                   raw(`{"alg":"None"}`) + "." + payload + ".",
		"none, old signature":    raw(`{"alg":"none","kid":"ec"}`) + "." + payload + "." + signature,
		"HS256, public PEM":      sign(t, jose.HS256, pemBytes, "rsa", goodClaims()),
		"HS256, public DER":      sign(t, jose.HS256, der, "rsa", goodClaims()),
		"HS512, public JWK":      sign(t, jose.HS512, jwk, "rsa", goodClaims()),
		"HS256, modulus":         sign(t, jose.HS256, rsaKey.N.Bytes(), "rsa", goodClaims()),
		"unknown key":            sign(t, jose.ES256, strange, "ec", goodClaims()),
		"unknown key id":         sign(t, jose.ES256, strange, "other", goodClaims()),
		"other key's id":         sign(t, jose.ES256, ecKey, "rsa", goodClaims()),
		"embedded key":           must(must(embedded.Sign(must(json.Marshal(goodClaims())))).CompactSerialize()),
		"JSON serialization":     full,
		"changed payload":        header + "." + raw(string(must(json.Marshal(with(map[string]any{"sub": "someone"}))))) + "." + signature,
		"changed header":         raw(`{"alg":"ES256","kid":"ec","x":1}`) + "." + payload + "." + signature,
		"other algorithm's name": raw(`{"alg":"ES384","kid":"ec"}`) + "." + payload + "." + signature,
		"cut signature":          good[:len(good)-4],
		"zero signature":         header + "." + payload + "." + raw(strings.Repeat("\x00", 64)),
		"no signature":           header + "." + payload + ".",
		"empty":                  "",
		"dots":                   "..",
		"five parts":             good + ".a.b",
		"not a token":            "hunter2",
		"trailing space":         good + " ",
		"padding":                good + "=",
		"too long":               sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"pad": strings.Repeat("x", maxToken)})),
		"payload not an object":  sign(t, jose.ES256, ecKey, "ec", []byte(`[]`)),
		"payload not JSON":       sign(t, jose.ES256, ecKey, "ec", []byte(`role`)),
		"claim twice":            sign(t, jose.ES256, ecKey, "ec", []byte(`{"iss":"https://issuer.example","aud":"auditrail","exp":1e11,"sub":"u","customerUuid":"c1","role":"Reader","role":"Manager"}`)),
		"critical extension":     raw(`{"alg":"ES256","crit":["x"],"x":1}`) + "." + payload + "." + signature,
	}
	for name, edits := range map[string]map[string]any{
		"expired":                {"exp": clock.Add(-time.Second).Unix()},
		"no expiry":              {"exp": nil},
		"not yet valid":          {"nbf": clock.Add(2 * time.Minute).Unix()},
		"wrong issuer":           {"iss": "https://evil.example"},
		"no issuer":              {"iss": nil},
		"issuer with a slash":    {"iss": "https://issuer.example/"},
		"wrong audience":         {"aud": "other"},
		"no audience":            {"aud": nil},
		"audience's prefix":      {"aud": []string{"auditrail2"}},
		"no sub":                 {"sub": nil},
		"empty sub":              {"sub": ""},
		"sub of 65 bytes":        {"sub": strings.Repeat("x", 65)},
		"numeric sub":            {"sub": 5},
		"no customer":            {"customerUuid": nil},
		"empty customer":         {"customerUuid": ""},
		"customer of 65 bytes":   {"customerUuid": strings.Repeat("x", 65)},
		"customer list":          {"customerUuid": []string{"c1"}},
		"customer in other case": {"customerUuid": nil, "customerUUID": "c1"},
		"no role":                {"role": nil},
		"empty role":             {"role": ""},
		"unknown role":           {"role": "Root"},
		"role in lower case":     {"role": "manager"},
		"role with space":        {"role": "Manager "},
		"role list":              {"role": []string{"Manager"}},
		"unknown tier":           {"tier": "Gold"},
		"empty tier":             {"tier": ""},
		"units as text":          {"businessUnits": "EU"},
		"viewAll as text":        {"viewAll": "true"},
		"viewAll as number":      {"viewAll": 1},
		"long name":              {"name": strings.Repeat("x", MaxName+1)},
		"long unit":              {"businessUnits": []string{strings.Repeat("x", MaxUnit+1)}},
	} {
		m[name] = sign(t, jose.ES256, ecKey, "ec", with(edits))
	}
	return m
}

func TestAttacks(t *testing.T) {
	v := testVerifier(&memory{keys: testKeys}, at(clock))
	for name, token := range attacks(t) {
		got, err := v.Verify(t.Context(), token)
		if err == nil || cmp.Diff(got, Identity{}) != "" {
			t.Errorf("%s: accepted as %+v", name, got)
			continue
		}
		if errors.Is(err, errKeysAway) {
			t.Errorf("%s: %v", name, err)
		}
		if token != "" && len(token) > 10 && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the token is in the error", name)
		}
	}
}

func TestKeysRotateAndAreNotHammered(t *testing.T) {
	now := clock
	src := &memory{keys: testKeys[1:]}
	v := testVerifier(src, func() time.Time { return now })
	token := sign(t, jose.ES256, ecKey, "ec", goodClaims())
	for range 5 {
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Fatal("accepted before its key is known")
		}
	}
	if src.loads != 1 {
		t.Errorf("%d loads within the least time", src.loads)
	}
	src.keys = testKeys
	now = now.Add(11 * time.Second)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("new key: %v", err)
	}
	src.err = errors.New("down")
	now = now.Add(keepFor - time.Second)
	src.keys = nil
	long := sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"exp": clock.Add(9 * time.Hour).Unix()}))
	if _, err := v.Verify(t.Context(), long); err != nil {
		t.Errorf("old keys must serve while the source is down: %v", err)
	}
	src.keys, src.err = testKeys[1:], nil
	now = now.Add(2 * time.Hour)
	if _, err := v.Verify(t.Context(), long); err == nil {
		t.Error("a withdrawn key still serves")
	}
}

func TestNoKeysIsNotTheTokensFault(t *testing.T) {
	v := testVerifier(&memory{err: errors.New("down")}, at(clock))
	_, err := v.Verify(t.Context(), sign(t, jose.ES256, ecKey, "ec", goodClaims()))
	if !errors.Is(err, errKeysAway) || !errors.Is(v.Ready(t.Context()), errKeysAway) {
		t.Errorf("got %v", err)
	}
}

func TestKeySetsThatAreRefused(t *testing.T) {
	oct := `{"kty":"oct","k":"c2VjcmV0"}`
	private := string(must(jose.JSONWebKey{Key: ecKey}.MarshalJSON()))
	public := string(must(jose.JSONWebKey{Key: ecKey.Public()}.MarshalJSON()))
	enc := string(must(jose.JSONWebKey{Key: rsaKey.Public(), Use: "enc"}.MarshalJSON()))
	for set, want := range map[string]int{
		``: -1, `[]`: -1, `{}`: -1, `{"keys":null}`: -1, `{"keys":[]}`: 0,
		`{"keys":[` + oct + `]}`:                           -1,
		`{"keys":[` + public + `,` + oct + `]}`:            -1,
		`{"keys":[` + public + `,` + private + `]}`:        -1,
		`{"keys":[` + enc + `]}`:                           0,
		`{"keys":[{"kty":"new"}]}`:                         0,
		`{"keys":[{"kty":"new"},` + public + `]}`:          1,
		`{"keys":[` + enc + `,` + public + `],"extra":[]}`: 1,
	} {
		keys, err := parseKeySet([]byte(set))
		if got := len(keys); err != nil && want != -1 || err == nil && got != want {
			t.Errorf("%.60s: %d keys, %v; want %d", set, got, err, want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	v := testVerifier(&memory{keys: testKeys}, at(clock))
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := v.Verify(t.Context(), token); err == nil {
			t.Errorf("%q accepted as %+v", token, id)
		}
	})
}
