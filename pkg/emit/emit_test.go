package emit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

func TestRecordOnTheWire(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	before := time.Now()
	for _, module := range []string{"UM", "PM", "UM"} {
		e := workload()
		e.ModuleCode = module
		mustEmit(t, em, e)
	}
	mustFlush(t, em)
	records := stored(t, cluster)
	var topics []string
	for _, r := range records {
		topics = append(topics, r.Topic)
		if want := workload().CustomerUUID; string(r.Key) != want {
			t.Errorf("key is %q, want %q", r.Key, want)
		}
		if len(r.Headers) != 0 {
			t.Errorf("headers are %v, want none", r.Headers)
		}
		if r.ProducerID < 0 {
			t.Error("the record is not from an idempotent producer")
		}
		if r.Timestamp.Before(before.Add(-time.Second)) || r.Timestamp.After(time.Now()) {
			t.Errorf("timestamp is %v", r.Timestamp)
		}
		if codec := r.Attrs.CompressionType(); codec != 3 {
			t.Errorf("compression is %d, want 3, LZ4", codec)
		}
	}
	slices.Sort(topics)
	if diff := cmp.Diff([]string{"audit.events.pm.v1", "audit.events.um.v1", "audit.events.um.v1"}, topics); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
	if got, want := em.Stats(), (emit.Stats{Emitted: 3, Delivered: 3}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

func TestResendMarksTheRecord(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	e := workload()
	if err := em.Resend(e); !errors.Is(err, emit.ErrNoID) {
		t.Errorf("without an id: got %v, want ErrNoID", err)
	}
	e.ID = "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"
	if err := em.Resend(e); err != nil {
		t.Fatal(err)
	}
	mustEmit(t, em, e) // whose parcel may be the one before
	mustFlush(t, em)
	var marked []bool
	for _, r := range stored(t, cluster) {
		marked = append(marked, len(r.Headers) == 1 && r.Headers[0].Key == audit.HeaderResent)
	}
	if diff := cmp.Diff([]bool{true, false}, marked); diff != "" {
		t.Errorf("marked (-want +got):\n%s", diff)
	}
}

// The events of one customer and module stay in the order of Emit.
func TestOrder(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	emitNumbered(t, em, "n", 500)
	mustFlush(t, em)
	last := map[string]int{}
	for _, r := range stored(t, cluster) {
		var n int
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(e.AuditComment, "n %d", &n); err != nil {
			t.Fatal(err)
		}
		if prev, ok := last[e.CustomerUUID]; ok && n <= prev {
			t.Errorf("%s: %d comes after %d", e.CustomerUUID, n, prev)
		}
		last[e.CustomerUUID] = n
	}
}

func TestBrokerAwayThenBack(t *testing.T) {
	addr, port := freeAddress(t)
	em := newEmitter(t, emit.Config{Brokers: []string{addr}})
	opts := []kfake.Opt{kfake.Ports(port), kfake.DataDir(t.TempDir())}

	comments := emitNumbered(t, em, "before the broker", 100)
	if got := em.Stats(); got.BufferedEvents != 100 || got.BufferedBytes < 100*500 {
		t.Errorf("stats are %+v, want 100 events waiting", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var left *emit.UndeliveredError
	if err := em.Flush(ctx); !errors.As(err, &left) || left.Events != 100 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush: got %v, want 100 events left", err)
	}

	cluster := newCluster(t, opts...)
	mustFlush(t, em)
	cluster.Close()
	comments = append(comments, emitNumbered(t, em, "while it is away", 100)...)
	cluster = newCluster(t, opts...)
	mustFlush(t, em)
	storedOnce(t, cluster, comments)
	if got, want := em.Stats(), (emit.Stats{Emitted: 200, Delivered: 200}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

// Each way in which a produce can fail and be sent again: lost, and landed but
// reported lost. Every event is stored once all the same.
func TestStoredOnce(t *testing.T) {
	produce := []kmsg.Key{kmsg.Produce}
	t.Run("refused", func(t *testing.T) {
		cluster := newCluster(t)
		fault := cluster.Fault(kfake.Fault{Keys: produce, Err: kerr.NotLeaderForPartition, Count: 3})
		checkStoredOnce(t, cluster, fault.Hits)
	})
	t.Run("landed, answered as timed out", func(t *testing.T) {
		cluster := newCluster(t)
		fault := cluster.Fault(kfake.Fault{Keys: produce, Err: kerr.RequestTimedOut, Count: 3})
		checkStoredOnce(t, cluster, fault.Hits)
	})
	t.Run("landed, too few replicas", func(t *testing.T) {
		cluster := newCluster(t)
		fault := cluster.Fault(kfake.Fault{Keys: produce, Err: kerr.NotEnoughReplicasAfterAppend, Count: 3})
		checkStoredOnce(t, cluster, fault.Hits)
	})
	t.Run("connection cut before", func(t *testing.T) {
		cluster := newCluster(t)
		cuts := 0
		cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if cuts++; cuts == 3 {
				cluster.DropControl()
			}
			return nil, errors.New("cut"), true
		})
		checkStoredOnce(t, cluster, func() int { return cuts })
	})
	t.Run("connection cut after", func(t *testing.T) {
		var cut cutting
		cluster := newCluster(t, kfake.ListenFn(cut.listen))
		cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cut.armed.Store(true)
			if cut.cuts.Load() < 2 {
				cluster.KeepControl()
			} else {
				cluster.DropControl()
			}
			return nil, nil, false
		})
		checkStoredOnce(t, cluster, func() int { return int(cut.cuts.Load()) })
	})
	t.Run("hung up on before the first answer", func(t *testing.T) {
		var cut cutting
		cluster := newCluster(t, kfake.ListenFn(cut.listen))
		// Once the topics are known and a producer id is asked for.
		cluster.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.DropControl()
			cut.always.Store(true)
			return nil, nil, false
		})
		em := newEmitter(t, emit.Config{
			Brokers: cluster.ListenAddrs(),
			OnError: func(_ audit.Event, err error) { t.Errorf("given up: %v", err) },
		})
		comments := emitNumbered(t, em, "hung up", 30)
		for cut.cuts.Load() < 20 && em.Stats().Failed == 0 {
			runtime.Gosched()
		}
		cut.always.Store(false)
		mustFlush(t, em)
		storedOnce(t, cluster, comments)
	})
	t.Run("broker restarts after", func(t *testing.T) {
		var cut cutting
		_, port := freeAddress(t)
		opts := []kfake.Opt{kfake.Ports(port), kfake.DataDir(t.TempDir())}
		cluster := newCluster(t, append(opts, kfake.ListenFn(cut.listen))...)
		em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
		comments := emitNumbered(t, em, "first", 20)
		mustFlush(t, em)
		landed := make(chan struct{})
		cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.DropControl()
			cut.armed.Store(true)
			close(landed)
			return nil, nil, false
		})
		comments = append(comments, emitNumbered(t, em, "second", 20)...)
		<-landed
		cluster.Close()
		cluster = newCluster(t, opts...)
		comments = append(comments, emitNumbered(t, em, "third", 20)...)
		mustFlush(t, em)
		storedOnce(t, cluster, comments)
	})
}

func checkStoredOnce(t *testing.T, cluster *kfake.Cluster, hits func() int) {
	t.Helper()
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	var comments []string
	for round := range 3 {
		comments = append(comments, emitNumbered(t, em, fmt.Sprint("round ", round), 30)...)
		mustFlush(t, em)
	}
	if hits() < 3 {
		t.Errorf("the fault struck %d times, want 3 or more", hits())
	}
	storedOnce(t, cluster, comments)
	if got, want := em.Stats(), (emit.Stats{Emitted: 90, Delivered: 90}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

func TestBufferFullDoesNotBlock(t *testing.T) {
	addr, port := freeAddress(t)
	for name, cfg := range map[string]emit.Config{
		"MaxBufferedEvents (25)":   {MaxBufferedEvents: 25},
		"MaxBufferedBytes (50000)": {MaxBufferedBytes: 50_000},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Brokers = []string{addr}
			em := newEmitter(t, cfg)
			var taken, full int64
			var err error
			start := time.Now()
			for range 20_000 {
				if err = em.Emit(workload()); err == nil {
					taken++
					continue
				}
				if !errors.Is(err, emit.ErrBufferFull) {
					t.Fatal(err)
				}
				full++
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("20000 calls took %v: they waited", took)
			}
			if limit, _, _ := strings.Cut(name, " "); !strings.Contains(err.Error(), limit) {
				t.Errorf("%q does not name %s", err, limit)
			}
			if taken < 20 || taken > 50 {
				t.Errorf("%d events fit", taken)
			}
			got := em.Stats()
			if got.Emitted != taken || got.BufferFull != full || got.BufferedEvents != taken {
				t.Errorf("stats are %+v, want %d taken, %d refused", got, taken, full)
			}

			// Once the brokers are there, everything taken goes out and there
			// is room again.
			cluster := newCluster(t, kfake.Ports(port))
			defer cluster.Close()
			mustFlush(t, em)
			mustEmit(t, em, workload())
			mustFlush(t, em)
			if got := em.Stats(); got.Delivered != taken+1 || got.BufferedEvents != 0 || got.BufferedBytes != 0 {
				t.Errorf("stats are %+v, want %d delivered and none waiting", got, taken+1)
			}
		})
	}
}

func TestCloseDrains(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	comments := emitNumbered(t, em, "last words", 1000)
	if err := em.Close(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	storedOnce(t, cluster, comments)
	if err := em.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestCloseReportsTheRest(t *testing.T) {
	addr, _ := freeAddress(t)
	var mu sync.Mutex
	var given []audit.Event
	em := newEmitter(t, emit.Config{Brokers: []string{addr}, OnError: func(e audit.Event, err error) {
		mu.Lock()
		defer mu.Unlock()
		given = append(given, e)
		if !errors.Is(err, kgo.ErrClientClosed) {
			t.Errorf("got %v, want that the client was closed", err)
		}
	}})
	comments := emitNumbered(t, em, "left", 70)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := em.Close(ctx)
	var left *emit.UndeliveredError
	if !errors.As(err, &left) || left.Events != 70 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want 70 events not delivered", err)
	}
	// No lock: Close returns after the last call of OnError.
	var got []string
	for _, e := range given {
		got = append(got, e.AuditComment)
	}
	if diff := cmp.Diff(comments, got); diff != "" {
		t.Errorf("events handed back (-want +got):\n%s", diff)
	}
	if got, want := em.Stats(), (emit.Stats{Emitted: 70, Failed: 70}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	if again := em.Close(t.Context()); !errors.Is(again, err) {
		t.Errorf("second Close: %v, want the same as the first", again)
	}
}

// Emit and Close may race: what Emit took is delivered or counted as failed.
func TestCloseWhileEmitting(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				if err := em.Emit(workload()); errors.Is(err, emit.ErrClosed) {
					return
				} else if err != nil && !errors.Is(err, emit.ErrBufferFull) {
					t.Error(err)
					return
				}
			}
		})
	}
	for em.Stats().Delivered < 100 {
		runtime.Gosched()
	}
	if err := em.Close(within(t, patience)); err != nil {
		t.Error(err)
	}
	wg.Wait()
	got := em.Stats()
	if got.Emitted != got.Delivered || got.BufferedEvents != 0 || got.BufferedBytes != 0 {
		t.Errorf("stats are %+v, want all delivered", got)
	}
	if n := len(stored(t, cluster)); int64(n) != got.Delivered {
		t.Errorf("%d stored, %d delivered", n, got.Delivered)
	}
}

func TestUnknownTopic(t *testing.T) {
	cluster := newCluster(t)
	logs, observed := observer.New(zap.WarnLevel)
	type failure struct {
		event audit.Event
		err   error
	}
	failures := make(chan failure, 10)
	em := newEmitter(t, emit.Config{
		Brokers: cluster.ListenAddrs(),
		Logger:  zap.New(logs),
		OnError: func(e audit.Event, err error) { failures <- failure{e, err} },
	})
	lost := workload()
	lost.ModuleCode, lost.AuditComment = "NEW", "no topic"
	mustEmit(t, em, lost)
	mustEmit(t, em, lost)

	// The other topics go on at once.
	mustEmit(t, em, workload())
	for em.Stats().Delivered == 0 {
		select {
		case <-failures:
			t.Fatal("the unknown topic failed before the known one was served")
		case <-time.After(time.Millisecond):
		}
	}
	for range 2 {
		select {
		case f := <-failures:
			if f.event.AuditComment != "no topic" || f.event.ID == "" || f.event.ModuleCode != "NEW" {
				t.Errorf("got event %+v", f.event)
			}
			if !errors.Is(f.err, kerr.UnknownTopicOrPartition) || !strings.Contains(f.err.Error(), "register module NEW") {
				t.Errorf("got %q, want a sentence that says what to do", f.err)
			}
		case <-time.After(patience):
			t.Fatal("no failure was reported")
		}
	}
	mustFlush(t, em)
	if got, want := em.Stats(), (emit.Stats{Emitted: 3, Delivered: 1, Failed: 2}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	if n := observed.FilterMessage("audit event not delivered").Len(); n != 1 {
		t.Errorf("logged %d times, want once in ten seconds", n)
	}
	for _, entry := range observed.All() {
		if strings.Contains(fmt.Sprint(entry.ContextMap()), "no topic") {
			t.Errorf("the log holds the event: %v", entry)
		}
	}

	// Once the topic is there, the module's events arrive.
	if err := cluster.CreateTopic(audit.Topic("NEW"), 1, nil); err != nil {
		t.Fatal(err)
	}
	mustEmit(t, em, lost)
	mustFlush(t, em)
	if n := len(stored(t, cluster, audit.Topic("NEW"))); n != 1 {
		t.Errorf("%d events stored, want 1", n)
	}
}

func TestDeliveryTimeout(t *testing.T) {
	addr, _ := freeAddress(t)
	failed := make(chan error, 1)
	em := newEmitter(t, emit.Config{
		Brokers:         []string{addr},
		DeliveryTimeout: time.Second, // the least that the client allows
		OnError:         func(_ audit.Event, err error) { failed <- err },
	})
	mustEmit(t, em, workload())
	select {
	case err := <-failed:
		if !errors.Is(err, kgo.ErrRecordTimeout) {
			t.Errorf("got %v, want a timeout", err)
		}
	case <-time.After(patience):
		t.Error("the event was not given up")
	}
}

// OnError may emit again, even when the buffer is as small as can be.
func TestOnErrorMayEmit(t *testing.T) {
	cluster := newCluster(t)
	var em *emit.Emitter
	done := make(chan error, 1)
	em = newEmitter(t, emit.Config{
		Brokers:           cluster.ListenAddrs(),
		MaxBufferedEvents: 1,
		OnError: func(e audit.Event, _ error) {
			e.ModuleCode = "UM"
			done <- em.Emit(e)
		},
	})
	e := workload()
	e.ModuleCode = "NEW"
	mustEmit(t, em, e)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustFlush(t, em)
	if n := len(stored(t, cluster)); n != 1 {
		t.Errorf("%d events stored, want 1", n)
	}
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]emit.Config{
		"brokers":             {},
		"MaxBufferedBytes":    {Brokers: []string{"x:1"}, MaxBufferedBytes: -1},
		"MaxBufferedEvents":   {Brokers: []string{"x:1"}, MaxBufferedEvents: -1},
		"DeliveryTimeout":     {Brokers: []string{"x:1"}, DeliveryTimeout: -1},
		"MaxAge":              {Brokers: []string{"x:1"}, MaxAge: -1},
		"IdempotentWrite":     {Brokers: []string{"x:1"}, KafkaOptions: []kgo.Opt{kgo.DisableIdempotentWrite()}},
		"TransactionalID":     {Brokers: []string{"x:1"}, KafkaOptions: []kgo.Opt{kgo.TransactionalID("t")}},
		"ManualFlushing":      {Brokers: []string{"x:1"}, KafkaOptions: []kgo.Opt{kgo.ManualFlushing()}},
		"ProduceCancellation": {Brokers: []string{"x:1"}, KafkaOptions: []kgo.Opt{kgo.AllowIdempotentProduceCancellation()}},
	} {
		em, err := emit.New(cfg)
		if err == nil {
			_ = em.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error that names %s", err, name)
		}
	}
}

// Emit and EmitCall allocate a parcel and nothing else; a running emitter reuses
// those that it delivered.
func TestEmitAllocatesAtMostOnce(t *testing.T) {
	// The client and the broker allocate as they go, in the same process; an
	// address that refuses keeps both still.
	addr, _ := freeAddress(t)
	e, c := workload(), callWorkload()
	for name, send := range map[string]func(sink) error{
		"Emit":     func(em sink) error { return em.Emit(e) },
		"EmitCall": func(em sink) error { return em.EmitCall(c) },
	} {
		var still sink = newEmitter(t, emit.Config{Brokers: []string{addr}})
		allocs := testing.AllocsPerRun(2000, func() {
			if err := send(still); err != nil {
				t.Fatal(err)
			}
		})
		// Nothing is delivered here, so every record takes a new parcel, its bytes
		// and its bound function: three that a running emitter reuses.
		if allocs > 4 {
			t.Errorf("%s: %v allocations while nothing is reused, want 4 at most", name, allocs)
		}
	}
}

// A delivered parcel carries the next event. However the deliveries fail and
// repeat, no event takes on bytes of another.
func TestReuseKeepsEventsApart(t *testing.T) {
	var cut cutting
	cluster := newCluster(t, kfake.ListenFn(cut.listen))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 5})
	em := newEmitter(t, emit.Config{
		Brokers:      cluster.ListenAddrs(),
		KafkaOptions: []kgo.Opt{kgo.ProducerLinger(0)},
		OnError:      func(_ audit.Event, err error) { t.Errorf("given up: %v", err) },
	})
	const workers, each = 4, 1500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				e := workload()
				e.ModuleCode = []string{"UM", "PM"}[i%2]
				e.CustomerUUID = fmt.Sprintf("customer-%d-%d", w, i)
				e.TargetName = strings.Repeat(e.CustomerUUID, 1+i%60)
				if err := em.Emit(e); err != nil {
					t.Error(err)
				}
				if i%300 == 0 {
					cut.armed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	mustFlush(t, em)
	seen := map[string]bool{}
	for _, r := range stored(t, cluster) {
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != e.CustomerUUID || strings.ReplaceAll(e.TargetName, e.CustomerUUID, "") != "" || r.Topic != audit.Topic(e.ModuleCode) {
			t.Fatalf("an event is mixed with another: key %q, %q in %q, topic %s", r.Key, e.CustomerUUID, e.TargetName, r.Topic)
		}
		if seen[e.CustomerUUID] {
			t.Errorf("%s is stored twice", e.CustomerUUID)
		}
		seen[e.CustomerUUID] = true
	}
	if len(seen) != workers*each {
		t.Errorf("%d events stored, want %d; %+v", len(seen), workers*each, em.Stats())
	}
	if cut.cuts.Load() == 0 {
		t.Error("no connection was cut")
	}
}
