// Package loadgen sends made-up audit events through the SDK, as product
// modules do: steadily at a rate, or as fast as the brokers take them.
package loadgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// Deps of the load generator.
type Deps struct {
	Log *zap.Logger
	Out io.Writer // gets the progress; nil discards it
}

const (
	// closeTimeout bounds the delivery of what waits when the run was stopped.
	closeTimeout = 10 * time.Second
	// refusedTimeout is the same after a refusal: what waits is likely to be
	// refused too.
	refusedTimeout = time.Second
)

// Run sends events until their number is reached or ctx ends, waits for their
// delivery and prints a summary. It returns nil when ctx ended and everything
// sent was delivered, and an error as soon as the brokers refuse an event for
// good. While brokers are away it waits.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if deps.Out == nil {
		deps.Out = io.Discard
	}
	gen, err := workload.New(cfg.workload(time.Now()))
	if err != nil {
		return err
	}
	probe, err := kafka.Open(ctx, cfg.Kafka, deps.Log)
	if err != nil {
		return err
	}
	probe.Close()

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	emitter, err := emit.New(emit.Config{
		Brokers:      cfg.Kafka.Addr,
		Logger:       deps.Log,
		KafkaOptions: append(cfg.Kafka.Options(deps.Log), kgo.ClientID("auditrail-loadgen")),
		OnError:      func(_ audit.Event, err error) { stop(refusedError{err}) },
	})
	if err != nil {
		return err
	}
	reporter := newReporter(deps.Out, emitter.Stats)
	var lines sync.WaitGroup
	reporting, endReporting := context.WithCancel(ctx)
	lines.Go(func() { reporter.run(reporting) })

	s := sender{gen: gen, sink: emitter, cfg: cfg}
	sent := s.run(ctx)
	if sent == nil {
		// An error means that ctx ended; Close then waits for the rest.
		_ = emitter.Flush(ctx)
	}
	endReporting()
	lines.Wait()

	var refused refusedError
	timeout := closeTimeout
	if errors.As(context.Cause(ctx), &refused) {
		timeout = refusedTimeout
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	closed := emitter.Close(closing)
	reporter.summary()
	if errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return errors.Join(sent, closed)
}

// refusedError is why an event that was sent will never be delivered.
type refusedError struct{ err error }

func (e refusedError) Error() string { return fmt.Sprintf("an event was refused: %v", e.err) }
func (e refusedError) Unwrap() error { return e.err }

// sender draws events and hands them to the sink.
type sender struct {
	gen  *workload.Generator
	sink emit.Sink
	cfg  Config
	made int64
}

// burst is how many events are sent between two looks at the clock and ctx.
const burst = 1000

// run sends until the count is reached or ctx ends, which is no error.
func (s *sender) run(ctx context.Context) error {
	p := newPacer(s.cfg.Rate, time.Now())
	for ctx.Err() == nil && !s.done() {
		n := min(p.due(time.Now(), s.made), burst)
		if s.cfg.Count > 0 {
			n = min(n, s.cfg.Count-s.made)
		}
		for range n {
			if err := s.send(ctx); err != nil {
				return err
			}
		}
		if !s.done() {
			pause(ctx, p.wait(time.Now(), s.made))
		}
	}
	return nil
}

func (s *sender) done() bool { return s.cfg.Count > 0 && s.made >= s.cfg.Count }

// fullPause is how long a full buffer is left alone: well below the time in
// which a broker empties it.
const fullPause = time.Millisecond

// send sends one event. While the buffer is full it waits; when ctx ends
// meanwhile, the event is dropped.
func (s *sender) send(ctx context.Context) error {
	var e audit.Event
	s.gen.Next(&e)
	s.made++
	if s.cfg.Module != "" {
		e.ModuleCode = s.cfg.Module
	}
	if s.cfg.End == 0 {
		e.ID = "" // the SDK gives it a new one: these events are new in every run
		if s.cfg.Days == 0 {
			e.CreatedDate = time.Now().UnixMilli()
		}
	}
	for {
		err := s.sink.Emit(e)
		if !errors.Is(err, emit.ErrBufferFull) {
			if err != nil {
				return fmt.Errorf("event %d: %w", s.made, err)
			}
			return nil
		}
		if pause(ctx, fullPause); ctx.Err() != nil {
			return nil
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
