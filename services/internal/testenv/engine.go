package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/internal/store"
)

// Engine is an embedded ClickHouse engine in a child process, and a database in it.
type Engine struct {
	// Addr and HTTPAddr are host:port; they stay the same over restarts.
	Addr, HTTPAddr string
	// Database is the test's own and empty at first.
	Database string
	// User and Password are those of the engine's one user.
	User, Password string

	t    testing.TB
	proc *process
}

// Config is what services take to reach the test's database.
func (e *Engine) Config() store.Config {
	return store.Config{Addr: []string{e.Addr}, Database: e.Database, User: e.User, Password: e.Password}
}

var shared struct {
	once sync.Once
	proc *process
	err  error
}

var databases atomic.Uint64

// ClickHouse returns a database of the engine that all tests of this process
// share, made for this call and dropped after the test: tests may run in
// parallel. The engine is started by the first call. Its log is shown when the
// test fails. It fails the test when there is no engine to be had.
func ClickHouse(t testing.TB) *Engine {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "auditrail-engine-") //nolint:usetesting // it outlives the test
		if err != nil {
			shared.err = err
			return
		}
		p := newProcess(dir)
		if shared.err = p.start(); shared.err == nil {
			shared.proc = p
		}
		AtEnd(p.end)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	e := shared.proc.engine(t)
	e.Database = fmt.Sprintf("test_%d", databases.Add(1))
	if err := e.exec("CREATE DATABASE " + e.Database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.exec("DROP DATABASE IF EXISTS " + e.Database); err != nil {
			t.Errorf("drop %s: %v", e.Database, err)
		}
	})
	return e
}

// NewEngine starts an engine of the test's own, with data of its own, in the
// database default. edit changes its configuration before the start. It is
// stopped after the test.
func NewEngine(t testing.TB, edit ...func(*engine.Config)) *Engine {
	t.Helper()
	// Not t.TempDir: the child removes it when this process is killed.
	dir, err := os.MkdirTemp("", "auditrail-engine-") //nolint:usetesting // as said
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(dir)
	for _, f := range edit {
		f(&p.cfg)
	}
	if err := p.start(); err != nil {
		p.end()
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	e := p.engine(t)
	e.Database = "default"
	return e
}

// Kill ends the engine at once, as kill -9 does, and waits until it is gone.
func (e *Engine) Kill() {
	e.t.Helper()
	if err := e.proc.signal(syscall.SIGKILL); err != nil {
		e.t.Fatal(err)
	}
}

// Stop ends the engine as a supervisor does, waits until it is gone, and returns
// its exit code; -1 when it had to be killed.
func (e *Engine) Stop() int {
	e.t.Helper()
	if err := e.proc.signal(syscall.SIGTERM); err != nil {
		e.t.Fatal(err)
	}
	return e.proc.cmd.ProcessState.ExitCode()
}

// Start starts the engine again after Kill or Stop, on the same addresses and data.
func (e *Engine) Start() {
	e.t.Helper()
	if err := e.proc.start(); err != nil {
		e.t.Fatal(err)
	}
}

// Pid is the process id of the running engine.
func (e *Engine) Pid() int { return e.proc.cmd.Process.Pid }

// DataDir is the engine's --data-dir.
func (e *Engine) DataDir() string { return e.proc.cfg.DataDir }

func (e *Engine) exec(query string) error {
	ctx := context.Background()
	cfg := e.Config()
	cfg.Database = "default"
	conn, err := store.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing to lose
	return conn.Exec(ctx, query)
}

// process is an engine child. Only one goroutine uses it at a time, but for
// engine.
type process struct {
	cfg  engine.Config
	temp string // a folder of ours, to be removed
	log  string // path of the child's log, in temp

	cmd   *exec.Cmd
	stdin io.Closer     // the child ends when it is closed, by us or by our death
	read  chan struct{} // closed when standard output has ended
}

// Limits of a child, after which it is killed: longer than a start on a slow
// machine takes, and than the engine waits for running inserts and killed queries.
const (
	startLimit = time.Minute
	stopLimit  = 20 * time.Second
)

func newProcess(dir string) *process {
	return &process{
		cfg: engine.Config{
			Addr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: dir, User: "default", ExitWithParent: true,
			Cache: os.Getenv("AUDITRAIL_ENGINE_CACHE"), Library: os.Getenv("AUDITRAIL_CHDB_LIBRARY"),
		},
		temp: dir, log: filepath.Join(dir, "engine.log"),
	}
}

// engine makes a test's handle, and has the log shown should the test fail.
func (p *process) engine(t testing.TB) *Engine {
	var from int64
	if info, err := os.Stat(p.log); err == nil {
		from = info.Size()
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if log, err := os.ReadFile(p.log); err == nil && int64(len(log)) > from {
			t.Logf("engine log:\n%s", log[from:])
		}
	})
	return &Engine{
		Addr: p.cfg.Addr, HTTPAddr: p.cfg.HTTPAddr, User: p.cfg.User, Password: p.cfg.Password, t: t, proc: p,
	}
}

// start starts the child and waits until it serves.
func (p *process) start() error {
	// Here, and not in the child, so that a first download shows.
	lib, err := engine.Fetch(context.Background(), p.cfg)
	if err != nil {
		return err
	}
	cfg := p.cfg
	cfg.Library = lib
	spec, err := json.Marshal(childSpec{Config: cfg, Temp: p.temp})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(self) //nolint:gosec,noctx // this binary; ended by signal and by standard input
	p.cmd.Env = append(os.Environ(), engineEnv+"="+string(spec))
	p.cmd.Stderr = log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return errors.Join(err, log.Close())
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return errors.Join(err, log.Close())
	}
	if err := p.cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	p.read = make(chan struct{})
	started := make(chan childReady, 1)
	go func() {
		defer close(p.read)
		defer close(started)
		defer log.Close() //nolint:errcheck // for people
		in := json.NewDecoder(out)
		var ready childReady
		if in.Decode(&ready) == nil {
			started <- ready
		}
		// Whatever else is printed: a full pipe would stop the child.
		_, _ = io.Copy(log, io.MultiReader(in.Buffered(), out))
	}()
	select {
	case ready, ok := <-started:
		if ok {
			p.cfg.Addr, p.cfg.HTTPAddr = ready.Addr, ready.HTTPAddr
			return nil
		}
	case <-time.After(startLimit):
		err = fmt.Errorf("not within %v", startLimit)
	}
	_ = p.signal(syscall.SIGKILL)
	words, _ := os.ReadFile(p.log)
	return errors.Join(fmt.Errorf("the engine did not start: %s", strings.TrimSpace(string(words))), err)
}

// signal sends sig and waits for the end, which it brings about after stopLimit.
// Nothing happens when the child is not running.
func (p *process) signal(sig os.Signal) error {
	if p.cmd == nil || p.cmd.Process == nil || p.cmd.ProcessState != nil {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(stopLimit, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.read         // Wait closes the pipe
	_ = p.cmd.Wait() // a signal is an error
	return nil
}

// end stops the child and removes its data.
func (p *process) end() {
	_ = p.signal(syscall.SIGTERM) // gone already, then
	_ = os.RemoveAll(p.temp)
}
