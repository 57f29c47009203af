package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

// DevIssuer is the claim iss of the development issuer's tokens.
const DevIssuer = "auditrail-dev"

// devAudience is the claim aud of the development issuer's tokens: the
// default of Config.TokenAudience.
const devAudience = "auditrail"

// Issuer mints tokens for development: who holds its key can be anyone. Safe
// for concurrent use.
type Issuer struct {
	signer   jose.Signer
	jwksFile string
}

// OpenIssuer opens the development key under dataDir, creating it on first
// use, and writes the file of public keys beside it. Two processes that start
// at once end up with the same key.
func OpenIssuer(dataDir string) (*Issuer, error) {
	dir := filepath.Join(dataDir, "dev")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := openKey(filepath.Join(dir, "token-key.pem"))
	if err != nil {
		return nil, fmt.Errorf("development key: %w", err)
	}
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	thumb, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("development key: %w", err)
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	jwks, err := json.MarshalIndent(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("development key: %w", err)
	}
	iss, jwks := &Issuer{jwksFile: filepath.Join(dir, "jwks.json")}, append(jwks, '\n')
	// A file that is right already stays: verifiers would read it again.
	if have, err := os.ReadFile(iss.jwksFile); err != nil || !bytes.Equal(have, jwks) {
		if err := replaceFile(iss.jwksFile, jwks); err != nil {
			return nil, err
		}
	}
	iss.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: public.KeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("development key: %w", err)
	}
	return iss, nil
}

// Config returns the configuration that accepts this issuer's tokens.
func (i *Issuer) Config() Config {
	return Config{JWKSFile: i.jwksFile, TokenIssuer: DevIssuer, TokenAudience: devAudience}
}

// Mint returns a token for id, valid from now for ttl, which must be at least
// a second. An empty tier is left out. It fails when the token would be
// refused: an unknown role or tier, an id missing or too long.
func (i *Issuer) Mint(id Identity, ttl time.Duration) (string, error) {
	checked := id
	if checked.Tier == "" {
		checked.Tier = TierStandard
	}
	if err := checked.validate(); err != nil {
		return "", err
	}
	if ttl < time.Second {
		return "", errors.New("a token must live for a second or more")
	}
	now := time.Now()
	c := map[string]any{
		"iss": DevIssuer, "aud": devAudience, "jti": uuid.NewString(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(ttl).Unix(),
		"sub": id.UserUUID, "customerUuid": id.CustomerUUID, "name": id.Name, "role": id.Role,
	}
	if len(id.BusinessUnits) > 0 {
		c["businessUnits"] = id.BusinessUnits
	}
	if id.Tier != "" {
		c["tier"] = id.Tier
	}
	if id.ViewAll {
		c["viewAll"] = true
	}
	token, err := jwt.Signed(i.signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("token is longer than %d bytes: name fewer business units", maxToken)
	}
	return token, nil
}

// openKey reads the key at path, creating it when there is none. Creation is
// by hard link from a complete file, so that a reader never meets half a key
// and the first of two creators wins.
func openKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return nil, err
	}
	tmp, err := writeTemp(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(tmp) }() // linked by now, or of no use
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator's own data folder
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: not a PEM file", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: not an ES256 key", path)
	}
	return key, nil
}

// replaceFile puts data at path at once: a reader sees the old or the new.
func replaceFile(path string, data []byte) error {
	tmp, err := writeTemp(path, data, 0o644)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp) // the rename's error is the one to tell
		return err
	}
	return nil
}

// writeTemp writes data to a new file beside path.
func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		_ = os.Remove(f.Name()) // the write's error is the one to tell
		return "", err
	}
	return f.Name(), nil
}
