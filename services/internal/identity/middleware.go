package identity

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/services/internal/problem"
)

// Middleware lets requests with a good bearer token through, with the
// Identity in their context, and answers the others: 401, or 503 while there
// are no keys to verify with. The answer never says which check failed, but
// for an expired token, which its holder can mend. The reason is logged,
// sampled, without the token.
func Middleware(v *Verifier, logger *zap.Logger) func(http.Handler) http.Handler {
	sampled := logger.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, 10, 100)
	}))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, err := bearer(r)
			if err != nil {
				problem.Write(w, r, sampled, err)
				return
			}
			id, err := v.Verify(r.Context(), token)
			if err != nil {
				if !errors.Is(err, errKeysAway) {
					sampled.Info("token refused", zap.String("requestId", w.Header().Get(problem.RequestIDHeader)), zap.Error(err))
				}
				problem.Write(w, r, sampled, refusal(err))
				return
			}
			next.ServeHTTP(w, r.WithContext(newContext(r.Context(), id)))
		})
	}
}

// Again verifies the token of a request once more: of one that is answered for
// long, it may have expired meanwhile.
func (v *Verifier) Again(r *http.Request) error {
	token, err := bearer(r)
	if err == nil {
		_, err = v.Verify(r.Context(), token)
	}
	return err
}

// bearer returns the token of the Authorization header.
func bearer(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		// RFC 6750 section 3.1: no error code when no credentials came.
		return "", &problem.Error{
			Kind:   problem.KindUnauthenticated,
			Detail: "Send a token: Authorization: Bearer <JWT>.",
			Header: http.Header{"Www-Authenticate": {`Bearer realm="auditrail"`}},
		}
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", challenge("the Authorization header must be: Bearer <JWT>")
	}
	return token, nil
}

func refusal(err error) error {
	if errors.Is(err, errKeysAway) {
		return &problem.Error{
			Kind:       problem.KindUnavailable,
			Detail:     "Tokens cannot be verified at the moment. Try again shortly.",
			RetryAfter: refetchAfter,
			Cause:      err,
		}
	}
	// A token without an expiry is told so too; only one with can have expired.
	if e, ok := errors.AsType[*oidc.TokenExpiredError](err); ok && !e.Expiry.IsZero() {
		return challenge("the token has expired")
	}
	return challenge("the token is not accepted")
}

// challenge makes the 401 of RFC 6750. The description is a fixed sentence.
func challenge(description string) error {
	return &problem.Error{
		Kind:   problem.KindUnauthenticated,
		Detail: strings.ToUpper(description[:1]) + description[1:] + ".",
		Header: http.Header{"Www-Authenticate": {
			`Bearer realm="auditrail", error="invalid_token", error_description="` + description + `"`,
		}},
	}
}
