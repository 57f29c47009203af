package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/bench/measure"
)

// subscriptions take turns, as in a busy service: what is known of one is cold,
// and none of them comes to its limit.
const subscriptions = 1_000

// BenchmarkAPICall is what putting a handler under limits adds to a call of it,
// with counters in memory. Two records a call go to a broker, as ours; or they
// are checked and encoded, and thrown away.
func BenchmarkAPICall(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		serve(b, http.HandlerFunc(answer), callBurst(), func() {})
	})
	b.Run("ours", func(b *testing.B) {
		emitter, flush := newEmitter(b)
		serveCalls(b, apicall.Config{Sink: emitter}, callBurst(), flush)
	})
	b.Run("discarded", func(b *testing.B) {
		serveCalls(b, apicall.Config{Sink: new(discard)}, callBurst(), func() {})
	})
}

// BenchmarkAPICallRedis is the same with counters in a Redis on this machine,
// beside one bare round trip to it, a script with as many arguments that only
// answers: a whole call, which gives its place back in the end; and the decision
// alone.
func BenchmarkAPICallRedis(b *testing.B) {
	server := redistest.Start(b)
	n := callBurst() / 10 // each takes some ten times as long
	counters, err := rediscounters.New(rediscounters.Config{URL: server.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer counters.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	b.Run("script", func(b *testing.B) {
		script := redis.NewScript("return {0, 0, 0, 0}")
		next := callers()
		measure.Thread(b, n, func() {
			for range n {
				id := next().CustomerUUID
				if err := script.Run(b.Context(), client, []string{id, id}, id, 1, 10, 2000, 3_600_000_000, 30_000_000).Err(); err != nil {
					b.Fatal(err)
				}
			}
		}, func() {})
	})
	b.Run("ours", func(b *testing.B) {
		emitter, flush := newEmitter(b)
		serveCalls(b, apicall.Config{Sink: emitter, Counters: counters}, n, flush)
	})
	b.Run("decision", func(b *testing.B) {
		next := callers()
		var taken []apicall.Ask
		measure.Thread(b, n, func() {
			for range n {
				ask := apicall.Ask{
					Key:    apicall.Key{CustomerUUID: next().CustomerUUID, API: callAPI},
					CallID: audit.NewID(time.Now()), Limit: apicall.LimitOf(apicall.TierPremium),
				}
				if d, err := counters.Take(b.Context(), ask); err != nil || d.Blocked != apicall.BlockedNot {
					b.Fatalf("%+v: %v", d, err)
				}
				taken = append(taken, ask)
			}
		}, func() {
			for _, ask := range taken {
				if err := counters.Release(b.Context(), ask.Key, ask.CallID); err != nil {
					b.Fatal(err)
				}
			}
			taken = taken[:0]
		})
	})
}

const callAPI = "api/v1/jobs/{id}"

// callBurst is how many calls are measured at once.
func callBurst() int { return min(burst, measure.Size()) }

// callers hands out who calls, round and round.
func callers() func() apicall.Caller {
	all := make([]apicall.Caller, subscriptions)
	for i := range all {
		all[i] = apicall.Caller{
			CustomerUUID: "1263b8de-7a2b-4442-a62a-" + strconv.Itoa(100_000_000_000+i), UserUUID: "8b7737c9-6133-492a-a7d7-33fd078ce595",
			UserName: "Maria Rossi 31", UserRole: "Administrator", BusinessUnit: "Finance", Tier: apicall.TierPremium,
		}
	}
	next := 0
	return func() apicall.Caller {
		next = (next + 1) % len(all)
		return all[next]
	}
}

// newEmitter is an emitter with a broker in this process.
func newEmitter(b *testing.B) (emitter *emit.Emitter, flush func()) {
	b.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, audit.APICallsTopic))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cluster.Close)
	if emitter, err = emit.New(emit.Config{Brokers: cluster.ListenAddrs()}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := emitter.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
		if s := emitter.Stats(); s.Delivered == 0 || s.Delivered != s.Emitted {
			b.Errorf("%d of %d records delivered", s.Delivered, s.Emitted)
		}
	})
	return emitter, func() {
		if err := emitter.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// serveCalls measures calls of the bare handler behind limits. All must run.
func serveCalls(b *testing.B, cfg apicall.Config, n int, settle func()) {
	b.Helper()
	next := callers()
	cfg.ModuleCode = emitModule
	cfg.Caller = func(*http.Request) (apicall.Caller, bool) { return next(), true }
	calls, err := apicall.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := calls.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	serve(b, calls.Handler(callAPI, http.HandlerFunc(answer)), n, settle)
	if s := calls.Stats(); s.Finished == 0 || s.BlockedRate+s.BlockedConcurrency+s.Unenforced+s.EmitFailures != 0 {
		b.Fatalf("not all calls ran within limits and were told of: %+v", s)
	}
}

// serve measures calls of a handler, without a network.
func serve(b *testing.B, h http.Handler, n int, settle func()) {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, "/api/v1/jobs/31", nil)
	r.RemoteAddr = "167.35.71.104:50312"
	r.Header.Set("User-Agent", "python-requests/2.32.3")
	r.Header.Set("X-Request-Id", "0197b2a4-5d3e-7c11-9a52-6f2f5be0c1aa")
	measure.Thread(b, n, func() {
		for range n {
			h.ServeHTTP(&quiet{header: make(http.Header, 8)}, r)
		}
	}, settle)
}

var jobBody = []byte(`{"id":31,"state":"done"}`)

func answer(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jobBody) }

// quiet is a response writer that costs next to nothing.
type quiet struct{ header http.Header }

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) WriteHeader(int)             {}
func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }

// discard does with records what an emitter does before it hands them to its
// Kafka client. Of one goroutine.
type discard struct{ buf []byte }

func (d *discard) EmitCall(c audit.APICall) error {
	now := time.Now()
	if err := c.Validate(now, audit.DefaultMaxAge); err != nil {
		return err
	}
	var err error
	d.buf, err = c.AppendJSON(d.buf[:0])
	return err
}
