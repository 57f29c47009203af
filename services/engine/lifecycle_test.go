package engine_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
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

// TestEngineEndsWithItsParent closes what the parent's death would close.
func TestEngineEndsWithItsParent(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	e.Orphan()
	waitFor(t, 10*time.Second, "nobody listens", func() bool {
		c, err := net.Dial("tcp", e.Addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

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
