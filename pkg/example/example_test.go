package main

import (
	"bufio"
	"context"
	"go/format"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
)

// TestThePageShowsTheExample holds docs/modules.md to the file that runs.
func TestThePageShowsTheExample(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "\n"); n > 60 {
		t.Errorf("main.go has %d lines: it is to be read at a glance, in 60 at most", n)
	}
	if formatted, err := format.Source(source); err != nil || string(formatted) != string(source) {
		t.Errorf("main.go is not as gofmt leaves it: %v", err)
	}
	const path = "../../docs/modules.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "\n```go\n")
	block, _, _ = strings.Cut(block, "```\n")
	if diff := cmp.Diff(string(source), block); diff != "" {
		t.Errorf("the first block of Go in %s is not pkg/example/main.go (-file +page):\n%s", path, diff)
	}
}

// patience is how long the test waits for what must happen.
const patience = 2 * time.Minute

const customer = "5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a01"

func TestTheExampleRuns(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events := audit.Topic("PM")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, events, audit.APICallsTopic), kfake.SeedTopics(1, apicall.LimitsTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DisableClientMetrics(),
		kgo.ConsumeTopics(events, audit.APICallsTopic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)

	setLimits(ctx, t, client, `{"apis": {"api/v1/*": {"unlimited": true}}}`)
	module := start(ctx, t, cluster.ListenAddrs()[0])

	if status := module.addJob(ctx, t, "").StatusCode; status != http.StatusUnauthorized {
		t.Errorf("a call of nobody is answered %d, want 401", status)
	}
	first := module.addJob(ctx, t, customer)
	if first.StatusCode != http.StatusOK || first.Header.Get("X-Ratelimit-Limit") != "" {
		t.Fatalf("a call without a limit is answered %d with the headers %v", first.StatusCode, first.Header)
	}
	setLimits(ctx, t, client, `{"apis": {"api/v1/*": {"calls": 1, "windowSec": 3600}}}`)
	ran := 1
	for counted := false; !counted; ran++ {
		answer := module.addJob(ctx, t, customer)
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("call %d is answered %d, and none was counted yet", ran+1, answer.StatusCode)
		}
		counted = answer.Header.Get("X-Ratelimit-Limit") == "1"
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the limit in the topic never counted")
		}
	}
	blocked := module.addJob(ctx, t, customer)
	wait, err := strconv.Atoi(blocked.Header.Get("Retry-After"))
	if blocked.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 3600 {
		t.Errorf("a call beyond the limit is answered %d with the headers %v, want 429 and at most an hour", blocked.StatusCode, blocked.Header)
	}

	module.stop(t)

	// The process is gone: what it did not flush is not there.
	added, states := 0, map[string][]string{}
	for _, r := range stored(ctx, t, cluster, client, events, audit.APICallsTopic) {
		if r.Topic == events {
			checkEvent(t, r)
			added++
			continue
		}
		if c := checkCall(t, r); !c.Heartbeat {
			states[c.CallID] = append(states[c.CallID], c.State)
		}
	}
	if added != ran {
		t.Errorf("%d events for %d jobs that were added", added, ran)
	}
	got := map[string]int{}
	for _, s := range states {
		got[strings.Join(s, ", ")]++
	}
	want := map[string]int{"Running, Finished": ran, "Blocked (Rate)": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls by their states (-want +got):\n%s", diff)
	}
}

// setLimits writes the limits of the customer.
func setLimits(ctx context.Context, t *testing.T, client *kgo.Client, limits string) {
	t.Helper()
	r := &kgo.Record{Topic: apicall.LimitsTopic, Key: []byte(customer), Value: []byte(limits)}
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// process is the example, running.
type process struct {
	cmd    *exec.Cmd
	url    string
	stderr *strings.Builder
}

// start builds the example and runs it.
func start(ctx context.Context, t *testing.T, broker string) *process {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "example")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	p := &process{cmd: exec.CommandContext(ctx, binary), stderr: new(strings.Builder)}
	p.cmd.Env = append(p.cmd.Environ(), "KAFKA_ADDR="+broker, "HTTP_ADDR=127.0.0.1:0")
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		_ = p.cmd.Wait()
		t.Fatalf("it says %q: %v\n%s", line, err, p.stderr)
	}
	p.url = "http://" + addr + "/api/v1/jobs"
	return p
}

// addJob calls the API as a user of the customer, or as nobody.
func (p *process) addJob(ctx context.Context, t *testing.T, customer string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if customer != "" {
		req.Header.Set("X-Toy-Subscription", customer)
		req.Header.Set("X-Toy-User", "Jack")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp
}

// stop ends the process as an orchestrator does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("it ended with %v, want exit code 0\n%s", err, p.stderr)
	}
}

// stored reads all that the topics hold now.
func stored(ctx context.Context, t *testing.T, cluster *kfake.Cluster, client *kgo.Client, topics ...string) []*kgo.Record {
	t.Helper()
	want := 0
	for _, topic := range topics {
		for _, p := range cluster.PartitionInfos(topic) {
			want += int(p.HighWatermark)
		}
	}
	var records []*kgo.Record
	for len(records) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(records), want, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func checkEvent(t *testing.T, r *kgo.Record) {
	t.Helper()
	var e audit.Event
	if err := audit.Decode(r.Value, &e); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(r.Timestamp, audit.DefaultMaxAge); err != nil {
		t.Error(err)
	}
	if string(r.Key) != customer || e.CustomerUUID != customer || e.UserName != "Jack" || e.Action != "Add" {
		t.Errorf("key %s, event %s", r.Key, r.Value)
	}
}

func checkCall(t *testing.T, r *kgo.Record) (c audit.APICall) {
	t.Helper()
	if err := audit.DecodeAPICall(r.Value, &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(r.Timestamp, audit.DefaultMaxAge); err != nil {
		t.Error(err)
	}
	if string(r.Key) != c.CallID || c.CustomerUUID != customer || c.UserName != "Jack" || c.API != "api/v1/jobs" || c.ModuleCode != "PM" {
		t.Errorf("key %s, call %s", r.Key, r.Value)
	}
	return c
}
