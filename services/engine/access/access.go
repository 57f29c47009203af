// Package access checks the one user of the embedded engine.
package access

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/auditrail/auditrail/services/engine/chdb"
)

// Login is who may connect. The zero value admits the empty user and password.
type Login struct {
	User, Password string
}

// Check compares in constant time. An empty user means "default". The error is
// a *chdb.Error with code 516 and does not tell which of the two was wrong.
func (l Login) Check(user, password string) error {
	if user == "" {
		user = "default"
	}
	if equal(user, l.User)&equal(password, l.Password) == 1 {
		return nil
	}
	return chdb.Errorf(chdb.CodeAuthenticationError, "AUTHENTICATION_FAILED",
		"%s: Authentication failed: password is incorrect, or there is no user with such name.", user)
}

// equal hashes first, so that the lengths do not show either.
func equal(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}
