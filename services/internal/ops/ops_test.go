package ops

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

func get(t *testing.T, o *Ops, path string) (int, string) {
	t.Helper()
	mux := http.NewServeMux()
	o.Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadyz(t *testing.T) {
	o := New(zaptest.NewLogger(t))
	o.Ready("store", func(context.Context) error { return nil })
	if code, body := get(t, o, "/readyz"); code != http.StatusOK || body != "store: ok\n" {
		t.Errorf("got %d %q", code, body)
	}
	o.Ready("broker", func(context.Context) error { return errors.New("it is away") })
	if code, body := get(t, o, "/readyz"); code != http.StatusServiceUnavailable || body != "broker: it is away\nstore: ok\n" {
		t.Errorf("got %d %q", code, body)
	}
	if code, _ := get(t, o, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz: got %d: a process whose parts are away is alive", code)
	}
	o.Ready("broker", func(context.Context) error { return nil })
	o.Drain()
	if code, body := get(t, o, "/readyz"); code != http.StatusServiceUnavailable || body != "draining\n" {
		t.Errorf("got %d %q", code, body)
	}
}

func TestReadyzDoesNotHangWithACheck(t *testing.T) {
	o := New(zaptest.NewLogger(t))
	release := make(chan struct{})
	defer close(release)
	o.Ready("stuck", func(context.Context) error { <-release; return nil })
	if code, body := get(t, o, "/readyz"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "stuck: no answer within") {
		t.Errorf("got %d %q", code, body)
	}
}

func TestMetrics(t *testing.T) {
	if code, body := get(t, New(zaptest.NewLogger(t)), "/metrics"); code != http.StatusOK || !strings.Contains(body, "go_goroutines") {
		t.Errorf("got %d %.200q", code, body)
	}
}

func TestServeDrains(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "whole")
	})
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, ln, h, time.Minute, zaptest.NewLogger(t)) }()
	answered := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + ln.Addr().String())
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answered <- string(body)
	}()
	<-entered
	cancel()
	close(release)
	if got := <-answered; got != "whole" {
		t.Errorf("a request in hand got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := Listen(t.Context(), "256.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "--http-addr") {
		t.Errorf("got %v, want what to change", err)
	}
}

// TestServeDrainsNoLongerThanAsked serves requests that never end, and none.
func TestServeDrainsNoLongerThanAsked(t *testing.T) {
	for _, c := range []struct {
		name  string
		busy  bool
		drain time.Duration
	}{{"a request in hand", true, 50 * time.Millisecond}, {"none", false, time.Hour}} {
		ctx, cancel := context.WithCancel(t.Context())
		ln, err := Listen(ctx, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		entered := make(chan struct{})
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, ln, h, c.drain, zaptest.NewLogger(t)) }()
		if c.busy {
			go func() {
				if resp, err := http.Get("http://" + ln.Addr().String()); err == nil {
					_ = resp.Body.Close()
					t.Error("a request that was cut off got an answer")
				}
			}()
			<-entered
		}
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		case <-time.After(DefaultDrain / 2):
			t.Fatalf("%s: still draining", c.name)
		}
	}
}
