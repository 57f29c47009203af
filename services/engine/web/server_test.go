//go:build !noengine && (linux || darwin)

package web

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
)

// TestNoRequestBeginsAfterShutdown: nobody would wait for its session's end.
func TestNoRequestBeginsAfterShutdown(t *testing.T) {
	s, err := New(Config{Log: zap.NewNop(), TempDir: filepath.Join(t.TempDir(), "tmp")})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Shutdown(t.Context()) {
		t.Fatal("Shutdown waits for nothing")
	}
	w := httptest.NewRecorder()
	s.root(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?query=SELECT+1", http.NoBody))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
}
