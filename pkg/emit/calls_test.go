package emit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

func TestCallOnTheWire(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	c := callWorkload()
	mustEmitCall(t, em, c)
	if err := em.ResendCall(c); err != nil {
		t.Fatal(err)
	}
	mustEmit(t, em, workload())
	mustFlush(t, em)
	want, err := c.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	records := stored(t, cluster, audit.APICallsTopic)
	if len(records) != 2 {
		t.Fatalf("%d records, want 2", len(records))
	}
	for i, r := range records {
		if string(r.Key) != c.CallID || string(r.Value) != string(want) {
			t.Errorf("key %q, value %s; want %q, %s", r.Key, r.Value, c.CallID, want)
		}
		if resent := len(r.Headers) == 1 && r.Headers[0].Key == audit.HeaderResent; resent != (i == 1) || len(r.Headers) != i {
			t.Errorf("record %d has the headers %v", i, r.Headers)
		}
	}
	if n := len(stored(t, cluster)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if err := em.EmitCall(audit.APICall{}); err == nil {
		t.Error("an empty call was taken")
	}
	if got, want := em.Stats(), (emit.Stats{Emitted: 3, Delivered: 3, Invalid: 1}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

// Events and API calls share the bounds of the buffer, and what is given up is
// told to the callback of its kind.
func TestCallsShareTheBuffer(t *testing.T) {
	addr, _ := freeAddress(t)
	var mu sync.Mutex
	var events, calls []string
	em := newEmitter(t, emit.Config{
		Brokers:           []string{addr},
		MaxBufferedEvents: 3,
		OnError: func(e audit.Event, _ error) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e.AuditComment)
		},
		OnCallError: func(c audit.APICall, err error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, c.State)
			if !errors.Is(err, kgo.ErrClientClosed) {
				t.Errorf("got %v, want that the client was closed", err)
			}
		},
	})
	queued, finished := callWorkload(), callWorkload()
	queued.State, queued.DurationMs = audit.StateQueued, 0
	e := workload()
	e.AuditComment = "an event"
	mustEmitCall(t, em, queued)
	mustEmit(t, em, e)
	mustEmitCall(t, em, finished)
	if err := em.EmitCall(finished); !errors.Is(err, emit.ErrBufferFull) {
		t.Errorf("got %v, want ErrBufferFull", err)
	}
	if err := em.Emit(e); !errors.Is(err, emit.ErrBufferFull) {
		t.Errorf("got %v, want ErrBufferFull", err)
	}
	var left *emit.UndeliveredError
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := em.Close(ctx); !errors.As(err, &left) || left.Events != 3 {
		t.Errorf("got %v, want 3 not delivered", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"an event"}, events); diff != "" {
		t.Errorf("events handed back (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{audit.StateQueued, audit.StateFinished}, calls); diff != "" {
		t.Errorf("calls handed back (-want +got):\n%s", diff)
	}
	if got, want := em.Stats(), (emit.Stats{Emitted: 3, Failed: 3, BufferFull: 2}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

// Signs of life of many long calls do not take the place of events while the
// brokers are away.
func TestSignsOfLifeLeaveRoomForEvents(t *testing.T) {
	sign := callWorkload()
	sign.State, sign.DurationMs, sign.HTTPStatus, sign.Heartbeat = audit.StateRunning, 0, 0, true
	for name, cfg := range map[string]emit.Config{
		"records": {MaxBufferedEvents: 10}, "bytes": {MaxBufferedBytes: 30_000},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := freeAddress(t)
			cfg.Brokers = []string{addr}
			em, err := emit.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			signs := 0
			for err = em.EmitCall(sign); err == nil; err = em.EmitCall(sign) {
				signs++
			}
			if !errors.Is(err, emit.ErrBufferFull) || signs == 0 {
				t.Fatalf("%d signs of life, then %v", signs, err)
			}
			for i := range signs / 2 {
				if err := em.Emit(workload()); err != nil {
					t.Errorf("event %d after %d signs of life: %v", i, signs, err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := em.Close(ctx); err == nil {
				t.Error("delivered to nobody")
			}
		})
	}
}

func TestCallsWithoutTheirTopic(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, audit.Topic("UM")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	failed := make(chan error, 1)
	em := newEmitter(t, emit.Config{
		Brokers:     cluster.ListenAddrs(),
		OnError:     func(e audit.Event, err error) { t.Errorf("told of an event: %v %v", e, err) },
		OnCallError: func(_ audit.APICall, err error) { failed <- err },
	})
	mustEmitCall(t, em, callWorkload())
	if err := <-failed; !errors.Is(err, kerr.UnknownTopicOrPartition) || !strings.Contains(err.Error(), "run the migration") {
		t.Errorf("got %q, want a sentence that says what to do", err)
	}
}

// The same parcels carry events and calls in turn, and mix nothing.
func TestReuseKeepsKindsApart(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs(), KafkaOptions: []kgo.Opt{kgo.ProducerLinger(0)}})
	const workers, each = 4, 500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				e, c := workload(), callWorkload()
				e.CustomerUUID = fmt.Sprintf("customer-%d-%d", w, i)
				c.CallID = fmt.Sprintf("019f1d8c-e27b-774f-%04d-%012d", w, i)
				c.API = c.CallID
				if err := errors.Join(em.Emit(e), em.EmitCall(c)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustFlush(t, em)
	seen := map[string]bool{}
	for _, r := range stored(t, cluster, audit.APICallsTopic) {
		var c audit.APICall
		if err := audit.DecodeAPICall(r.Value, &c); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != c.CallID || c.API != c.CallID {
			t.Fatalf("a call is mixed with another: key %q, %q, %q", r.Key, c.CallID, c.API)
		}
		seen[c.CallID] = true
	}
	for _, r := range stored(t, cluster) {
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != e.CustomerUUID {
			t.Fatalf("an event is mixed with another: key %q, %q", r.Key, e.CustomerUUID)
		}
		seen[e.CustomerUUID] = true
	}
	if len(seen) != 2*workers*each {
		t.Errorf("%d events and calls stored, want %d", len(seen), 2*workers*each)
	}
}
