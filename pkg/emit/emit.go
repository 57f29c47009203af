// Package emit sends audit events, and the states of API calls, from a product
// module to Auditrail.
//
// Emit takes well under a microsecond, never blocks and never loses what it
// accepted without saying so: events wait in bounded memory while the brokers
// are away, are stored once however often they are sent, and what can not be
// delivered is handed to Config.OnError and counted. The same holds for what
// EmitCall takes, which waits in the same memory.
//
//	emitter, err := emit.New(emit.Config{Brokers: []string{"kafka:9092"}})
//	...
//	defer emitter.Close(ctx)
//	err = emitter.Emit(audit.Event{ModuleCode: "PM", ...})
//
// Modules should accept a Sink, so that their tests can use emittest.Recorder.
package emit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Sink takes events. Emitter and emittest.Recorder are sinks.
type Sink interface {
	// Emit takes one event and keeps nothing of it after it returns. It never
	// blocks and is safe for concurrent use. An event without an id gets one.
	// It fails with audit.Problems when the event is invalid, with
	// ErrBufferFull when too much waits, and with ErrClosed after Close. Nil
	// means that the event will be delivered or reported as failed.
	Emit(e audit.Event) error
}

// Errors of Emit.
var (
	ErrBufferFull = errors.New("emit buffer is full")
	ErrClosed     = errors.New("emitter is closed")
	ErrNoID       = errors.New("an event that is sent again needs the id it was first sent with")
)

var errHalfFull = fmt.Errorf("%w by half, and signs of life of API calls get no more of it: are the brokers reachable?", ErrBufferFull)

// UndeliveredError is what Flush and Close return when events are left.
type UndeliveredError struct {
	Events int64 // how many were not delivered, API calls counted
	Err    error // why there was no more time
}

func (e *UndeliveredError) Error() string {
	return fmt.Sprintf("%d audit events and API calls not delivered: %v", e.Events, e.Err)
}

func (e *UndeliveredError) Unwrap() error { return e.Err }

// Emitter sends events to Kafka: one record an event, on the topic of its
// module, keyed by customer, so that the events of one customer and module
// stay in order. API calls go to audit.APICallsTopic, keyed by call, so that
// the states of one call stay in order. Safe for concurrent use. Close it.
type Emitter struct {
	cfg    Config
	client *kgo.Client

	eventsFull, bytesFull error // ErrBufferFull with the limit that was met

	topics      topicNames
	idleParcels sync.Pool // of *parcel

	// mu is held for reading while an event enters the client, so that none
	// enters once Close has set closed.
	mu     sync.RWMutex
	closed bool
	idle   chan struct{} // gets a value when the last event leaves the buffer

	closeOnce sync.Once
	closeErr  error

	count counters
}

var _ Sink = (*Emitter)(nil)

// New makes an emitter. It fails on a bad config only: the brokers need not be
// there yet.
func New(cfg Config) (*Emitter, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	em := &Emitter{
		cfg:    cfg,
		client: client,
		idle:   make(chan struct{}, 1),
		eventsFull: fmt.Errorf("%w: %d events and API calls wait for the brokers (Config.MaxBufferedEvents): are they reachable?",
			ErrBufferFull, cfg.MaxBufferedEvents),
		bytesFull: fmt.Errorf("%w: %d bytes of events and API calls wait for the brokers (Config.MaxBufferedBytes): are they reachable?",
			ErrBufferFull, cfg.MaxBufferedBytes),
	}
	em.idleParcels.New = func() any { return newParcel(em) }
	return em, nil
}

// Emit implements Sink.
func (em *Emitter) Emit(e audit.Event) error { return em.emit(&e, nil, nil) }

// Deliver is Emit for what may only go on once it is recorded: it returns nil
// once the brokers have the event on all replicas. It fails as Emit does, with
// the reason when the event was given up, and with ctx's error when that ends
// first: the event then goes on waiting for its delivery.
func (em *Emitter) Deliver(ctx context.Context, e audit.Event) error {
	result := make(chan error, 1)
	if err := em.emit(&e, nil, result); err != nil { //nolint:contextcheck // an event outlives its caller's context
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("deliver audit event, which may still arrive: %w", ctx.Err())
	}
}

// resent is the header of a record that is sent again.
var resent = []kgo.RecordHeader{{Key: audit.HeaderResent}}

// Resend is Emit for an event that may have arrived already, as one that
// OnError was told of: it is compared with everything that is stored, however
// old, and stored if it is not there. It must be the same event, with the id
// and the createdDate of the first time; ErrNoID when it has no id.
func (em *Emitter) Resend(e audit.Event) error {
	if e.ID == "" {
		return ErrNoID
	}
	return em.emit(&e, resent, nil)
}

// EmitCall takes one record of an API call, as Emit takes an event: it never
// blocks, keeps nothing of c after it returns, is safe for concurrent use and
// fails as Emit does. Events and calls fill one buffer and count together in
// Stats. Signs of life, which are worth nothing once they are late, get
// ErrBufferFull when half of it is full: an outage leaves the rest to what must
// not be lost.
func (em *Emitter) EmitCall(c audit.APICall) error { return em.emitCall(&c, nil) }

// ResendCall is EmitCall for a record that may have arrived already, as one
// that OnCallError was told of: its change of state is compared with everything
// that is stored, however old, and stored if it is not there.
func (em *Emitter) ResendCall(c audit.APICall) error { return em.emitCall(&c, resent) }

func (em *Emitter) emitCall(c *audit.APICall, headers []kgo.RecordHeader) error {
	if c.Heartbeat && em.halfFull() {
		em.count.bufferFull.Add(1)
		return errHalfFull
	}
	p := em.idleParcels.Get().(*parcel)
	return em.send(p, p.packCall(c, time.Now(), headers))
}

// emit sends e; result, when not nil, takes the delivery's error without
// blocking.
func (em *Emitter) emit(e *audit.Event, headers []kgo.RecordHeader, result chan<- error) error {
	p := em.idleParcels.Get().(*parcel)
	p.result = result
	return em.send(p, p.pack(e, time.Now(), headers))
}

// send gives the parcel to the client unless packing it failed.
func (em *Emitter) send(p *parcel, packing error) error {
	if packing != nil {
		em.count.invalid.Add(1)
		em.reuse(p)
		return packing
	}
	em.mu.RLock()
	err := em.admit(p)
	if err == nil {
		em.client.TryProduce(context.Background(), &p.record, p.promise)
	}
	em.mu.RUnlock()
	if err != nil {
		em.reuse(p)
	}
	return err
}

// admit takes the parcel's place in the buffer. mu is held for reading.
func (em *Emitter) admit(p *parcel) error {
	if em.closed {
		return ErrClosed
	}
	p.size = p.memory()
	if em.count.bufferedEvents.Add(1) > int64(em.cfg.MaxBufferedEvents) {
		em.count.bufferedEvents.Add(-1)
		em.count.bufferFull.Add(1)
		return em.eventsFull
	}
	if em.count.bufferedBytes.Add(p.size) > int64(em.cfg.MaxBufferedBytes) {
		em.count.bufferedBytes.Add(-p.size)
		em.count.bufferedEvents.Add(-1)
		em.count.bufferFull.Add(1)
		return em.bytesFull
	}
	em.count.emitted.Add(1)
	return nil
}

func (em *Emitter) halfFull() bool {
	return em.count.bufferedEvents.Load() >= int64(em.cfg.MaxBufferedEvents)/2 ||
		em.count.bufferedBytes.Load() >= int64(em.cfg.MaxBufferedBytes)/2
}

// reuse keeps a parcel that nobody holds any more for a later event.
func (em *Emitter) reuse(p *parcel) {
	p.clear()
	em.idleParcels.Put(p)
}

// leave gives the place in the buffer back.
func (em *Emitter) leave(size int64) {
	em.count.bufferedBytes.Add(-size)
	if em.count.bufferedEvents.Add(-1) == 0 {
		em.wake()
	}
}

// wake lets Close look again.
func (em *Emitter) wake() {
	select {
	case em.idle <- struct{}{}:
	default:
	}
}

// finished is told the fate of one parcel, by the client's one goroutine that
// delivers results.
func (em *Emitter) finished(p *parcel, err error) {
	if err == nil {
		em.count.delivered.Add(1)
		p.tell(nil)
		em.leave(p.size)
		em.reuse(p)
		return
	}
	// The place is free before OnError runs, which may emit the event again;
	// Close waits for both.
	em.count.reporting.Add(1)
	em.count.failed.Add(1)
	em.leave(p.size)
	err = explain(p.record.Topic, err)
	p.tell(err)
	em.report(p, err)
	em.count.reporting.Add(-1)
	em.wake()
}

// report hands an undelivered record to OnError or OnCallError.
func (em *Emitter) report(p *parcel, err error) {
	// The parcel is not used again, so what is decoded may point into its bytes.
	topic, value := zap.String("topic", p.record.Topic), p.record.Value
	var unreadable error
	if p.record.Topic == audit.APICallsTopic {
		em.cfg.Logger.Error("API call not delivered", topic, zap.Error(err))
		if em.cfg.OnCallError == nil {
			return
		}
		var c audit.APICall
		if unreadable = audit.DecodeAPICall(value, &c); unreadable == nil {
			em.cfg.OnCallError(c, err)
		}
	} else {
		em.cfg.Logger.Error("audit event not delivered", topic, zap.Error(err))
		if em.cfg.OnError == nil {
			return
		}
		var e audit.Event
		if unreadable = audit.Decode(value, &e); unreadable == nil {
			em.cfg.OnError(e, err)
		}
	}
	if unreadable != nil {
		em.cfg.Logger.Error("undelivered record not readable", topic, zap.Error(unreadable))
	}
}

// Flush waits until every event emitted so far is delivered or given up. When
// ctx ends first it returns an *UndeliveredError with how many still wait;
// they go on waiting.
func (em *Emitter) Flush(ctx context.Context) error {
	if err := em.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush emitter: %w", &UndeliveredError{Events: em.count.bufferedEvents.Load(), Err: err})
	}
	return nil
}

// Close refuses new events, delivers those that wait and closes the
// connections. When ctx ends first, the rest is given up: OnError gets each such
// event, OnCallError each such API call, and the error is an *UndeliveredError
// with their number. An event that was sent but not acknowledged is among them,
// and may be stored. A second Close waits for the first and returns the same.
func (em *Emitter) Close(ctx context.Context) error {
	em.closeOnce.Do(func() { em.closeErr = em.close(ctx) })
	return em.closeErr
}

func (em *Emitter) close(ctx context.Context) error {
	em.mu.Lock()
	em.closed = true
	em.mu.Unlock()

	cause := em.client.Flush(ctx)
	failed := em.count.failed.Load()
	em.client.Close()
	// The client hands out the last results on a goroutine of its own.
	for em.count.bufferedEvents.Load() > 0 || em.count.reporting.Load() > 0 {
		<-em.idle
	}
	if n := em.count.failed.Load() - failed; n > 0 {
		return fmt.Errorf("close emitter: %w", &UndeliveredError{Events: n, Err: cause})
	}
	return nil
}
