package query

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/zap"
)

// TestABodyThatBreaksOffIsNotAnswered200 sends bodies that never become whole
// to a real server: only its connection knows how they fail.
func TestABodyThatBreaksOffIsNotAnswered200(t *testing.T) {
	b := newBench(t, away(t), nil)
	srv := httptest.NewUnstartedServer(b.Handler())
	srv.Config.ReadTimeout = 200 * time.Millisecond
	srv.Start()
	defer srv.Close()
	for name, c := range map[string]struct {
		framing, body string
		halfClose     bool
		status        int // 0: none
	}{
		"broken chunk": {"Transfer-Encoding: chunked", "zz\r\n{}\r\n0\r\n\r\n", false, 400},
		"stalls":       {"Content-Length: 100", "{", false, 408},
		"hangs up":     {"Content-Length: 100", "{", true, 0},
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST "+searchPath+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "+
			b.token(t, manager)+"\r\n"+c.framing+"\r\n\r\n"+c.body); err != nil {
			t.Fatal(err)
		}
		if c.halfClose {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if c.status == 0 {
			if err == nil {
				t.Errorf("%s: status %d to a client that hung up", name, resp.StatusCode)
			}
			_ = conn.Close()
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if resp.StatusCode != c.status || !resp.Close {
			t.Errorf("%s: status %d, close %v; want %d and close", name, resp.StatusCode, resp.Close, c.status)
		}
		_ = resp.Body.Close()
		_ = conn.Close()
	}
}

// TestNothingIsSentToAClientThatHungUp holds that the handler aborts: if it
// returned, net/http would send an empty 200.
func TestNothingIsSentToAClientThatHungUp(t *testing.T) {
	b := newBench(t, away(t), nil)
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, searchPath, iotest.ErrReader(errors.New("reset")))
	r.Header.Set("Authorization", "Bearer "+b.token(t, manager))
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				t.Errorf("got %v, want an abort", v)
			}
		}()
		b.Handler().ServeHTTP(w, r)
	}()
	if w.Body.Len() != 0 || w.Flushed {
		t.Errorf("sent %s", w.Body)
	}
	if b.logs.FilterMessage("request").FilterField(zap.Int("status", statusClientGone)).Len() != 1 || b.logs.FilterMessage("panic").Len() != 0 {
		t.Errorf("logged %v", b.logs.All())
	}
}
