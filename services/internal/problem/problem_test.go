package problem

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func write(t *testing.T, err error) (*httptest.ResponseRecorder, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	w := httptest.NewRecorder()
	w.Header().Set(RequestIDHeader, "r1")
	Write(w, httptest.NewRequest(http.MethodGet, "/x", nil), zap.New(core), err)
	return w, logs
}

func TestEveryKindHasItsStatusAndName(t *testing.T) {
	want := map[Kind]string{
		KindInternal: "internal 500", KindInvalid: "invalid 400", KindUnauthenticated: "unauthenticated 401",
		KindForbidden: "forbidden 403", KindNotFound: "notFound 404", KindConflict: "conflict 409",
		KindTooMany: "tooMany 429", KindUnavailable: "unavailable 503", Kind(99): "internal 500",
	}
	for k, w := range want {
		if got := fmt.Sprintf("%v %d", k, k.Status()); got != w {
			t.Errorf("kind %d: got %q, want %q", int(k), got, w)
		}
	}
}

func TestInvalidTellsEveryViolation(t *testing.T) {
	w, _ := write(t, Invalid(
		Violation{Field: "pageSize", Value: 0, Limit: "1-200", Message: "must be 1-200"},
		Violation{Field: "qql", Message: "too long <&>"},
	))
	want := `{"type":"urn:auditrail:problem:invalid","title":"Invalid request","status":400,` +
		`"detail":"pageSize: must be 1-200; qql: too long <&>.","requestId":"r1","errors":[` +
		`{"field":"pageSize","value":0,"limit":"1-200","message":"must be 1-200"},` +
		`{"field":"qql","message":"too long <&>"}]}`
	if d := cmp.Diff(w.Body.String(), want); d != "" {
		t.Errorf("body (-got +want)\n%s", d)
	}
	if w.Code != 400 || w.Header().Get("Content-Type") != ContentType {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

func TestInternalsNeverLeaveButAreLogged(t *testing.T) {
	for _, err := range []error{
		errors.New("secret table x"),
		fmt.Errorf("run: %w", errors.New("secret table x")),
		&Error{Kind: KindInternal, Detail: "secret table x", Violations: []Violation{{Field: "secret table x"}}},
	} {
		w, logs := write(t, err)
		if w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: got %d %s", err, w.Code, w.Body)
		}
		if logs.Len() != 1 || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "secret") {
			t.Errorf("%v: not logged: %v", err, logs.All())
		}
	}
}

func TestCauseStaysInside(t *testing.T) {
	w, logs := write(t, fmt.Errorf("search: %w", &Error{
		Kind: KindUnavailable, Detail: "Away.", Cause: errors.New("dial 10.0.0.1"), RetryAfter: 1500 * time.Millisecond,
	}))
	if w.Code != 503 || strings.Contains(w.Body.String(), "10.0.0.1") || w.Header().Get("Retry-After") != "2" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	if logs.Len() != 1 {
		t.Errorf("logged %d lines", logs.Len())
	}
}

func TestStatusAndHeaderOverride(t *testing.T) {
	w, _ := write(t, &Error{Kind: KindInvalid, Status: 405, Header: http.Header{"Allow": {"POST"}}})
	if w.Code != 405 || w.Header().Get("Allow") != "POST" || !strings.Contains(w.Body.String(), `"title":"Method Not Allowed"`) {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestUnprintableValueIsDropped(t *testing.T) {
	w, _ := write(t, Invalid(Violation{Field: "x", Value: func() {}, Message: "bad"}))
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"detail":"x: bad."`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func FuzzShorten(f *testing.F) {
	f.Add(strings.Repeat("é", 50))
	f.Add("a\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := Shorten(s)
		if !utf8.ValidString(got) || len(got) > maxValue+3 {
			t.Errorf("Shorten(%q) = %q", s, got)
		}
	})
}
