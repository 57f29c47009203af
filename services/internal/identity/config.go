package identity

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// Config says whose tokens are accepted. Exactly one of OIDCIssuer and
// JWKSFile must be set. Its tags are flags; see auditrail --help.
type Config struct {
	OIDCIssuer    string `name:"oidc-issuer" help:"URL of the OpenID Connect provider whose tokens are accepted; its keys are found by discovery. Either this or --jwks-file."`
	JWKSFile      string `name:"jwks-file" help:"File of public keys (JSON Web Key Set) that sign tokens; read again when it changes, so that keys can rotate. Either this or --oidc-issuer."`
	TokenIssuer   string `name:"token-issuer" help:"Expected issuer (claim iss) of tokens. Required with --jwks-file; with --oidc-issuer it is the provider's URL."`
	TokenAudience string `name:"token-audience" help:"Expected audience (claim aud) of tokens." default:"auditrail"`
}

// validate reports what is wrong with the configuration, in the words of the
// flags.
func (c Config) validate() error {
	switch {
	case c.OIDCIssuer == "" && c.JWKSFile == "":
		return errors.New("no source of token keys: set --oidc-issuer or --jwks-file")
	case c.OIDCIssuer != "" && c.JWKSFile != "":
		return errors.New("two sources of token keys: set either --oidc-issuer or --jwks-file, not both")
	case c.JWKSFile != "" && c.TokenIssuer == "":
		return errors.New("--jwks-file needs --token-issuer, the expected claim iss")
	case c.OIDCIssuer != "" && c.TokenIssuer != "" && c.TokenIssuer != c.OIDCIssuer:
		return errors.New("--token-issuer goes with --jwks-file; with --oidc-issuer the issuer is that URL")
	case c.TokenAudience == "":
		return errors.New("--token-audience must not be empty")
	}
	if c.OIDCIssuer == "" {
		return nil
	}
	return checkURL("--oidc-issuer", c.OIDCIssuer)
}

// checkURL wants https, or http to this host: keys fetched over a plain
// network would let anyone on it sign tokens.
func checkURL(what, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("%s: not a URL with a host and without credentials", what)
	}
	if u.Scheme == "https" {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s: must be https (http only to this host)", what)
}
