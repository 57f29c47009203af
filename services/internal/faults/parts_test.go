package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"github.com/auditrail/auditrail/services/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// auditrail builds auditrail, once for all tests, and returns its path.
var auditrail = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "auditrail-faults-")
	if err != nil {
		return "", err
	}
	testenv.AtEnd(func() { _ = os.RemoveAll(dir) }) // a temporary folder
	path := filepath.Join(dir, "auditrail")
	if out, err := exec.Command("go", "build", "-o", path, "../../auditrail").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// part is a process of the campaign.
type part interface {
	// kill ends it as kill -9 does.
	kill()
	// start starts it again after kill, and returns once it serves.
	start() error
	pause()
	resume()
}

const (
	// startLimit bounds the start of a part on a busy machine.
	startLimit = time.Minute
	lookEvery  = 20 * time.Millisecond
)

// embeddedBroker is auditrail broker behind a proxy. Each start takes another
// port: the one before may have been taken by somebody else.
type embeddedBroker struct {
	binary, data string
	proxy        *proxy
	cmd          testenv.Command
}

func (b *embeddedBroker) kill()   { b.cmd.Kill() }
func (b *embeddedBroker) pause()  { b.cmd.Pause() }
func (b *embeddedBroker) resume() { b.cmd.Resume() }

func (b *embeddedBroker) start() error {
	for end := time.Now().Add(startLimit); ; {
		addr, err := testenv.FreeAddr()
		if err != nil {
			return err
		}
		b.proxy.aim(addr)
		if err := b.cmd.Start(b.binary, "broker", "--kafka-addr", addr, "--kafka-advertised-addr", b.proxy.addr(),
			"--data-dir", b.data, "--broker-retention", "876000h"); err != nil {
			return err
		}
		if accepts(addr, b.cmd.Ended(), end) {
			return nil
		}
		if time.Now().After(end) {
			b.cmd.Kill()
			return errors.New("the broker does not start")
		}
	}
}

// accepts waits until somebody accepts connections on addr.
func accepts(addr string, ended <-chan struct{}, end time.Time) bool {
	for time.Now().Before(end) {
		if c, err := net.DialTimeout("tcp", addr, dialTimeout); err == nil {
			_ = c.Close() // it was only to see
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(lookEvery):
		}
	}
	return false
}

// apacheBroker is Apache Kafka behind a proxy.
type apacheBroker struct{ cluster *testenv.Cluster }

func (b apacheBroker) kill()        { b.cluster.Kill(0) }
func (b apacheBroker) start() error { return b.cluster.Start(0) }
func (b apacheBroker) pause()       { b.cluster.Pause(0) }
func (b apacheBroker) resume()      { b.cluster.Resume(0) }

// engine is the embedded engine.
type engine struct{ *testenv.Engine }

func (e engine) kill()        { e.Kill() }
func (e engine) start() error { e.Start(); return nil }
func (e engine) pause()       { _ = syscall.Kill(e.Pid(), syscall.SIGSTOP) }
func (e engine) resume()      { _ = syscall.Kill(e.Pid(), syscall.SIGCONT) }

// replica is auditrail ingest, which is started again whenever it ends, unless
// it is held.
type replica struct {
	name   string
	args   []string // all but the address of its endpoints
	binary string
	ended  func(*replica) // told when it ended by itself

	cmd  testenv.Command
	done chan struct{} // closed when run has returned

	mu     sync.Mutex
	http   string        // of the process started last; guarded by mu
	held   bool          // guarded by mu
	starts int           // guarded by mu
	goOn   chan struct{} // closed while not held; guarded by mu
}

// restartPause is what a supervisor waits before it starts a process again.
const restartPause = 200 * time.Millisecond

func newReplica(name, binary, log string, args []string, ended func(*replica)) *replica {
	r := &replica{name: name, args: args, binary: binary, ended: ended, done: make(chan struct{}), goOn: make(chan struct{})}
	r.cmd.Log = log
	close(r.goOn)
	return r
}

// run keeps the process running until ctx ends, and kills it then.
func (r *replica) run(ctx context.Context) {
	defer close(r.done)
	defer r.cmd.Kill()
	for {
		r.mu.Lock()
		goOn := r.goOn
		r.mu.Unlock()
		select {
		case <-goOn:
		case <-ctx.Done():
			return
		}
		if err := r.begin(); err != nil {
			r.ended(r)
		}
		select {
		case <-r.cmd.Ended():
			if !r.isHeld() {
				r.ended(r)
			}
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *replica) begin() error {
	addr, err := testenv.FreeAddr()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held {
		return nil
	}
	r.http = addr
	r.starts++
	return r.cmd.Start(r.binary, append(r.args, "--http-addr", addr)...)
}

func (r *replica) isHeld() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// hold keeps it from being started again until release.
func (r *replica) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held, r.goOn = true, make(chan struct{})
}

func (r *replica) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	close(r.goOn)
}

// times is how often it was started.
func (r *replica) times() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts
}

// get asks one of its endpoints.
func (r *replica) get(path string) (status int, body string) {
	r.mu.Lock()
	addr := r.http
	r.mu.Unlock()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// count sums a metric over its labels.
func (r *replica) count(metric string) (sum float64, err error) {
	status, body := r.get("/metrics")
	if status != http.StatusOK {
		return 0, fmt.Errorf("/metrics of %s: %d %s", r.name, status, body)
	}
	for line := range strings.Lines(body) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(name, "{"); !ok || base != metric {
			continue
		}
		if _, labels, ok := strings.Cut(line, "} "); ok {
			value = strings.TrimSpace(labels)
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("%s of %s: %w", metric, r.name, err)
		}
		sum += n
	}
	return sum, nil
}

// words are the last lines of its log.
func words(t testing.TB, log string, lines int) string {
	b, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it never ran, then
		t.Log(err)
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
