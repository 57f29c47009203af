package query

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/problem"
)

// statusClientGone marks requests whose client hung up, in metrics and logs;
// nobody is there to receive it.
const statusClientGone = 499

// maxRequestID bounds a client's X-Request-Id, in bytes.
const maxRequestID = 64

// exchange is the response writer of a request, and what metrics and the
// access log say about it. Owned by the request's goroutine.
type exchange struct {
	http.ResponseWriter
	requestID string
	endpoint  string // "other" until a route is found
	tenant    string // "" until the caller is known
	status    int    // 0 until the header is written
}

// WriteHeader keeps the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write keeps the status that net/http implies.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

type exchangeKey struct{}

// exchangeOf returns the request's exchange; a fresh one outside observe.
func exchangeOf(r *http.Request) *exchange {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// requestIDOf returns the id of the request that ctx belongs to, or "".
func requestIDOf(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.requestID
	}
	return ""
}

// observe gives the request its id, then counts, times and logs the answer.
func (s *Service) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		s.metrics.inFlight.Inc()
		defer s.metrics.inFlight.Dec()
		x := &exchange{ResponseWriter: w, endpoint: "other", requestID: requestID(r)}
		w.Header().Set(problem.RequestIDHeader, x.requestID)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if x.status == 0 {
				x.status = http.StatusOK // what net/http answers for us
			}
			took := time.Since(start)
			s.metrics.answered(x.endpoint, x.status, took.Seconds())
			s.log.Info("request", zap.String("requestId", x.requestID), zap.String("endpoint", x.endpoint),
				zap.String("tenant", x.tenant), zap.Int("status", x.status), zap.Duration("took", took))
		}()
		next.ServeHTTP(x, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	})
}

// requestID is the client's X-Request-Id when it is fit for logs and headers,
// else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(problem.RequestIDHeader)
	if id != "" && len(id) <= maxRequestID {
		ok := true
		for i := range len(id) {
			c := id[i]
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
		}
		if ok {
			return id
		}
	}
	if v7, err := uuid.NewV7(); err == nil {
		return v7.String()
	}
	return "unknown" // no randomness: the request itself can still be served
}

// guard makes f fit for a goroutine of the request that ctx belongs to: a
// panic there would end the process, out of recover's reach.
func (s *Service) guard(ctx context.Context, f func() error) func() error {
	return func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = s.panicked(requestIDOf(ctx), v)
			}
		}()
		return f()
	}
}

// panicked logs a panic, with the stack of the goroutine that it is called
// on, and returns what the caller is told.
func (s *Service) panicked(requestID string, v any) error {
	s.log.Error("panic", zap.String("requestId", requestID), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
	return problem.New(problem.KindInternal, "panic")
}

// recover turns a panic into an internal error, or cuts the connection when
// part of an answer has gone out already. http.ErrAbortHandler passes: nobody
// is there to answer.
func (s *Service) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			x := exchangeOf(r)
			if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				if x.status == 0 {
					x.status = statusClientGone
				}
				panic(v)
			}
			err := s.panicked(x.requestID, v)
			if x.status != 0 {
				panic(http.ErrAbortHandler)
			}
			problem.Write(w, r, s.log, err)
		}()
		next.ServeHTTP(w, r)
	})
}
