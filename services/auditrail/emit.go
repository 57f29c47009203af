package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/kafka"
)

type emitCmd struct {
	Kafka  kafka.Config `embed:""`
	Resend bool         `help:"The events may have been sent before: each is compared with what is stored, and stored if it is not there. All need ids. For a file whose first run was cut short."`
}

const (
	// progressEvery is how often long work says how far it is.
	progressEvery = 2 * time.Second
	// fullPause is the wait when the SDK's buffer is full.
	fullPause = 5 * time.Millisecond
	// namedRefusals is how many refused lines are named; more are counted.
	namedRefusals = 20
	// emitDrain bounds the wait for the last acknowledgements, stopDrain the
	// same after a signal.
	emitDrain = time.Minute
	stopDrain = 5 * time.Second
)

// Run publishes the events on standard input, one JSON object a line.
func (c *emitCmd) Run(ctx context.Context, log *zap.Logger) error {
	return emitLines(ctx, c.Kafka, c.Resend, os.Stdin, os.Stderr, log)
}

// lineCount counts what became of the lines. Lines that are blank count nowhere.
type lineCount struct{ read, refused atomic.Int64 }

func (n *lineCount) lines() string {
	read := n.read.Load()
	return fmt.Sprintf("%d %s", read, english.PluralWord(int(read), "line", ""))
}

// emitLines publishes every line of in, reports on out, and returns an error
// when a line was refused or an event was not acknowledged by Kafka.
func emitLines(ctx context.Context, cfg kafka.Config, again bool, in io.Reader, out io.Writer, log *zap.Logger) error {
	// The SDK would wait for a broker for ever; a person at a shell wants to know.
	probe, err := kafka.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	probe.Close()
	e, err := emit.New(emit.Config{
		Brokers: cfg.Addr, ClientID: "auditrail-emit", Logger: log,
		OnError: func(e audit.Event, err error) { fmt.Fprintf(out, "event %s was not delivered: %v\n", e.ID, err) },
	})
	if err != nil {
		return err
	}
	send := e.Emit
	if again {
		send = e.Resend
	}
	began := time.Now()
	var n lineCount
	stop := reportEvery(progressEvery, func() {
		s := e.Stats()
		fmt.Fprintf(out, "%s read, %d delivered, %d refused, %.0f/s\n", n.lines(), s.Delivered, n.refused.Load(), float64(s.Delivered)/time.Since(began).Seconds())
	})
	// A read of a terminal or a quiet pipe cannot be interrupted, so it has a
	// goroutine of its own, which a stop leaves behind.
	read := make(chan error, 1)
	go func() {
		read <- readLines(ctx, in, func(at int64, line []byte) error { return emitLine(ctx, send, at, line, &n, out) })
	}()
	var readErr error
	select {
	case readErr = <-read:
	case <-ctx.Done():
		readErr = ctx.Err()
	}
	if errors.Is(readErr, context.Canceled) {
		readErr = errors.New("stopped before the end of the input")
	}
	stop()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), emitDrain)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopDrain, cancel) })()
	closeErr := e.Close(drain)
	s, took := e.Stats(), time.Since(began)
	fmt.Fprintf(out, "%s read, %d delivered, %d refused, %d failed in %s (%.0f/s)\n",
		n.lines(), s.Delivered, n.refused.Load(), s.Failed, took.Round(time.Millisecond), float64(s.Delivered)/took.Seconds())
	switch {
	case readErr != nil:
		return readErr
	case closeErr != nil:
		return closeErr
	case n.refused.Load() > 0 || s.Failed > 0:
		refused := int(n.refused.Load())
		return fmt.Errorf("%d %s refused and %d failed", refused, english.PluralWord(refused, "event was", "events were"), s.Failed)
	}
	return nil
}

// emitLine publishes one line and names it when it is refused.
func emitLine(ctx context.Context, send func(audit.Event) error, at int64, line []byte, n *lineCount, out io.Writer) error {
	n.read.Add(1)
	var ev audit.Event
	err := audit.Decode(line, &ev)
	if err == nil {
		err = emitPatiently(ctx, send, ev)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	if refused := n.refused.Add(1); refused <= namedRefusals {
		fmt.Fprintf(out, "line %d: %v\n", at, err)
	} else if refused == namedRefusals+1 {
		fmt.Fprintln(out, "more lines were refused; they are only counted from here on")
	}
	return nil
}

// emitPatiently sends an event, waiting while the SDK's buffer is full.
func emitPatiently[T any](ctx context.Context, send func(T) error, ev T) error {
	for {
		err := send(ev)
		if !errors.Is(err, emit.ErrBufferFull) {
			return err
		}
		select {
		case <-time.After(fullPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readLines calls do for every line that is not blank, with its number in the
// input. Of a line longer than a record may be, enough is passed on for do to
// refuse it.
func readLines(ctx context.Context, in io.Reader, do func(at int64, line []byte) error) error {
	r := bufio.NewReaderSize(in, 1<<20)
	var long []byte
	for at := int64(1); ctx.Err() == nil; at++ {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			// Only the beginning of an endless line is kept: it is refused anyway.
			if len(long) <= audit.MaxRecordBytes {
				long = append(long, line...)
			}
			at-- // the same line goes on
			continue
		}
		if len(long) > 0 {
			line, long = append(long, line...), nil
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := do(at, line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	return ctx.Err()
}

// reportEvery calls report until the returned function is called, which waits
// for the last call to end.
func reportEvery(every time.Duration, report func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				report()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
