package identity

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// serve sends one request through the middleware and returns the answer, the
// Identity that came through, and the log.
func serve(t *testing.T, src source, headers ...string) (*httptest.ResponseRecorder, *Identity, string) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	var got *Identity
	h := Middleware(testVerifier(src, at(clock)), zap.New(core))(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, ok := FromContext(r.Context())
		if !ok {
			t.Error("no identity in the context")
		}
		got = &id
	}))
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	for _, v := range headers {
		r.Header.Add("Authorization", v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var b strings.Builder
	for _, e := range logs.All() {
		line, err := json.Marshal(e.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Message + string(line) + "\n")
	}
	return w, got, b.String()
}

func TestMiddlewareRefusesEveryAttackAlike(t *testing.T) {
	const notAccepted = `Bearer realm="auditrail", error="invalid_token", error_description="the token is not accepted"`
	bodies := map[string]bool{}
	for name, token := range attacks(t) {
		if token == "" || strings.HasSuffix(token, " ") {
			continue // trimmed, or no token at all
		}
		w, id, log := serve(t, &memory{keys: testKeys}, "Bearer "+token)
		if w.Code != http.StatusUnauthorized || id != nil {
			t.Errorf("%s: status %d, identity %v", name, w.Code, id)
		}
		want := notAccepted
		if name == "expired" {
			want = strings.Replace(want, "the token is not accepted", "the token has expired", 1)
		} else {
			bodies[w.Body.String()] = true
		}
		if got := w.Header().Get("WWW-Authenticate"); got != want {
			t.Errorf("%s: %s", name, got)
		}
		if !strings.Contains(log, "token refused") || len(token) > 16 && strings.Contains(log, token) {
			t.Errorf("%s: log %s", name, log)
		}
	}
	if len(bodies) != 1 {
		t.Errorf("the answers tell attacks apart: %v", bodies)
	}
}

func TestMiddlewareReadsTheHeaderStrictly(t *testing.T) {
	good := sign(t, jose.ES256, ecKey, "ec", goodClaims())
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{nil, 401},
		{[]string{""}, 401},
		{[]string{good}, 401},
		{[]string{"Basic " + good}, 401},
		{[]string{"Bearer"}, 401},
		{[]string{"Bearer "}, 401},
		{[]string{"Bearer " + good, "Bearer " + good}, 401},
		{[]string{"Bearer " + good + " x"}, 401},
		{[]string{"Bearer " + good}, 200},
		{[]string{"bearer  " + good}, 200},
	} {
		w, id, _ := serve(t, &memory{keys: testKeys}, c.headers...)
		if w.Code != c.status || (id != nil) != (c.status == 200) {
			t.Errorf("%.30v: status %d", c.headers, w.Code)
		}
		challenge := w.Header().Get("WWW-Authenticate")
		if c.status == 401 && !strings.HasPrefix(challenge, `Bearer realm="auditrail"`) {
			t.Errorf("%.30v: challenge %q", c.headers, challenge)
		}
		if c.headers == nil && strings.Contains(challenge, "error") {
			t.Errorf("an error code without credentials: %q", challenge)
		}
	}
}

func TestMiddlewareSaysWhenKeysAreAway(t *testing.T) {
	w, id, _ := serve(t, &memory{err: errors.New("secret host down")}, "Bearer "+sign(t, jose.ES256, ecKey, "ec", goodClaims()))
	if w.Code != http.StatusServiceUnavailable || id != nil || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestFromContextWithoutIdentity(t *testing.T) {
	if id, ok := FromContext(t.Context()); ok || cmp.Diff(id, Identity{}) != "" {
		t.Errorf("got %+v", id)
	}
}
