package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/store"
)

const (
	// engineRestart is the pause before a dead engine is started again; with
	// its own start it is back well within 5 s.
	engineRestart = 200 * time.Millisecond
	// engineStop bounds how long an engine that was asked to end may take.
	engineStop = 15 * time.Second
	// enginePoll is how often a starting engine is asked whether it is ready.
	enginePoll = 50 * time.Millisecond
)

// engineProcess keeps the embedded engine running as a child process: the
// engine may die without taking the rest along, and the rest never leaves it
// behind.
type engineProcess struct {
	args     []string
	password string
	log      *zap.Logger
	stop     context.CancelFunc
	done     chan struct{}
	last     error // why it ended; to be read once done is closed
}

// startEngine starts the engine and returns once it answers.
func startEngine(ctx context.Context, cfg devCmd, at store.Config, log *zap.Logger) (*engineProcess, error) {
	// Another server at the address would answer in the engine's place.
	for flag, addr := range map[string]string{"--clickhouse-addr": cfg.ClickHouseAddr, "--clickhouse-http-addr": cfg.ClickHouseHTTPAddr} {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("%w (choose another address with %s)", err, flag)
		}
		_ = ln.Close() // only to see that it is free
	}
	// The engine outlives ctx: services drain into it. close ends it.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &engineProcess{
		args:     []string{"engine", "--exit-with-parent", "--data-dir", cfg.DataDir, "--clickhouse-addr", cfg.ClickHouseAddr, "--clickhouse-http-addr", cfg.ClickHouseHTTPAddr},
		password: cfg.ClickHousePassword, log: log, stop: stop, done: make(chan struct{}),
	}
	ready := make(chan struct{})
	go func() {
		defer close(p.done)
		p.last = p.keep(running, ready)
	}()
	for {
		conn, err := store.Open(ctx, at)
		if err == nil {
			_ = conn.Close() // nothing is buffered in it
			close(ready)
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("the embedded engine did not start: %w", p.last)
		case <-ctx.Done():
			p.close()
			return nil, ctx.Err()
		case <-time.After(enginePoll):
		}
	}
}

// keep runs the engine until ctx ends. One that ends before it was ever ready
// is not started again: the reason would be the same.
func (p *engineProcess) keep(ctx context.Context, ready <-chan struct{}) error {
	for {
		err := p.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-ready:
		default:
			return err
		}
		p.log.Warn("the engine ended and is started again", zap.Error(err))
		select {
		case <-time.After(engineRestart):
		case <-ctx.Done():
			return nil
		}
	}
}

// once runs the engine until it ends or ctx does.
func (p *engineProcess) once(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, p.args...) //nolint:gosec // our own binary and flags
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "AUDITRAIL_CLICKHOUSE_PASSWORD="+p.password) // a flag would show in the process list
	// The engine ends when this pipe closes: also when we are killed.
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer func() { _ = alive.Close() }() // the child is gone by then
	// A process group of its own: Ctrl-C is ours to pass on, after the drain.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = engineStop
	if err := cmd.Run(); err != nil {
		return err
	}
	return errors.New("the engine ended by itself")
}

// close ends the engine and waits for it.
func (p *engineProcess) close() {
	p.stop()
	<-p.done
}
