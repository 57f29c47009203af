package apicall_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

// discard encodes records as an emitter does, and sends them nowhere. Of one
// goroutine.
type discard struct{ buf []byte }

func (d *discard) EmitCall(c audit.APICall) (err error) {
	d.buf, err = c.AppendJSON(d.buf[:0])
	return err
}

var benchCaller = apicall.Caller{
	CustomerUUID: "1263b8de-7a2b-4442-a62a-7e3ea8cd6b49", UserUUID: "8b7737c9-6133-492a-a7d7-33fd078ce595",
	UserName: "Maria Rossi 31", UserRole: "Administrator", BusinessUnit: "Finance",
}

// benchLimit is that of a Premium subscription, with a window that calls leave
// as fast as they come.
var benchLimit = apicall.Limit{Concurrency: 10, Calls: 2000, Window: time.Millisecond}

// quiet is a response writer that costs nothing.
type quiet struct{ header http.Header }

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) WriteHeader(int)             {}
func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }

func benchRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/jobs/31", nil)
	r.RemoteAddr = "167.35.71.104:50312"
	r.Header.Set("User-Agent", "python-requests/2.32.3")
	r.Header.Set("X-Request-Id", "0197b2a4-5d3e-7c11-9a52-6f2f5be0c1aa")
	return r
}

var body = []byte(`{"id":31,"state":"done"}`)

var bare = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })

func benchHandler(b *testing.B, h http.Handler) {
	r := benchRequest()
	b.ReportAllocs()
	for b.Loop() {
		w := quiet{header: make(http.Header, 8)}
		h.ServeHTTP(&w, r)
	}
}

// BenchmarkBareHandler is the yardstick.
func BenchmarkBareHandler(b *testing.B) { benchHandler(b, bare) }

// BenchmarkHandlerMemory is a call that is counted in memory and listed: both
// records made and encoded.
func BenchmarkHandlerMemory(b *testing.B) {
	calls, err := apicall.New(apicall.Config{
		ModuleCode: "PM", Sink: &discard{},
		Caller: func(*http.Request) (apicall.Caller, bool) { return benchCaller, true },
		Limits: fixed(benchLimit),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := calls.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	benchHandler(b, calls.Handler("api/v1/jobs/{id}", bare))
	if s := calls.Stats(); s.BlockedRate+s.BlockedConcurrency != 0 || s.Finished == 0 {
		b.Fatalf("%+v: all calls must run", s)
	}
}

// BenchmarkHandlerEmitter is the same with an emitter as the sink. As in its own
// benchmark, the sending is not measured: it happens between bursts.
func BenchmarkHandlerEmitter(b *testing.B) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, audit.APICallsTopic))
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	em, err := emit.New(emit.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := em.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	calls, err := apicall.New(apicall.Config{ModuleCode: "PM", Sink: em, Limits: fixed(benchLimit),
		Caller: func(*http.Request) (apicall.Caller, bool) { return benchCaller, true }})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := calls.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	h, r := calls.Handler("api/v1/jobs/{id}", bare), benchRequest()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%500 == 0 {
			b.StopTimer()
			if err := em.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		w := quiet{header: make(http.Header, 8)}
		h.ServeHTTP(&w, r)
	}
	if s := calls.Stats(); s.BlockedRate+s.BlockedConcurrency+s.EmitFailures != 0 {
		b.Fatalf("%+v: all calls must run and be told of", s)
	}
}

// BenchmarkMemoryTake is the decision alone, and the place given back.
func BenchmarkMemoryTake(b *testing.B) {
	m := apicall.NewMemory()
	ask := apicall.Ask{
		Key: apicall.Key{CustomerUUID: benchCaller.CustomerUUID, API: "api/v1/jobs/{id}"}, CallID: "0197b2a4-5d3e-7c11-9a52-6f2f5be0c1aa",
		Limit: benchLimit,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Take(b.Context(), ask); err != nil {
			b.Fatal(err)
		}
		if err := m.Release(b.Context(), ask.Key, ask.CallID); err != nil {
			b.Fatal(err)
		}
	}
}

// fixed sets one limit for all.
type fixed apicall.Limit

func (f fixed) Limit(string, string) (apicall.Limit, bool) { return apicall.Limit(f), true }
