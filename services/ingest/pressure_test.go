package ingest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// gauge reads a metric of the ingest started last: the sum over its labels.
func (p *pipeline) gauge(name string) float64 { return gaugeOf(p.t, p.ops, name) }

func gaugeOf(t testing.TB, o *ops.Ops, name string) (sum float64) {
	t.Helper()
	families, err := o.Registry.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestMemoryIsBoundedWhileTheEngineIsAway: 5,000 events a second come in, many
// times what may be held.
func TestMemoryIsBoundedWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	engine := testenv.NewEngine(t)
	p := newPipeline(t, engine.Config(), "PM")
	const limit = 1 << 20
	p.cfg.Limits.Memory = limit
	p.start()
	p.produce(pm, 0, event(0))
	p.produce(pm, 1, event(1))
	// A partition without a commit would ask the engine where to begin.
	for partition := range int32(2) {
		p.produce(topic.Audit, partition, event(-1-int(partition), func(e *audit.Event) { e.ModuleCode = topic.AuditModule }))
		p.produce(audit.APICallsTopic, partition, call(int(partition), audit.StateRunning))
	}
	p.stored(4)
	p.committed()
	engine.Kill()

	// One poll takes what would fit if records were as small as they can be.
	size := len(event(1))
	const slack = 100 // events differ in length
	most := float64(limit + limit/recordOverhead*(size+slack+recordOverhead))
	var highest atomic.Int64
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			highest.Store(max(highest.Load(), int64(gaugeOf(t, p.ops, "auditrail_ingest_memory_bytes"))))
			select {
			case <-time.After(time.Millisecond):
			case <-watching.Done():
				return
			}
		}
	}()
	const perSecond, events, perRound = 5000, 25_000, 250
	pace := rate.NewLimiter(perSecond, perRound)
	for n := 2; n < events; n += perRound {
		if err := pace.WaitN(t.Context(), perRound); err != nil {
			t.Fatal(err)
		}
		values := make([][]byte, min(perRound, events-n))
		for i := range values {
			values[i] = event(n + i)
		}
		p.produce(pm, int32(n/perRound%2), values...)
	}
	p.until("/readyz to name the partition", func() (bool, string) {
		said := p.readyz()
		return strings.Contains(said, pm+"/0 has been failing") && strings.Contains(said, "connection refused"), said
	})
	if held := p.gauge("auditrail_ingest_memory_bytes"); held < limit/4 {
		t.Errorf("only %v bytes are held: nothing presses back", held)
	}
	if lag := p.gauge("auditrail_ingest_lag_records"); lag < 1000 {
		t.Errorf("lag_records says %v", lag)
	}
	if age := p.gauge("auditrail_ingest_oldest_pending_seconds"); age < 1 {
		t.Errorf("oldest_pending_seconds says %v", age)
	}
	if lag := p.gauge("auditrail_ingest_lag_seconds"); lag < 1 {
		t.Errorf("lag_seconds says %v", lag)
	}
	// A rebalance cuts the lanes off in their inserts; those that follow have
	// these to make again, which must not let them fetch all there is.
	_, leave := p.member()
	leave()
	p.until("/readyz to name the recovery", func() (bool, string) {
		said := p.readyz()
		return strings.Contains(said, "recovery "+pm+"/0 has been failing"), said
	})
	engine.Start()
	p.stored(events + 2)
	p.committed()
	stop()
	<-watched
	if got := float64(highest.Load()); got > most {
		t.Errorf("%v bytes were held, the limit is %d and a poll's worth more %v", got, limit, most)
	} else if backlog := float64(events * (size + recordOverhead)); backlog < 2*most {
		t.Errorf("a backlog of %v bytes proves nothing about %v", backlog, most)
	} else {
		t.Logf("at most %.1f MiB were held of %.1f, with a limit of %.1f", got/(1<<20), backlog/(1<<20), float64(limit)/(1<<20))
	}
	p.until("/readyz to be well", func() (bool, string) { said := p.readyz(); return said == "ingest: ok\n", said })
}

func TestAgesAreThoseOfWhatIsNotStored(t *testing.T) {
	t.Parallel()
	engine := testenv.NewEngine(t)
	p := newPipeline(t, engine.Config(), "PM")
	p.start()
	p.produce(pm, 0, event(1), []byte("a dead letter"))
	p.stored(1)
	p.until("the ages to be 0", func() (bool, string) {
		lag, held := p.gauge("auditrail_ingest_lag_seconds"), p.gauge("auditrail_ingest_oldest_pending_seconds")
		return lag == 0 && held == 0, fmt.Sprint(lag, held)
	})
	engine.Kill()
	appended := p.produceOne(pm, 0, event(2))
	p.until("the insert to be repeated", func() (bool, string) {
		n := p.gauge("auditrail_ingest_retries_total")
		return n > 0, fmt.Sprint(n)
	})
	for range 2 { // they grow while nothing happens
		p.until("the age of the record", func() (bool, string) {
			before := time.Since(appended).Seconds()
			lag := p.gauge("auditrail_ingest_lag_seconds")
			after := time.Since(appended).Seconds()
			return lag >= before && lag <= after, fmt.Sprintf("%v, want %v to %v", lag, before, after)
		})
		held := p.gauge("auditrail_ingest_oldest_pending_seconds")
		if age := time.Since(appended).Seconds(); held <= 0 || held > age {
			t.Errorf("held for %v s, appended %v s ago", held, age)
		}
	}
	engine.Start()
	p.stored(2)
	p.until("the ages to be 0", func() (bool, string) {
		lag, held := p.gauge("auditrail_ingest_lag_seconds"), p.gauge("auditrail_ingest_oldest_pending_seconds")
		return lag == 0 && held == 0, fmt.Sprint(lag, held)
	})
	for _, name := range []string{"batch_bytes", "batch_rows", "insert_duration_seconds", "retries_total", "dead_letters_total"} {
		if p.gauge("auditrail_ingest_"+name) == 0 {
			t.Errorf("auditrail_ingest_%s says nothing", name)
		}
	}
	if n := p.gauge("auditrail_ingest_announcement_failures_total"); n != 0 {
		t.Errorf("%v announcements failed", n)
	}
}
