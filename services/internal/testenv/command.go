package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// Command is a program that a test runs as a process of its own, and kills,
// pauses and starts again. It does not outlive the test, however that ends.
// Safe for concurrent use.
type Command struct {
	// Log is the path that its words are appended to.
	Log string

	mu    sync.Mutex
	cmd   *exec.Cmd     // guarded by mu; nil: never started
	ended chan struct{} // closed when cmd has ended; guarded by mu
}

// Start runs the program. The one started before must have ended.
func (c *Command) Start(name string, args ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                  //nolint:errcheck // the child has its own
	cmd := exec.Command(name, args...) //nolint:gosec,noctx // the test's own program; ended by Kill and by the guard
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	release, err := guard(cmd.Process.Pid)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	ended := make(chan struct{})
	c.cmd, c.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // killed is how most end
		release()
		close(ended)
	}()
	return nil
}

// guard kills pid when this process dies. A process that sleeps, or hears no
// signal but that one, ends as well.
func guard(pid int) (release func(), err error) {
	g := exec.Command("sh", "-c", `cat >/dev/null; kill -9 "$1"`, "sh", strconv.Itoa(pid)) //nolint:gosec,noctx // ended by release
	alive, err := g.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := g.Start(); err != nil {
		return nil, fmt.Errorf("guard of process %d: %w", pid, err)
	}
	return func() {
		_ = g.Process.Kill() // before its standard input ends, so that it kills nobody
		_ = alive.Close()
		_ = g.Wait()
	}, nil
}

// Ended is closed when the program started last has ended.
func (c *Command) Ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return c.ended
}

// Signal sends sig. A program that has ended gets none.
func (c *Command) Signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return
	}
	select {
	case <-c.ended:
	default:
		_ = c.cmd.Process.Signal(sig) // it ends at this moment, then
	}
}

// Kill ends the program at once, as kill -9 does, and waits until it is gone.
func (c *Command) Kill() {
	c.Signal(syscall.SIGKILL)
	<-c.Ended()
}

// Pause stops the program where it is; Resume lets it go on.
func (c *Command) Pause() { c.Signal(syscall.SIGSTOP) }

// Resume lets a paused program go on.
func (c *Command) Resume() { c.Signal(syscall.SIGCONT) }
