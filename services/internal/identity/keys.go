package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
)

// algorithms are the accepted signature algorithms: asymmetric ones only, so
// that a public key can never pass for a shared secret.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512,
	oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512,
	oidc.EdDSA,
}

var joseAlgorithms = func() []jose.SignatureAlgorithm {
	out := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		out[i] = jose.SignatureAlgorithm(a)
	}
	return out
}()

// Bounds on reading keys.
const (
	// maxKeySet bounds a key set, in bytes: thousands of keys.
	maxKeySet = 1 << 20
	// fetchTimeout bounds one fetch from a provider: a request waits for it.
	fetchTimeout = 5 * time.Second
	// refetchAfter is the least time between two fetches, so that tokens with
	// made-up key ids cannot be turned into load on the provider.
	refetchAfter = 10 * time.Second
	// refreshAfter is the time between two fetches from a provider that
	// answers: a key that it has withdrawn serves no longer than that.
	refreshAfter = 5 * time.Minute
	// keepFor is how long the last good keys serve while their source fails:
	// room to mend it. A key withdrawn meanwhile serves no longer than that.
	keepFor = time.Hour
	// statAfter is the time between two looks at the key file.
	statAfter = time.Second
)

// errKeysAway says that there are no keys to verify with: the fault of the
// key source, not of the token.
var errKeysAway = errors.New("token keys are not available")

// source reads key sets. Its methods are never called at the same time.
type source interface {
	// load returns the keys, empty but not nil when the source lists none, or
	// nil when nothing has changed since the last load that succeeded.
	load(ctx context.Context) ([]jose.JSONWebKey, error)
	// pace is the least time between two loads, and the age at which keys are
	// loaded again even if they serve.
	pace() (least, most time.Duration)
}

// keySet is an oidc.KeySet over a source. While the source fails, it goes on
// with the last good keys, for keepFor at most. Safe for concurrent use.
type keySet struct {
	source source
	now    func() time.Time
	log    *zap.Logger

	state  atomic.Pointer[keyState]
	mu     sync.Mutex // held while loading; guards broken
	broken bool       // the last load failed
}

// keyState is what the last load left behind; never changed once stored.
type keyState struct {
	keys   []jose.JSONWebKey // of the last load that succeeded; nil before
	good   time.Time         // when that load began
	loaded time.Time         // when the last load began
	err    error             // of the last load
}

// away tells why there are no keys to verify with, or returns nil.
func (s *keyState) away(now time.Time) error {
	if s.keys == nil || s.err != nil && now.Sub(s.good) >= keepFor {
		return fmt.Errorf("%w: %w", errKeysAway, s.err)
	}
	return nil
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, joseAlgorithms)
	if err != nil {
		return nil, err
	}
	keys, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	if payload, ok := verifyWith(jws, keys); ok {
		return payload, nil
	}
	// The key may be newer than our copy.
	k.mu.Lock()
	s := k.loadIfOlder(ctx, true)
	k.mu.Unlock()
	if err := s.away(k.now()); err != nil {
		return nil, err
	}
	if payload, ok := verifyWith(jws, s.keys); ok {
		return payload, nil
	}
	return nil, errors.New("no key verifies the signature")
}

// current returns the keys to verify with. While one caller loads anew, the
// others go on with the keys there are.
func (k *keySet) current(ctx context.Context) ([]jose.JSONWebKey, error) {
	s := k.state.Load()
	if s == nil || s.away(k.now()) != nil {
		k.mu.Lock()
		s = k.loadIfOlder(ctx, true)
		k.mu.Unlock()
	} else if k.mu.TryLock() {
		s = k.loadIfOlder(ctx, false)
		k.mu.Unlock()
	}
	if err := s.away(k.now()); err != nil {
		return nil, err
	}
	return s.keys, nil
}

// ready reports a source that failed or lists no key, even while older keys
// serve: there is time left to mend it.
func (k *keySet) ready(ctx context.Context) error {
	k.mu.Lock()
	s := k.state.Load()
	s = k.loadIfOlder(ctx, s == nil || s.err != nil)
	k.mu.Unlock()
	switch {
	case s.err != nil:
		return fmt.Errorf("%w: %w", errKeysAway, s.err)
	case len(s.keys) == 0:
		return fmt.Errorf("%w: the key set has no usable public key", errKeysAway)
	}
	return nil
}

// loadIfOlder loads when the last load is older than the source's pace: the
// least time when a token or the lack of keys asks for it, else the most. mu
// is held.
func (k *keySet) loadIfOlder(ctx context.Context, asked bool) *keyState {
	old := k.state.Load()
	least, most := k.source.pace()
	if old != nil {
		age := k.now().Sub(old.loaded)
		if age < least || age < most && !asked {
			return old
		}
	} else {
		old = &keyState{}
	}
	// The load outlives an impatient caller: others want the keys too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	s := &keyState{loaded: k.now(), good: old.good}
	s.keys, s.err = k.source.load(ctx)
	switch {
	case s.err != nil && !k.broken:
		k.log.Warn("token keys not loaded", zap.Error(s.err), zap.Bool("oldKeysServe", old.keys != nil))
	case s.err == nil && s.keys != nil:
		k.log.Info("token keys loaded", zap.Int("keys", len(s.keys)))
	}
	k.broken = s.err != nil
	if s.err == nil {
		s.good = s.loaded
	}
	if s.keys == nil {
		s.keys = old.keys
	}
	k.state.Store(s)
	return s
}

// verifyWith tries the keys that the token's header may mean.
func verifyWith(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, bool) {
	if len(jws.Signatures) != 1 {
		return nil, false
	}
	h := jws.Signatures[0].Header
	for i := range keys {
		key := &keys[i]
		if h.KeyID != "" && key.KeyID != "" && key.KeyID != h.KeyID || key.Algorithm != "" && key.Algorithm != h.Algorithm {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// parseKeySet reads a JSON Web Key Set and keeps its public signing keys.
// Unknown kinds of keys are passed over, as RFC 7517 section 5 asks. A set
// may list none: then nobody can sign. A private or shared key is an error.
func parseKeySet(data []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("key set: no member keys")
	}
	keys := []jose.JSONWebKey{}
	for i, raw := range *set.Keys {
		var kind struct {
			Kty string           `json:"kty"`
			D   *json.RawMessage `json:"d"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i, err)
		}
		if kind.Kty == "oct" || kind.D != nil {
			return nil, fmt.Errorf("key set: key %d is private or shared; list public keys only", i)
		}
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use == "enc" {
			continue
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// fileSource reads a key set from a file, again whenever the file changes.
// Owned by its keySet.
type fileSource struct {
	path string
	last os.FileInfo
}

func (s *fileSource) pace() (least, most time.Duration) { return statAfter, statAfter }

func (s *fileSource) load(context.Context) ([]jose.JSONWebKey, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if s.last != nil && os.SameFile(s.last, info) && s.last.ModTime().Equal(info.ModTime()) && s.last.Size() == info.Size() {
		return nil, nil
	}
	keys, err := readKeySet(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	s.last = info
	return keys, nil
}

// providerSource finds a provider's keys by OpenID Connect discovery, again
// after a load that failed. Owned by its keySet.
type providerSource struct {
	issuer  string
	client  *http.Client
	jwksURL string // "" until discovered
}

// maxRedirects is net/http's own default.
const maxRedirects = 10

func newProviderSource(issuer string) *providerSource {
	return &providerSource{issuer: issuer, client: &http.Client{
		Timeout: fetchTimeout,
		// A redirect must not lead to a place that we would not have asked.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			return checkURL("redirect", r.URL.String())
		},
	}}
}

func (s *providerSource) pace() (least, most time.Duration) { return refetchAfter, refreshAfter }

func (s *providerSource) load(ctx context.Context) (keys []jose.JSONWebKey, err error) {
	defer func() {
		if err != nil {
			s.jwksURL = "" // the keys may have moved
		}
	}()
	if s.jwksURL == "" {
		p, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), s.issuer)
		if err != nil {
			return nil, err
		}
		var meta struct {
			JWKSURL string `json:"jwks_uri"`
		}
		if err := p.Claims(&meta); err != nil {
			return nil, err
		}
		if err := checkURL("jwks_uri", meta.JWKSURL); err != nil {
			return nil, err
		}
		s.jwksURL = meta.JWKSURL
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.jwksURL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %s", s.jwksURL, resp.Status)
	}
	return readKeySet(resp.Body)
}

func readKeySet(r io.Reader) ([]jose.JSONWebKey, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("key set: larger than %d bytes", maxKeySet)
	}
	return parseKeySet(data)
}
