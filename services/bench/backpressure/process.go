package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// process is a child that can be started again.
type process struct {
	dir   string
	args  []string
	ready func(context.Context) error // an attempt to reach it
	cmd   *exec.Cmd
	ended chan struct{}
}

// start starts the child and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(p.dir, p.args[0]+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(path(p.dir), p.args...) //nolint:gosec,noctx // our own binary; ended by stop
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
		_ = log.Close()
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.ended:
			return fmt.Errorf("%s ended: see its log", p.args[0])
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.args[0], err)
		}
	}
}

// stop ends the child as a supervisor does.
func (p *process) stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already, then
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// memory is the child's resident memory now, and the highest so far, in MiB.
func (p *process) memory() (now, highest float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("the memory of %s is read from /proc, which only Linux has: %w", p.args[0], err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] != "VmRSS:" && f[0] != "VmHWM:" {
			continue
		}
		kib, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return 0, 0, err
		}
		if f[0] == "VmRSS:" {
			now = kib / 1024
		} else {
			highest = kib / 1024
		}
	}
	return now, highest, nil
}

// services are the processes of a run.
type services struct {
	dir, kafka, native     string
	broker, engine, ingest *process
}

// start builds the binary and starts everything on free ports.
func start(ctx context.Context, dir string, flags []string) (*services, error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", path(dir), "github.com/auditrail/auditrail/services/auditrail") //nolint:gosec // our own
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	var addrs [4]string
	for i := range addrs {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addrs[i] = ln.Addr().String()
		if err := ln.Close(); err != nil {
			return nil, err
		}
	}
	s := &services{dir: dir, kafka: addrs[0], native: addrs[1]}
	data, at := "--data-dir="+filepath.Join(dir, "data"), []string{"--kafka-addr=" + s.kafka, "--clickhouse-addr=" + s.native}
	s.broker = &process{dir: dir, args: []string{"broker", at[0], data}, ready: reach(s.kafka)}
	s.engine = &process{dir: dir, args: []string{"engine", "--clickhouse-addr=" + s.native, "--clickhouse-http-addr=" + addrs[2], data}, ready: reach(s.native)}
	s.ingest = &process{dir: dir, args: append(append([]string{"ingest", "--http-addr=" + addrs[3]}, at...), flags...), ready: ready(addrs[3])}
	for _, step := range []func(context.Context) error{
		s.broker.start,
		s.engine.start,
		func(ctx context.Context) error { return s.once(ctx, append([]string{"migrate"}, at...)...) },
		s.ingest.start,
	} {
		if err := step(ctx); err != nil {
			s.end()
			return nil, err
		}
	}
	return s, nil
}

// end stops what runs, in the order of the drain.
func (s *services) end() {
	for _, p := range []*process{s.ingest, s.engine, s.broker} {
		p.stop()
	}
}

// load sends events and returns once all are acknowledged.
func (s *services) load(ctx context.Context, args ...string) error {
	return s.once(ctx, append([]string{"loadgen", "--kafka-addr=" + s.kafka}, args...)...)
}

func (s *services) once(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, path(s.dir), args...).CombinedOutput(); err != nil { //nolint:gosec // our own binary
		return fmt.Errorf("auditrail %s: %w\n%s", args[0], err, out)
	}
	return nil
}

func reach(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func ready(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // nothing is read
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
}
