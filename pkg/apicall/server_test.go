package apicall_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
)

// serve starts a real server.
func serve(t *testing.T, h http.Handler) (*httptest.Server, *http.Client) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client := server.Client()
	client.Timeout = patience
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	return server, client
}

// TestManyClientsOfARealServer: exactly so many are admitted, never too many at
// a time, and every call ends once.
func TestManyClientsOfARealServer(t *testing.T) {
	for _, test := range []struct {
		name string
		wait time.Duration
	}{{"at once", 0}, {"waiting", patience}} {
		t.Run(test.name, func(t *testing.T) {
			const clients, each, admitted, atATime = 64, 20, 500, 5
			calls, rec := open(t, apicall.Config{
				Limits:  fixed(apicall.Limit{Concurrency: atATime, Calls: admitted, Window: time.Hour}),
				MaxWait: test.wait,
			})
			var running, most, ran atomic.Int64
			server, client := serve(t, calls.Handler(jobs, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				n := running.Add(1)
				defer running.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				ran.Add(1)
				_, _ = io.WriteString(w, "done")
			})))
			var ok, blocked atomic.Int64
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for range each {
						for again := true; again; {
							resp, err := client.Get(server.URL)
							if err != nil {
								t.Error(err)
								return
							}
							body, err := io.ReadAll(resp.Body)
							resp.Body.Close()
							again = false
							switch {
							case err != nil:
								t.Error(err)
							case resp.StatusCode == 200:
								ok.Add(1)
							case resp.StatusCode != 429:
								t.Errorf("status %d: %s", resp.StatusCode, body)
							case strings.Contains(string(body), "at a time"):
								again = ran.Load() < admitted
								blocked.Add(1)
							default:
								blocked.Add(1)
							}
						}
					}
				})
			}
			all.Wait()
			if ok.Load() != admitted || ran.Load() != admitted {
				t.Errorf("%d calls were answered and %d ran, want %d", ok.Load(), ran.Load(), admitted)
			}
			if most.Load() > atATime {
				t.Errorf("%d calls ran at a time, want at most %d", most.Load(), atATime)
			}
			ends := map[string]int64{}
			for _, call := range byCall(rec.Calls()) {
				ends[strings.TrimPrefix(story(call), "Queued, ")]++
			}
			if ends["Running, Finished 200"] != admitted || ends["Blocked (Rate) 429"]+ends["Blocked (Concurrency) 429"] != blocked.Load() || len(ends) > 3 {
				t.Errorf("ends %v, want %d that finished and %d blocked", ends, admitted, blocked.Load())
			}
			s := calls.Stats()
			if s.Finished != admitted || s.BlockedConcurrency+s.BlockedRate != blocked.Load() || s.Running != 0 || s.Waiting != 0 || s.EmitFailures != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestAClientNeverBlocksItself: at one call at a time, whoever has the whole
// answer finds the place free.
func TestAClientNeverBlocksItself(t *testing.T) {
	big := strings.Repeat("x", 100_000)
	for name, next := range map[string]http.HandlerFunc{
		"small": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") },
		"big":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, big) },
		"empty": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			w.(http.Flusher).Flush()
		},
		"in pieces": func(w http.ResponseWriter, _ *http.Request) {
			for range 50 {
				_, _ = io.WriteString(w, "piece")
				w.(http.Flusher).Flush()
			}
		},
		"of known length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
			_, _ = io.WriteString(w, big[:50_000])
			_, _ = w.Write([]byte(big[50_000:]))
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond) //nolint:forbidigo // a handler that tidies up once the client has all
		},
		"a copied file": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(big))
			time.Sleep(time.Millisecond) //nolint:forbidigo // as above
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls, rec := open(t, apicall.Config{Limits: oneAtATime})
			server, client := serve(t, calls.Handler(jobs, next))
			// A server reads the next request of a connection after the handler
			// returned; one on another connection may come sooner.
			client.Transport.(*http.Transport).DisableKeepAlives = true
			for i := range 200 {
				resp, err := client.Get(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode >= 400 {
					t.Fatalf("call %d: status %d", i, resp.StatusCode)
				}
			}
			server.Close()
			if n := len(byCall(rec.Calls())); n != 200 {
				t.Errorf("%d calls are listed", n)
			}
			for _, s := range stories(rec.Calls()) {
				if s != "Running, Finished 200" && s != "Running, Finished 204" {
					t.Fatalf("story %s", s)
				}
			}
		})
	}
}

// TestHeadIsNoWayAroundTheLimit: what a handler writes for HEAD goes nowhere, and
// its call runs on.
func TestHeadIsNoWayAroundTheLimit(t *testing.T) {
	calls, _ := open(t, apicall.Config{Limits: oneAtATime})
	goOn, wrote := make(chan struct{}), make(chan struct{}, 2)
	server, client := serve(t, calls.Handler(jobs, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "piece")
		w.(http.Flusher).Flush()
		wrote <- struct{}{}
		<-goOn
	})))
	client.Transport.(*http.Transport).DisableKeepAlives = true // the first one's connection is busy
	defer close(goOn)
	head := func() int {
		resp, err := client.Head(server.URL)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if status := head(); status != 200 {
		t.Errorf("status %d", status)
	}
	<-wrote
	if status := head(); status != http.StatusTooManyRequests {
		t.Errorf("status %d while a call runs", status)
	}
}

func TestAClientThatHangsUpOnARealServer(t *testing.T) {
	calls, rec := open(t, apicall.Config{Limits: oneAtATime})
	began, ended := make(chan struct{}), make(chan struct{})
	server, client := serve(t, calls.Handler(jobs, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})))
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		hangUp()
	}()
	if _, err := client.Do(req); err == nil {
		t.Fatal("answered")
	}
	<-ended
	server.Close()
	mustTell(t, rec, "Running, Finished 499")
}

// TestABodyThatNeverEnds keeps its place, and is let go with its connection.
func TestABodyThatNeverEnds(t *testing.T) {
	calls, rec := open(t, apicall.Config{Limits: oneAtATime})
	began := make(chan struct{})
	server, client := serve(t, calls.Handler(jobs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			close(began)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})))
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("status %d, want 429: the other call runs", resp.StatusCode)
	}
	conn.Close()
	server.Close() // waits for the handlers
	records := byCall(rec.Calls())
	if s := story(records[0]); s != "Running, Finished 400" && s != "Running, Finished 499" {
		t.Errorf("story %s", s)
	}
}

// TestWhatHandlersDoToAConnection works through the middleware as without it.
func TestWhatHandlersDoToAConnection(t *testing.T) {
	calls, rec := open(t, apicall.Config{})
	mux := http.NewServeMux()
	mux.Handle("/deadlines", calls.Handler("deadlines", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		for what, err := range map[string]error{
			"read deadline": c.SetReadDeadline(time.Now().Add(patience)), "write deadline": c.SetWriteDeadline(time.Now().Add(patience)),
			"full duplex": c.EnableFullDuplex(), "flush": c.Flush(),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})))
	mux.Handle("/hijack", calls.Handler("hijack", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
		_ = buf.Flush()
	})))
	mux.Handle("/hints", calls.Handler("hints", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusAccepted)
	})))
	server, client := serve(t, mux)
	for path, status := range map[string]int{"/deadlines": 200, "/hints": 202} {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	server.Close()
	want := map[string]string{"deadlines": "Running, Finished 200", "hijack": "Running, Finished", "hints": "Running, Finished 202"}
	deadline := time.After(patience)
	for {
		got := map[string]string{}
		var last audit.APICall
		for _, call := range byCall(rec.Calls()) {
			got[call[0].API] = story(call)
			if call[0].API == "hijack" {
				last = call[len(call)-1]
			}
		}
		if fmt.Sprint(got) == fmt.Sprint(want) && last.Reason == "the handler took the connection over" {
			return
		}
		select {
		case <-deadline: // the server does not wait for a hijacked connection
			t.Fatalf("got %v, want %v; %+v", got, want, last)
		case <-time.After(time.Millisecond):
		}
	}
}
