package identity

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
)

func writeKeys(t *testing.T, path string, keys ...jose.JSONWebKey) {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, data); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	now := clock
	v := testVerifier(&fileSource{path: path}, func() time.Time { return now })
	ec, ed := sign(t, jose.ES256, ecKey, "ec", goodClaims()), sign(t, jose.EdDSA, edKey, "ed", goodClaims())
	check := func(step string, ecOK, edOK bool) {
		t.Helper()
		now = now.Add(2 * statAfter)
		if _, err := v.Verify(t.Context(), ec); (err == nil) != ecOK {
			t.Errorf("%s: ec: %v", step, err)
		}
		if _, err := v.Verify(t.Context(), ed); (err == nil) != edOK {
			t.Errorf("%s: ed: %v", step, err)
		}
	}
	check("no file", false, false)
	if err := v.Ready(t.Context()); !errors.Is(err, errKeysAway) {
		t.Errorf("ready without a file: %v", err)
	}
	writeKeys(t, path, testKeys[0])
	check("first key", true, false)
	writeKeys(t, path, testKeys[0], testKeys[3])
	check("both keys", true, true)
	writeKeys(t, path, testKeys[3])
	check("second key", false, true)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("broken file: the old keys serve", false, true)
	writeKeys(t, path, testKeys[0])
	check("mended file", true, false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("file gone: the old keys serve", true, false)
}

// TestWithdrawnKeysStopServing empties and removes what tokens are verified
// with: the keys must not outlive that for ever.
func TestWithdrawnKeysStopServing(t *testing.T) {
	issuer, _, down := provider(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	for name, c := range map[string]struct {
		src               source
		iss               string
		fail, mend, empty func()
	}{
		"file": {
			&fileSource{path: path}, "https://issuer.example",
			func() { must(0, os.Remove(path)) }, func() { writeKeys(t, path, testKeys...) }, func() { must(0, replaceFile(path, []byte(`{"keys":[]}`))) },
		},
		"provider": {newProviderSource(issuer), issuer, func() { down.Store(true) }, func() { down.Store(false) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			writeKeys(t, path, testKeys...)
			now := clock
			v := newVerifier(c.iss, "auditrail", c.src, func() time.Time { return now }, zap.NewNop())
			token := sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"iss": c.iss, "exp": clock.Add(9 * time.Hour).Unix()}))
			verify := func() error { _, err := v.Verify(t.Context(), token); return err }
			if err := errors.Join(verify(), v.Ready(t.Context())); err != nil {
				t.Fatal(err)
			}
			c.fail()
			now = now.Add(refreshAfter)
			if err := v.Ready(t.Context()); !errors.Is(err, errKeysAway) {
				t.Errorf("a broken source is ready: %v", err)
			}
			if err := verify(); err != nil {
				t.Errorf("the last good keys must serve for a while: %v", err)
			}
			now = now.Add(keepFor - refreshAfter)
			if err := verify(); !errors.Is(err, errKeysAway) {
				t.Errorf("after %s: %v, want keys away", keepFor, err)
			}
			c.mend()
			now = now.Add(refetchAfter) // readiness asks sooner than every refreshAfter
			if err := errors.Join(v.Ready(t.Context()), verify()); err != nil {
				t.Errorf("mended: %v", err)
			}
			if c.empty == nil {
				return
			}
			c.empty()
			now = now.Add(statAfter)
			if err := verify(); err == nil || errors.Is(err, errKeysAway) {
				t.Errorf("emptied: %v, want the token refused", err)
			}
			if err := v.Ready(t.Context()); !errors.Is(err, errKeysAway) {
				t.Errorf("ready without a key: %v", err)
			}
		})
	}
}

// TestRedirectsStayEncrypted holds that a provider over https cannot be made
// to hand its keys over a plain network.
func TestRedirectsStayEncrypted(t *testing.T) {
	const issuer = "https://issuer.example"
	keysAt := "/plain"
	src := newProviderSource(issuer)
	src.client.Transport = roundTrip(func(r *http.Request) *http.Response {
		w := httptest.NewRecorder()
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			must(0, json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": issuer + keysAt}))
		case "/plain":
			http.Redirect(w, r, "http://issuer.example/keys", http.StatusFound)
		case "/moved":
			http.Redirect(w, r, issuer+"/keys", http.StatusFound)
		case "/keys":
			must(0, json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: testKeys}))
		}
		return w.Result()
	})
	if keys, err := src.load(t.Context()); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("%d keys, %v: taken over http", len(keys), err)
	}
	keysAt = "/moved" // found because the failure is followed by a discovery
	if keys, err := src.load(t.Context()); err != nil || len(keys) != len(testKeys) {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// provider is an OpenID Connect provider for tests.
func provider(t *testing.T) (issuer string, fetches *atomic.Int64, down *atomic.Bool) {
	t.Helper()
	fetches, down = new(atomic.Int64), new(atomic.Bool)
	mux := http.NewServeMux()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": srv.URL, "jwks_uri": srv.URL + "/keys", "id_token_signing_alg_values_supported": []string{"HS256", "none"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		answer(w, jose.JSONWebKeySet{Keys: testKeys})
	})
	return srv.URL, fetches, down
}

func TestProviderIsDiscovered(t *testing.T) {
	issuer, fetches, down := provider(t)
	down.Store(true)
	v, err := NewVerifier(Config{OIDCIssuer: issuer, TokenAudience: "auditrail"}, zap.NewNop())
	if err != nil {
		t.Fatalf("must start while the provider is down: %v", err)
	}
	now := clock
	v = newVerifier(issuer, "auditrail", v.keys.source, func() time.Time { return now }, zap.NewNop())
	good := sign(t, jose.ES256, ecKey, "ec", with(map[string]any{"iss": issuer}))
	if _, err := v.Verify(t.Context(), good); !errors.Is(err, errKeysAway) {
		t.Errorf("provider down: %v", err)
	}
	down.Store(false)
	now = now.Add(refetchAfter)
	for range 3 {
		if _, err := v.Verify(t.Context(), good); err != nil {
			t.Fatal(err)
		}
	}
	bad := sign(t, jose.ES256, strange, "made-up", with(map[string]any{"iss": issuer}))
	for range 3 {
		if _, err := v.Verify(t.Context(), bad); err == nil {
			t.Fatal("accepted a stranger's token")
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches of the keys; made-up key ids must not cause them", n)
	}
	if _, err := v.Verify(t.Context(), sign(t, jose.ES256, ecKey, "ec", goodClaims())); err == nil {
		t.Error("accepted another issuer's token")
	}
}

func TestConfigNamesExactlyOneSource(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string // a part of the error; empty: valid
	}{
		{Config{TokenAudience: "a"}, "set --oidc-issuer or --jwks-file"},
		{Config{TokenAudience: "a", OIDCIssuer: "https://i.example", JWKSFile: "f"}, "not both"},
		{Config{TokenAudience: "a", JWKSFile: "f"}, "--token-issuer"},
		{Config{TokenAudience: "a", JWKSFile: "f", TokenIssuer: "i"}, ""},
		{Config{JWKSFile: "f", TokenIssuer: "i"}, "--token-audience"},
		{Config{TokenAudience: "a", OIDCIssuer: "https://i.example"}, ""},
		{Config{TokenAudience: "a", OIDCIssuer: "https://i.example", TokenIssuer: "https://i.example"}, ""},
		{Config{TokenAudience: "a", OIDCIssuer: "https://i.example", TokenIssuer: "other"}, "--token-issuer"},
		{Config{TokenAudience: "a", OIDCIssuer: "http://i.example"}, "https"},
		{Config{TokenAudience: "a", OIDCIssuer: "http://127.0.0.1:9"}, ""},
		{Config{TokenAudience: "a", OIDCIssuer: "http://[::1]:9"}, ""},
		{Config{TokenAudience: "a", OIDCIssuer: "https://u:p@i.example"}, "credentials"},
		{Config{TokenAudience: "a", OIDCIssuer: "i.example"}, "URL"},
	} {
		_, err := NewVerifier(c.cfg, zap.NewNop())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}
