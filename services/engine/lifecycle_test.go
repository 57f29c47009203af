package engine_test

import (
	"bufio"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestRunRefuses: each mistake has a sentence that says what to do.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*engine.Config)
		want string
	}{
		"all addresses":   {func(c *engine.Config) { c.Addr = "0.0.0.0:9000" }, "run a ClickHouse server"},
		"http on the net": {func(c *engine.Config) { c.HTTPAddr = "10.0.0.1:8123" }, "run a ClickHouse server"},
		"no port":         {func(c *engine.Config) { c.Addr = "127.0.0.1" }, "--clickhouse-addr 127.0.0.1: "},
		"port taken":      {func(c *engine.Config) { c.Addr = e.Addr }, "stop what uses the port, or set another one"},
		"folder taken":    {func(c *engine.Config) { c.DataDir = e.DataDir() }, "another process ("},
		"folder a file":   {func(c *engine.Config) { c.DataDir = file }, "--data-dir: "},
		"no library":      {func(c *engine.Config) { c.Library = "/no/such/library.so" }, "engine library: "},
		"not a library":   {func(c *engine.Config) { c.Library = file }, "load "},
	} {
		cfg := engine.Config{Addr: "127.0.0.1:0", HTTPAddr: "", DataDir: t.TempDir()}
		c.edit(&cfg)
		err := engine.Run(t.Context(), cfg, engine.Deps{Log: zap.NewNop()})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// parentEnv, when set, makes TestEngineEndsWithItsParent the parent.
const parentEnv = "AUDITRAIL_TEST_PARENT"

// TestEngineEndsWithItsParent kills the process that started an engine.
func TestEngineEndsWithItsParent(t *testing.T) {
	t.Parallel()
	if os.Getenv(parentEnv) != "" {
		e := testenv.NewEngine(t)
		fmt.Printf("\nengine %d %s\n", e.Pid(), e.DataDir())
		<-t.Context().Done() // killed before
		return
	}
	parent := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEngineEndsWithItsParent$")
	parent.Env = append(os.Environ(), parentEnv+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "engine %d %s", &pid, &dir)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	if pid == 0 {
		t.Fatal("the parent started no engine")
	}
	waitFor(t, 30*time.Second, "the engine is gone", func() bool { return !alive(pid) })
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// alive says whether a process runs. One that has ended and was not waited for
// does not: in a container its new parent may never do that.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return !strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) == nil
}

// TestStuckQueryIsToldOf: the engine looks for a kill between blocks. A query
// that takes long over one block must not hold up the process's end, and the end
// is not a clean one.
func TestStuckQueryIsToldOf(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	conn := connect(t, e.Config().Options())
	ended := make(chan error, 1)
	go func() { ended <- conn.Exec(background(), stuck) }()
	// Only a query that is within its block is stuck; one that is about to enter
	// it heeds the kill.
	waitFor(t, time.Minute, "the query to be in its block", func() bool {
		return number(t, conn, "SELECT count() FROM system.processes WHERE query LIKE '%stuck_query%' AND query NOT LIKE '%system.processes%' AND read_rows > 0 AND elapsed > 2") == 1
	})
	if code := e.Stop(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if err := <-ended; err == nil {
		t.Error("the query ended")
	}
	log, err := os.ReadFile(filepath.Join(e.DataDir(), "engine.log"))
	if err != nil || !strings.Contains(string(log), "engine: a killed query goes on") {
		t.Errorf("%v: the log does not say why", err)
	}
	e.Start() // the folder is free
}

// stuck takes minutes over one block.
const stuck = "SELECT /* stuck_query */ sum(editDistance(repeat(toString(number % 10), 60000), repeat('b', 60000))) FROM numbers(100) SETTINGS max_threads = 1"

// TestRestartSweepsResults: what a crash left of the HTTP interface's files goes.
func TestRestartSweepsResults(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	left := filepath.Join(e.DataDir(), "clickhouse", "auditrail.tmp", "7.out")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Kill()
	e.Start()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", left, err)
	}
}
