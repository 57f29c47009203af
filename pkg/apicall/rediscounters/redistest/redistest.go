// Package redistest runs a Redis server for tests: the real one, Debian's
// package redis-server or any other of version 6.2 or newer.
package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to answer.
const patience = 30 * time.Second

// Server is a Redis of one test, on a port of its own, with nothing on disk. It
// does not outlive the test, however that ends.
type Server struct {
	// Addr is host:port, the same after a restart.
	Addr string

	path string
	args []string

	mu      sync.Mutex
	cmd     *exec.Cmd // guarded by mu; nil: it does not run
	release func()    // ends the guard of cmd; guarded by mu
}

// Start runs a server until the test ends. args are further arguments of
// redis-server. Without a redis-server it skips the test, in CI it fails it.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		const need = "redis-server is needed: install Redis 6.2 or newer (Debian's package redis-server)"
		if os.Getenv("CI") != "" {
			t.Fatal(need)
		}
		t.Skip(need)
	}
	s := &Server{path: path}
	t.Cleanup(s.Kill)
	for range 20 {
		// Below the ports that the system gives away: whoever else asks for one
		// does not get it meanwhile.
		port := strconv.Itoa(20_000 + rand.IntN(10_000)) //nolint:gosec // any port will do
		s.Addr = net.JoinHostPort("127.0.0.1", port)
		s.args = append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", t.TempDir(), "--save", "", "--appendonly", "no", "--daemonize", "no"}, args...)
		if err = s.run(filepath.Join(t.TempDir(), "log")); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// URL is what a client is given.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Restart runs a server that was killed once more. It has forgotten everything.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.run(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server at once. One that does not run it leaves alone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it ends at this moment, then
	_ = s.cmd.Wait()
	s.release()
	s.cmd = nil
}

// Pause stops the server where it is, connections and all; Resume lets it go on.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig) // it ends at this moment, then
	}
}

// run starts the process and waits until it answers.
func (s *Server) run(log string) error {
	out, err := os.Create(log) //nolint:gosec // in the test's own folder
	if err != nil {
		return err
	}
	defer out.Close()                      //nolint:errcheck // the child has its own
	cmd := exec.Command(s.path, s.args...) //nolint:gosec,noctx // ended by Kill and by the guard
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	release, err := guard(cmd.Process.Pid)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	s.mu.Lock()
	s.cmd, s.release = cmd, release
	s.mu.Unlock()
	for end := time.Now().Add(patience); ; {
		if err = answers(s.Addr, cmd.Process.Pid); err == nil {
			return nil
		}
		words, _ := os.ReadFile(log) //nolint:gosec // in the test's own folder
		if time.Now().After(end) || strings.Contains(string(words), "Address already in use") || strings.Contains(string(words), "FATAL") {
			s.Kill()
			return fmt.Errorf("redis-server on %s: %w: %s", s.Addr, err, words)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// guard kills pid when this process dies.
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

// answers returns nil when the server on addr is the process pid.
func answers(addr string, pid int) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second) //nolint:noctx // bounded
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only read from
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("INFO server\r\n")); err != nil {
		return err
	}
	want := "process_id:" + strconv.Itoa(pid)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch line := lines.Text(); {
		case line == want, strings.HasPrefix(line, "-NOAUTH"): // with a password it does not tell
			return nil
		case strings.HasPrefix(line, "-"), strings.HasPrefix(line, "process_id:"):
			return errors.New(line)
		}
	}
	return errors.New("it hung up")
}
