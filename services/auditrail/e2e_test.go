package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// binary builds auditrail, once for all tests, and returns its path.
var binary = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "auditrail-e2e-")
	if err != nil {
		panic(err)
	}
	testenv.AtEnd(func() { _ = os.RemoveAll(dir) }) // a temporary folder
	path := filepath.Join(dir, "auditrail")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build: %v\n%s", err, out))
	}
	return path
})

// deadline bounds every wait; only a failure meets it.
const deadline = 2 * time.Minute

// devProcess is a running auditrail dev.
type devProcess struct {
	t                    *testing.T
	http, kafka, native  string
	clickhouseHTTP, data string
	external             []string // flags that replace an embedded part
	env                  []string // added to the process's environment
	cmd                  *exec.Cmd
	ended                chan struct{}
	err                  error // of the process; to be read once ended is closed
	mu                   sync.Mutex
	output               bytes.Buffer // guarded by mu
}

// Write collects the process's output.
func (d *devProcess) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.Write(p)
}

func (d *devProcess) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// newDev makes a dev with data in a temporary folder.
func newDev(t *testing.T) *devProcess {
	t.Helper()
	d := &devProcess{t: t, data: filepath.Join(t.TempDir(), "data")}
	d.choosePorts()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("output of auditrail dev:\n%s", d.log())
		}
	})
	return d
}

// choosePorts picks ports that are free now.
func (d *devProcess) choosePorts() {
	d.t.Helper()
	for _, addr := range []*string{&d.http, &d.kafka, &d.native, &d.clickhouseHTTP} {
		var err error
		if *addr, err = testenv.FreeAddr(); err != nil {
			d.t.Fatal(err)
		}
	}
	if testenv.OnApacheKafka() {
		if d.external == nil {
			d.external = []string{"--no-embedded-broker", "--kafka-addr", testenv.Kafka(d.t).Addr[0]}
		}
		d.kafka = d.external[2]
	}
}

func (d *devProcess) command(args ...string) *exec.Cmd {
	return exec.Command(binary(), append([]string{"dev", "--http-addr", d.http, "--kafka-addr", d.kafka, "--clickhouse-addr", d.native,
		"--clickhouse-http-addr", d.clickhouseHTTP, "--data-dir", d.data}, append(d.external, args...)...)...)
}

// start runs it and waits until it is ready. Ports that somebody else took in
// the meantime are chosen anew.
func (d *devProcess) start(args ...string) {
	d.t.Helper()
	for range 5 {
		from := len(d.log())
		d.run(args...)
		if d.ready() {
			return
		}
		if said := d.log()[from:]; !strings.Contains(said, "address already in use") {
			d.t.Fatalf("auditrail dev did not start: %v", d.err)
		}
		d.choosePorts()
	}
	d.t.Fatal("no free ports for auditrail dev")
}

func (d *devProcess) run(args ...string) {
	d.t.Helper()
	d.cmd, d.ended = d.command(append(args, "--exit-with-parent")...), make(chan struct{})
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Env = d, d, append(os.Environ(), d.env...)
	// It ends when this pipe does: also when this test is killed.
	alive, err := d.cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		d.err = d.cmd.Wait()
		_ = alive.Close() // the process is gone
	}()
}

// ready waits until it is ready, and returns false when it ended instead.
func (d *devProcess) ready() bool {
	d.t.Helper()
	end := time.Now().Add(deadline)
	for {
		said := "no answer"
		if resp, err := http.Get("http://" + d.http + "/readyz"); err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if said = string(body); resp.StatusCode == http.StatusOK {
				return true
			}
		}
		if time.Now().After(end) {
			d.t.Fatalf("auditrail dev does not become ready: %s", said)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-d.ended:
			return false
		}
	}
}

// stop sends what Ctrl-C sends and waits for the end.
func (d *devProcess) stop() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(os.Interrupt) // gone already, then
	select {
	case <-d.ended:
		if d.err != nil {
			d.t.Errorf("auditrail dev ended with %v", d.err)
		}
	case <-time.After(deadline):
		_ = d.cmd.Process.Kill()
		<-d.ended
		d.t.Error("auditrail dev does not end")
	}
	d.cmd = nil
}

func (d *devProcess) until(what string, done func() (bool, string)) {
	d.t.Helper()
	testenv.Until(d.t, deadline, d.ended, what, done)
}

// auditrail runs another subcommand and returns its standard output.
func auditrail(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(binary(), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (d *devProcess) token(args ...string) string {
	d.t.Helper()
	out, errs, code := auditrail(d.t, "", append([]string{"token", "--data-dir", d.data}, args...)...)
	if code != 0 {
		d.t.Fatalf("auditrail token: %s", errs)
	}
	return strings.TrimSpace(out)
}

// answer of the search endpoint, as far as these tests look at it.
type answer struct {
	status       int
	body         string
	AuditRecords []map[string]any `json:"auditRecords"`
	TotalCount   int              `json:"totalCount"`
}

func (d *devProcess) search(token, body string) answer {
	d.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+d.http+"/audit-log/admin/search", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, body: string(raw)}
	if err := json.Unmarshal(raw, &a); err != nil {
		d.t.Fatalf("%v in %s", err, raw)
	}
	return a
}

// total waits until a search finds want events.
func (d *devProcess) total(token string, want int) {
	d.t.Helper()
	d.until(fmt.Sprintf("%d events", want), func() (bool, string) {
		a := d.search(token, `{"startDate":0}`)
		return a.status == http.StatusOK && a.TotalCount == want, fmt.Sprintf("%d: %.200s", a.status, a.body)
	})
}

// produce writes a record as any Kafka client would.
func (d *devProcess) produce(topic, value string) {
	d.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.kafka))
	if err != nil {
		d.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		d.t.Fatal(err)
	}
}

const sampleCustomer = "1c9a83aa-20p8-e972-8036-899e5e608855"

// sample is the search sample's record with a date of its own.
func sample(created int64) string {
	return `{"id":"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9","auditEnabledAppId":21,"applicationName":"pm","moduleCode":"PM","moduleName":"Patch Management",` +
		`"userName":"Jack","userRole":"Manager","userUuid":"` + sampleCustomer + `","customerUuid":"` + sampleCustomer + `","client":"Chrome-Browser",` +
		`"sourceIp":"191.160.45.90","createdDate":` + strconv.FormatInt(created, 10) + `,"targetType":"User","targetName":"John","action":"Add","status":"Success",` +
		`"auditComment":"Created new User","externalChangeLink":"http://masifgw.p04.eng.in03.qualys.com:50164/key"}`
}

func TestAnEventGoesInAndComesBack(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	record := sample(time.Now().UnixMilli())
	d.produce("audit.events.pm.v1", record)
	token := d.token("--customer", sampleCustomer)
	d.total(token, 1)
	a := d.search(token, `{"pageNumber":"0","pageSize":"100","customerUuid":"`+sampleCustomer+`"}`)
	if want := `{"auditRecords":[` + record + `],"totalCount":1,"pageNumber":0,"pageSize":100,`; !strings.HasPrefix(a.body, want) {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}

	// Ctrl-C drains; the next start goes on with the same data.
	d.stop()
	d.start("--demo-rate", "0")
	d.total(token, 1)
	d.produce("audit.events.pm.v1", strings.Replace(record, "eaa0a5b2", "eaa0a5b3", 1))
	d.total(token, 2)
}

func TestAKilledDevStartsAgainAtOnce(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	token := d.token("--customer", sampleCustomer)
	const n = 500
	for i := range n {
		d.produce("audit.events.pm.v1", strings.Replace(sample(time.Now().UnixMilli()), "eaa0a5b2", fmt.Sprintf("%08x", i), 1))
		if i == n/2 {
			_ = d.cmd.Process.Kill()
			<-d.ended
			d.start("--demo-rate", "0")
		}
	}
	d.total(token, n)
}

func TestADeadEngineComesBackAndNothingIsLost(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	token := d.token("--customer", sampleCustomer)
	for i := range 200 {
		if i == 50 || i == 120 {
			d.killEngine()
		}
		d.produce("audit.events.pm.v1", strings.Replace(sample(time.Now().UnixMilli()), "eaa0a5b2", fmt.Sprintf("%08x", i), 1))
	}
	d.total(token, 200)
	d.ready()
}

// killEngine ends the engine child as a crash would.
func (d *devProcess) killEngine() {
	d.t.Helper()
	d.until("the engine's process", func() (bool, string) {
		out, err := exec.Command("pgrep", "-P", strconv.Itoa(d.cmd.Process.Pid)).Output()
		if err != nil {
			return false, err.Error()
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			return false, string(out)
		}
		return syscall.Kill(pid, syscall.SIGKILL) == nil, "no such process"
	})
}

func TestWhoSeesWhat(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	for i, who := range []struct{ customer, user, unit string }{
		{"c1", "u1", "Europe"}, {"c1", "u1", ""}, {"c1", "u2", "Europe"}, {"c1", "u3", "Americas"}, {"c1", "u3", ""}, {"c2", "u1", "Europe"},
	} {
		d.produce("audit.events.pm.v1", fmt.Sprintf(`{"id":"eaa0a5b2-1e46-4f43-9dfe-0000000000%02d","customerUuid":%q,"userUuid":%q,"businessUnit":%q,"moduleCode":"PM","action":"Add","createdDate":%d}`,
			i, who.customer, who.user, who.unit, time.Now().UnixMilli()))
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{5, []string{"--role", "Manager"}},
		{5, []string{"--role", "Auditor"}},
		{5, []string{"--role", "Reader", "--view-all"}},
		{4, []string{"--role", "Unit Manager", "--business-unit", "Europe", "--user", "u3"}},
		{2, []string{"--role", "Unit Manager", "--user", "u1"}},
		{2, []string{"--role", "Scanner", "--user", "u1"}},
		{1, []string{"--role", "Reader", "--user", "u2"}},
		{0, []string{"--role", "Contact", "--user", "u9"}},
	} {
		d.total(d.token(append([]string{"--customer", "c1"}, c.args...)...), c.want)
	}
	d.total(d.token("--customer", "c2"), 1)
	d.total(d.token("--customer", "c3"), 0)

	expired := d.token("--customer", "c1", "--ttl", "1s")
	d.until("the token to expire", func() (bool, string) {
		a := d.search(expired, `{}`)
		return a.status == http.StatusUnauthorized, a.body
	})
	foreign := newDev(t)
	if err := os.MkdirAll(foreign.data, 0o700); err != nil {
		t.Fatal(err)
	}
	manager := d.token("--customer", "c1")
	for what, c := range map[string]struct {
		token, body string
		status      int
	}{
		"no token":            {"", `{}`, http.StatusUnauthorized},
		"expired":             {expired, `{}`, http.StatusUnauthorized},
		"alg none":            {strings.Join([]string{"eyJhbGciOiJub25lIn0", strings.Split(manager, ".")[1], ""}, "."), `{}`, http.StatusUnauthorized},
		"signature cut":       {manager[:len(manager)-10], `{}`, http.StatusUnauthorized},
		"other customer":      {manager, `{"customerUuid":"c2"}`, http.StatusForbidden},
		"other user":          {manager, `{"userUuid":"u1"}`, http.StatusForbidden},
		"page out of range":   {manager, `{"pageNumber":101}`, http.StatusBadRequest},
		"no such field":       {manager, `{"qql":"acton:Add"}`, http.StatusBadRequest},
		"SQL in a parameter":  {manager, `{"startDate":"0 OR 1=1"}`, http.StatusBadRequest},
		"another dev's token": {foreign.token("--customer", "c1"), `{}`, http.StatusUnauthorized},
	} {
		a := d.search(c.token, c.body)
		if a.status != c.status || len(a.AuditRecords) > 0 || strings.Contains(a.body, "totalCount") {
			t.Errorf("%s: got %d %s, want %d and no data", what, a.status, a.body, c.status)
		}
	}
}

func TestEmitReportsEveryLine(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	lines := sample(time.Now().UnixMilli()) + "\n\n" +
		"not JSON\n" +
		`{"customerUuid":"c1","moduleCode":"PM","createdDate":1}` + "\n" +
		strings.Replace(sample(time.Now().UnixMilli()), "eaa0a5b2", "eaa0a5b3", 1) // no newline at the end
	// A stop ends it, whatever its input does.
	quiet := exec.Command(binary(), "emit", "--kafka-addr", d.kafka)
	open, err := quiet.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	says, err := quiet.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := quiet.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(open, "not JSON"); err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(says).ReadString('\n') // it reads by now
	if err != nil || !strings.HasPrefix(first, "line 1: ") {
		t.Errorf("got %q, %v", first, err)
	}
	if err := quiet.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := quiet.Wait(); err == nil {
		t.Error("emit was stopped in the middle and says that all is well")
	}

	_, stderr, code := auditrail(t, lines, "emit", "--kafka-addr", d.kafka)
	if code != 1 {
		t.Errorf("got exit code %d with refused lines, want 1", code)
	}
	for _, want := range []string{"line 3: ", "line 4: ", "action", "4 lines read, 2 delivered, 2 refused, 0 failed"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in what emit says:\n%s", want, stderr)
		}
	}
	manager := d.token("--customer", sampleCustomer)
	d.total(manager, 2)

	// The same file once more, and an event that it did not have.
	again := lines + "\n" + strings.Replace(sample(time.Now().UnixMilli()), "eaa0a5b2", "eaa0a5b4", 1)
	if _, stderr, _ = auditrail(t, again, "emit", "--kafka-addr", d.kafka, "--resend"); !strings.Contains(stderr, "3 delivered") {
		t.Errorf("emit --resend says %s", stderr)
	}
	d.until("two events to be left out", func() (bool, string) {
		resp, err := http.Get("http://" + d.http + "/metrics")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(body), `auditrail_ingest_duplicates_total{topic="audit.events.pm.v1"} 2`), "no such counter"
	})
	d.total(manager, 3)

	if _, stderr, code = auditrail(t, "", "loadgen", "--kafka-addr", d.kafka, "--count", "500", "--tenants", "1", "--days", "1"); code != 0 {
		t.Fatalf("loadgen ended with %d: %s", code, stderr)
	}
	d.until("the events of loadgen", func() (bool, string) {
		resp, err := http.Get("http://" + d.clickhouseHTTP + "/?query=SELECT+count()+FROM+audit_events")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(string(body)) == "503", string(body)
	})
}

func TestTheDemoHasSomethingForEverybody(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "20")
	d.until("the welcome", func() (bool, string) { return strings.Contains(d.log(), "Sofia Rossi"), d.log() })
	people := 0
	lines := bufio.NewScanner(strings.NewReader(d.log()))
	for lines.Scan() {
		about, command, ok := strings.Cut(lines.Text(), " token --data-dir ")
		if !ok || !strings.Contains(about, " of ") {
			continue
		}
		people++
		out, err := exec.Command("sh", "-c", binary()+" token --data-dir "+command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", command, err, out)
		}
		token := strings.TrimSpace(string(out))
		d.until("events of "+about, func() (bool, string) {
			a := d.search(token, `{}`)
			return a.TotalCount > 0, a.body
		})
	}
	if people != len(demoIdentities) {
		t.Errorf("the welcome names %d people, want %d", people, len(demoIdentities))
	}
	// History reaches back about 90 days.
	old := time.Now().AddDate(0, 0, -80).UnixMilli()
	d.until("the past", func() (bool, string) {
		a := d.search(d.token(), fmt.Sprintf(`{"endDate":%d}`, old))
		return a.TotalCount > 0, a.body
	})
	t.Run("docs", d.checkDocs)
	t.Run("docs of reports", d.checkWalk)
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	busy, err := net.Listen("tcp", d.http)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	out, err := d.command("--demo-rate", "0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--http-addr") {
		t.Errorf("with its port taken dev says (%v): %s", err, out)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--demo-rate", []string{"dev", "--demo-rate", "-1"}},
		{"loopback", []string{"broker", "--kafka-addr", "0.0.0.0:0", "--data-dir", t.TempDir()}},
		{"this machine", []string{"engine", "--clickhouse-addr", "0.0.0.0:0", "--data-dir", t.TempDir()}},
		{"Unit Manager", []string{"token", "--role", "Wizard", "--data-dir", t.TempDir()}},
		{"start auditrail dev", []string{"token", "--data-dir", filepath.Join(t.TempDir(), "typo")}},
		{"--kafka-addr", []string{"emit", "--kafka-addr", "127.0.0.1:1"}},
		{"--kafka-addr", []string{"settings", "show", "--kafka-addr", "127.0.0.1:1", "--customer", "c1"}},
		{"--customer", []string{"limits", "set", "--kafka-addr", "127.0.0.1:1", "--customer", "", "{}"}},
		{"1 to 64 bytes", []string{"settings", "show", "--kafka-addr", "127.0.0.1:1", "--customer", strings.Repeat("c", 65)}},
		{"--batch-rows", []string{"dev", "--batch-rows", "0", "--data-dir", t.TempDir()}},
		{"--oidc-issuer or --jwks-file", []string{"query", "--http-addr", "127.0.0.1:0"}},
		{"--trusted-proxies", []string{"query", "--trusted-proxies", "10.0.0.0/8,lb.internal"}},
		{"name the proxies", []string{"dev", "--trusted-proxies", "0.0.0.0/0", "--data-dir", t.TempDir()}},
		{"--batch-rows", []string{"ingest", "--batch-rows", "0", "--http-addr", "127.0.0.1:0"}},
	} {
		_, stderr, code := auditrail(t, "", c.args...)
		if code == 0 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: got exit code %d and %q, want %q named", c.args, code, stderr, c.want)
		}
	}
}

func TestASubscriptionChoosesHowLongItsEventsAreKept(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0", "--retention-delay", "0s")
	for i, days := range []int{0, 2, 20, 90, 91} {
		at := time.Now().AddDate(0, 0, -days).UnixMilli()
		for _, customer := range []string{demoCustomer, liteCustomer} {
			d.produce("audit.events.pm.v1", fmt.Sprintf(`{"customerUuid":%q,"userUuid":"u%d","moduleCode":"PM","action":"Add","createdDate":%d}`, customer, i, at))
		}
	}
	chooses, other := d.token("--customer", demoCustomer), d.token("--customer", liteCustomer)
	d.total(chooses, 5)
	d.total(other, 5)

	settings := func(wantCode int, want string, args ...string) {
		t.Helper()
		args = append(args, "--kafka-addr", d.kafka, "--customer", demoCustomer)
		stdout, stderr, code := auditrail(t, "", append([]string{"settings"}, args...)...)
		if code != wantCode || !strings.Contains(stdout+stderr, want) {
			t.Errorf("settings %v: got %d, %s%s; want %d and %s", args, code, stdout, stderr, wantCode, want)
		}
	}
	settings(0, "{}", "show")
	settings(1, "between 1 and 3650", "set", "--retention-days", "3651")
	settings(1, "between 1 and 3650", "set", "--retention-days", "0")
	settings(1, "30, 90 or 180", "set", "--default-timeframe-days", "31")
	settings(1, "at least one", "set")
	settings(1, "at least one", "unset")
	settings(1, "--delete-older", "set", "--retention-days", "10")
	settings(0, "{}", "show")
	settings(0, "ingest's --retention-days -> 10 days", "set", "--retention-days", "10", "--delete-older")
	settings(0, `"retentionDays":10}`, "show")
	// Two events are left, and the two that the change is: its request and its outcome.
	d.total(chooses, 4)
	d.total(other, 5)

	d.produce("audit.events.pm.v1", fmt.Sprintf(`{"customerUuid":%q,"userUuid":"u9","moduleCode":"PM","action":"Add","createdDate":%d}`, demoCustomer, time.Now().UnixMilli()))
	d.total(chooses, 5)

	settings(1, "--delete-older", "unset", "--retention-days")
	settings(0, "{", "unset", "--retention-days", "--delete-older")
	settings(0, "as before", "unset", "--retention-days", "--audit-searches")
	settings(0, `"autoUpdateActivityLog":false`, "set", "--auto-update-activity-log", "off", "--default-timeframe-days", "90", "--restrict-user-information", "on")
	d.total(chooses, 9)
	if said := d.search(chooses, `{"pageSize":2}`).body; !strings.Contains(said, `"userName":"operator: `) || !strings.Contains(said, "defaultTimeframeDays: default -\\u003e 90") && !strings.Contains(said, "defaultTimeframeDays: default -> 90") {
		t.Errorf("the newest events are not those of the last change: %s", said)
	}
	settings(0, `"auditSearches":true`, "set", "--audit-searches", "on") // from here on every search is an event
	stdout, stderr, code := auditrail(t, "", "settings", "list", "--kafka-addr", d.kafka)
	for _, want := range []string{
		fmt.Sprintf(`{"customerUuid":%q,"settings":{`, demoCustomer), `"auditSearches":true`, `"autoUpdateActivityLog":false`,
		`"autoUpdateSwitches":[`, `"defaultTimeframeDays":90`, `"restrictUserInformation":true`, `"retentionAt":`,
	} {
		if code != 0 || !strings.Contains(stdout, want) || strings.Contains(stdout, "retentionDays") {
			t.Errorf("settings list: got %d, %s%s, want %s", code, stdout, stderr, want)
		}
	}
}
