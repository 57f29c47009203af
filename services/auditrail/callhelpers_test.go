package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

const (
	searchPath = "/audit-log/admin/search"
	fieldsPath = "/audit-log/admin/search/fields"
	limitsPath = "/audit-log/admin/limits"
	callsPath  = "/audit-log/admin/api-calls"
)

// caller calls a service's API as one user.
type caller struct {
	addr, token string
	client      *http.Client
	id          string // of the next request; "": a new one
}

// caller calls dev's own API.
func (d *devProcess) caller(token string) caller {
	return caller{addr: d.http, token: token, client: http.DefaultClient}
}

// manager is a Manager of the demo's Standard subscription.
func (d *devProcess) manager() caller {
	d.t.Helper()
	return d.caller(d.token("--customer", nextCustomer, "--tier", string(identity.TierStandard)))
}

// at is the same user at another replica.
func (c caller) at(addr string) caller {
	c.addr = addr
	return c
}

// reply is what a call came to.
type reply struct {
	id     string // of the request
	status int
	header http.Header
	body   string
	err    error
	at     time.Time
}

// member is one of the answer's.
func (r reply) member(t *testing.T, name string) any {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(r.body), &members); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return members[name]
}

func (c caller) do(ctx context.Context, method, path string, body io.Reader) reply {
	r := reply{id: cmp.Or(c.id, uuid.NewString())}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.addr+path, body)
	if err != nil {
		r.err = err
		return r
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("X-Request-Id", r.id)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if _, open := body.(*io.PipeReader); open {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		r.err = err
		return r
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	r.status, r.header, r.body, r.err, r.at = resp.StatusCode, resp.Header, string(raw), err, time.Now()
	return r
}

func (c caller) get(t *testing.T, path string) reply { return c.call(t, http.MethodGet, path, "") }

// call makes one call and wants an answer, whichever.
func (c caller) call(t *testing.T, method, path, body string) reply {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r := c.do(t.Context(), method, path, content)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r
}

// limit sets the subscription's limits, and waits until each replica knows them.
func (c caller) limit(t *testing.T, override string, replicas ...string) {
	t.Helper()
	if r := c.call(t, http.MethodPut, limitsPath, override); r.status != http.StatusOK {
		t.Fatalf("PUT %s: %d %s", limitsPath, r.status, r.body)
	}
	for _, addr := range replicas {
		testenv.Until(t, deadline, nil, "the limits to count at "+addr, func() (bool, string) {
			r := c.at(addr).get(t, limitsPath)
			return r.status == http.StatusOK && r.member(t, "override") != nil, r.body
		})
	}
}

// held is a call whose body has no end yet: it keeps its place.
type held struct {
	t       *testing.T
	id      string // of the request
	body    *io.PipeWriter
	runs    chan struct{} // closed when it has its place
	replied chan reply
}

// hold makes such a call. The server waits for 30 s.
func (c caller) hold(t *testing.T) *held {
	t.Helper()
	r, w := io.Pipe()
	c.id = uuid.NewString()
	h := &held{t: t, id: c.id, body: w, runs: make(chan struct{}), replied: make(chan reply, 1)}
	// The server asks for the body when the call runs.
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(h.runs) }})
	transport := &http.Transport{ExpectContinueTimeout: deadline}
	c.client = &http.Client{Transport: transport}
	go func() {
		defer transport.CloseIdleConnections()
		h.replied <- c.do(ctx, http.MethodPost, searchPath, r)
	}()
	t.Cleanup(func() { w.CloseWithError(io.ErrClosedPipe) })
	return h
}

// running waits until the call has its place.
func (h *held) running() *held {
	h.t.Helper()
	select {
	case <-h.runs:
	case r := <-h.replied:
		h.t.Fatalf("the call does not run: %d %s %v", r.status, r.body, r.err)
	case <-time.After(deadline):
		h.t.Fatal("the call does not run")
	}
	return h
}

// end sends the rest of the body and returns the answer.
func (h *held) end() reply {
	h.t.Helper()
	if _, err := io.WriteString(h.body, "{}"); err != nil {
		h.t.Fatal(err)
	}
	h.body.Close()
	select {
	case r := <-h.replied:
		return r
	case <-time.After(deadline):
		h.t.Fatal("the call is not answered")
		return reply{}
	}
}

// apiCall is a call as the list has it.
type apiCall struct {
	CallID     string `json:"callId"`
	API        string `json:"api"`
	State      string `json:"state"`
	Reason     string `json:"reason"`
	HTTPStatus int    `json:"httpStatus"`
	RequestID  string `json:"requestId"`
	History    []struct {
		State string `json:"state"`
	} `json:"history"`
}

// states is the history of the call.
func (a apiCall) states() string {
	var states []string
	for _, s := range a.History {
		states = append(states, s.State)
	}
	return strings.Join(states, ", ")
}

// list returns the page of calls that a query finds, and how many there are.
func (c caller) list(t *testing.T, qql string) ([]apiCall, int) {
	t.Helper()
	r := c.get(t, callsPath+"?pageSize=200&qql="+url.QueryEscape(qql))
	var a struct {
		APICalls   []apiCall `json:"apiCalls"`
		TotalCount int       `json:"totalCount"`
	}
	if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != http.StatusOK {
		t.Fatalf("%v, %d %s", err, r.status, r.body)
	}
	return a.APICalls, a.TotalCount
}

// until waits until the newest call that a query finds is in a state, and checks
// its history.
func (c caller) until(t *testing.T, qql, state, history string) apiCall {
	t.Helper()
	var found apiCall
	testenv.Until(t, deadline, nil, state+" of "+qql, func() (bool, string) {
		all, _ := c.list(t, qql)
		if len(all) == 0 {
			return false, "no call"
		}
		found = all[0]
		return found.State == state, found.State
	})
	r := c.get(t, callsPath+"/"+found.CallID)
	if err := json.Unmarshal([]byte(r.body), &found); err != nil || r.status != http.StatusOK {
		t.Fatalf("%v, %d %s", err, r.status, r.body)
	}
	if found.states() != history {
		t.Errorf("call %s was %s, want %s", found.CallID, found.states(), history)
	}
	return found
}

// seen is until of the call that was answered, which it says how long it took.
func (c caller) seen(t *testing.T, r reply, state, history string) apiCall {
	t.Helper()
	a := c.until(t, byRequest(r.id), state, history)
	t.Logf("%s: in the list %s after the answer", state, time.Since(r.at).Round(time.Millisecond))
	if a.HTTPStatus != r.status {
		t.Errorf("listed with status %d, answered %d", a.HTTPStatus, r.status)
	}
	return a
}

func byRequest(id string) string { return fmt.Sprintf("requestId:%q", id) }

// replica starts auditrail query on the Kafka, the ClickHouse and the token keys
// of dev, and returns once it is ready.
func (d *devProcess) replica(t *testing.T, args ...string) (addr string, process *testenv.Command) {
	t.Helper()
	return d.beside(t, "query", append([]string{
		"--kafka-addr", d.kafka, "--clickhouse-addr", d.native,
		"--jwks-file", filepath.Join(d.data, "dev", "jwks.json"), "--token-issuer", identity.DevIssuer,
		"--report-store", filepath.Join(d.data, "reports"),
	}, args...)...)
}

// beside starts a service and returns once it is ready.
func (d *devProcess) beside(t *testing.T, service string, args ...string) (addr string, process *testenv.Command) {
	t.Helper()
	process = &testenv.Command{Log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() {
		process.Kill()
		if t.Failed() {
			t.Logf("output of auditrail %s:\n%s", service, words(process))
		}
	})
	for range 5 {
		addr, err := testenv.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(binary(), append([]string{service, "--http-addr", addr}, args...)...); err != nil {
			t.Fatal(err)
		}
		ended := false
		testenv.Until(t, deadline, nil, "auditrail "+service+" to be ready", func() (bool, string) {
			select {
			case <-process.Ended():
				ended = true
				return true, ""
			default:
			}
			resp, err := http.Get("http://" + addr + "/readyz")
			if err != nil {
				return false, err.Error()
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return resp.StatusCode == http.StatusOK, string(body)
		})
		if !ended {
			return addr, process
		}
		if !strings.Contains(words(process), "address already in use") {
			t.Fatalf("auditrail %s did not start:\n%s", service, words(process))
		}
	}
	t.Fatal("no free port for auditrail " + service)
	return "", nil
}

// words is what a process has said.
func words(process *testenv.Command) string {
	said, _ := os.ReadFile(process.Log) // none yet
	return string(said)
}

// stored runs a statement in dev's ClickHouse.
func (d *devProcess) stored(t *testing.T, statement string) string {
	t.Helper()
	resp, err := http.Post("http://"+d.clickhouseHTTP+"/", "text/plain", bytes.NewBufferString(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %s", statement, err, body)
	}
	return strings.TrimSpace(string(body))
}
