package reporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// TestReportsExpireAndAreForgotten, their objects first.
func TestReportsExpireAndAreForgotten(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 3000)
	stop := d.start()
	done := d.finished(d.create(spec("c", 3000)).ID)
	stop()
	// It failed in the middle: its chunks are kept to resume it, and expire, too.
	f := d.breakStore(func(what string, _ int) fault {
		if what == "00002" {
			return full
		}
		return none
	})
	stop = d.start()
	failed := d.until(d.create(spec("c", 3000)).ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
	stop()
	if len(d.objects(report.Dir(failed.Spec.Job))) != 3 { // and the header
		t.Fatalf("objects %v", d.objects(report.Dir(failed.Spec.Job)))
	}
	f.change(func(string, int) fault { return none })
	stop = d.start(func(c *Config) { c.Retention = time.Millisecond })
	for _, j := range []*report.Job{done, failed} {
		d.until(j.ID, "to expire", func(j *report.Job) bool { return j.State == report.StateExpired })
		d.until(j.ID, "to have no objects", func(j *report.Job) bool { return len(d.objects(report.Dir(j.Spec.Job))) == 0 })
	}
	if j, err := d.table.Resume(t.Context(), failed.ID, "jack", uuid.New()); err != nil || j.State != report.StateExpired {
		t.Errorf("%v, %v: what is expired cannot be resumed", j.State, err)
	}
	stop()
	d.start(func(c *Config) { c.Retention, c.EntryRetention = time.Millisecond, time.Millisecond })
	testenv.Until(t, deadline, nil, "the entries to go", func() (bool, string) {
		return len(d.table.Jobs()) == 0, fmt.Sprint(d.table.Jobs())
	})
}

// TestWhatIsResumedIsNotPutAway by a replica that has not heard of it.
func TestWhatIsResumedIsNotPutAway(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.Retention = time.Nanosecond
	ctx, id := t.Context(), d.create(spec("c", 10)).ID
	write := func(what string, do func(report.Epoch) (*report.Job, error)) *report.Job {
		t.Helper()
		j, err := do(d.table.Job(id).Owner)
		if err != nil || j == nil {
			t.Fatalf("%s: %v, %v", what, j, err)
		}
		return j
	}
	claim := func(report.Epoch) (*report.Job, error) {
		_, err := d.table.Claim(ctx, id, 0, "w")
		return d.table.Job(id), err
	}
	write("claim", claim)
	failed := write("end", func(e report.Epoch) (*report.Job, error) {
		return d.table.SetEnd(ctx, id, e, report.End{State: report.StateFailed, Reason: "test"})
	})
	write("resume", func(report.Epoch) (*report.Job, error) { return d.table.Resume(ctx, id, "jack", uuid.New()) })
	write("claim", claim)
	write("plan", func(e report.Epoch) (*report.Job, error) {
		return d.table.SetPlan(ctx, id, e, report.Plan{Chunks: []report.PlannedChunk{{Rows: 1}, {Rows: 1}}})
	})
	j := write("chunk", func(e report.Epoch) (*report.Job, error) {
		return d.table.AddChunk(ctx, id, e, report.Chunk{N: 0, Object: report.Dir(failed.Spec.Job) + "00000-1-1.csv"})
	})
	d.write(j.Chunks[0].Object)
	if failed.State != report.StateFailed {
		t.Fatalf("it is %s", failed.State)
	}
	if err := d.service().retireOne(ctx, failed, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if j = d.table.Job(id); j.State != report.StateRunning || j.Plan == nil || j.Chunks[0] == nil {
		t.Errorf("it is %s, with plan %v and %d chunks", j.State, j.Plan, len(j.Chunks))
	}
	if !d.objects("")[j.Chunks[0].Object] {
		t.Error("the chunk's object is gone")
	}
}

func (d *desk) write(name string) {
	d.t.Helper()
	if err := d.files.Bucket().WriteAll(d.t.Context(), name, []byte("x"), nil); err != nil {
		d.t.Fatal(err)
	}
}

// TestOrphansAreSwept, and nothing else: not what jobs want, not what is young,
// not what is not of reports.
func TestOrphansAreSwept(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 3000)
	f := d.breakStore(func(what string, nth int) fault {
		if what == "00002" && nth > 1 {
			return full
		}
		return none
	})
	stop := d.start()
	done := d.finished(d.create(spec("c", 3000)).ID)
	failed := d.until(d.create(spec("c", 3000)).ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
	stop()
	f.change(func(string, int) fault { return none })
	queued := d.create(spec("c", 3000))
	dirs := []string{report.Dir(done.Spec.Job), report.Dir(failed.Spec.Job)}
	wanted := map[string]bool{}
	for _, dir := range dirs {
		for name := range d.objects(dir) {
			wanted[name] = true
		}
	}
	mine := []string{"somebody-elses", "some/folder", report.Dir(queued.Spec.Job) + "00000-1-1.csv"}
	orphans := []string{dirs[0] + "00000-1-9.csv", dirs[0] + "manifest-1-1.json", dirs[1] + "00007-1-1.csv", report.Dir(uuid.New()) + "00000-1-1.csv"}
	for _, name := range append(mine, orphans...) {
		d.write(name)
	}
	s := d.service()
	if err := s.sweep(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	has := func(when string, names []string, want bool) {
		t.Helper()
		all := d.objects("")
		for _, name := range names {
			if all[name] != want {
				t.Errorf("%s: %s is there: %v, want %v", when, name, all[name], want)
			}
		}
	}
	has("young", orphans, true)
	// The store's clock may be another, and some count seconds.
	if err := s.sweep(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	has("old", orphans, false)
	has("old", mine, true)
	for name := range wanted {
		has("wanted", []string{name}, true)
	}
	if n := testutil.ToFloat64(s.metrics.orphans); n != float64(len(orphans)) {
		t.Errorf("%v orphans counted, want %d", n, len(orphans))
	}
	// What is wanted is all there.
	d.download(done)
}

// service is a reporter that makes no reports, for its parts.
func (d *desk) service() *service {
	d.t.Helper()
	log := zaptest.NewLogger(d.t)
	cfg, err := d.cfg.withDefaults()
	if err != nil {
		d.t.Fatal(err)
	}
	return &service{cfg: cfg, log: log, repeats: log, metrics: newMetrics(ops.New(log).Registry), table: d.table, files: d.files, runs: map[int64]*run{}}
}

// TestAManifestThatIsAnothersTellsNothing: what a finished report wants is all
// kept while its manifest is not the one that was written, and others are swept.
func TestAManifestThatIsAnothersTellsNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 3000)
	stop := d.start()
	done := d.finished(d.create(spec("c", 3000)).ID)
	stop()
	had := d.objects(report.Dir(done.Spec.Job))
	last := report.Dir(uuid.Max) + "00000-1-1.csv" // behind all others
	for _, bad := range []string{"{}", "x", ""} {
		if err := d.files.Bucket().WriteAll(t.Context(), done.End.Manifest, []byte(bad), nil); err != nil {
			t.Fatal(err)
		}
		d.write(last)
		s := d.service()
		if err := s.sweep(t.Context(), time.Now().Add(time.Minute)); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
		if err := s.clean(t.Context(), done); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
		if got := d.objects(""); got[last] || len(d.objects(report.Dir(done.Spec.Job))) != len(had) {
			t.Errorf("%q: there are %v", bad, got)
		}
	}
}

// TestWhatCannotBeReadIsNotPutAway: a newer version may have resumed a report that
// is failed by what this one can read.
func TestWhatCannotBeReadIsNotPutAway(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 3000)
	d.breakStore(func(what string, _ int) fault {
		if what == "00002" {
			return full
		}
		return none
	})
	stop := d.start()
	failed := d.until(d.create(spec("c", 3000)).ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
	stop()
	had := d.objects("")
	cl, err := kafka.Open(t.Context(), d.cfg.Kafka, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	newer := &kgo.Record{Topic: topic.Reports, Key: fmt.Appendf(nil, "%d/resume/%s", failed.ID, uuid.New()), Value: []byte("{")}
	if err := cl.ProduceSync(t.Context(), newer).FirstErr(); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, deadline, nil, "the record", func() (bool, string) { return d.table.Unreadable() == 1, "" })
	d.service().retire(t.Context(), time.Now().Add(20000*time.Hour))
	if j := d.table.Job(failed.ID); j.State != report.StateFailed || len(d.objects("")) != len(had) {
		t.Errorf("it is %s, with objects %v, of %v", j.State, d.objects(""), had)
	}
}

// TestTheStoreOfAnotherTableIsNotSwept: a table that was made anew, or that of
// another installation, knows none of the reports that are there.
func TestTheStoreOfAnotherTableIsNotSwept(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.service()
	if err := s.sweep(t.Context(), time.Now()); err != nil { // it marks the store
		t.Fatal(err)
	}
	queued := d.create(spec("c", 10))
	if _, err := s.wantedNow(t.Context(), uuid.New(), queued.Spec.Job.String()); err == nil || !strings.Contains(err.Error(), "when the sweep began") {
		t.Errorf("a table that was made anew meanwhile: %v", err)
	}
	other := newDesk(t)
	other.files = d.files
	theirs := report.Dir(uuid.New()) + "00000-1-1.csv"
	d.write(theirs)
	err := other.service().sweep(t.Context(), time.Now().Add(time.Minute))
	if err == nil || !strings.Contains(err.Error(), "delete the object") {
		t.Errorf("got %v", err)
	}
	if !d.objects("")[theirs] {
		t.Error("an object of another table was deleted")
	}
	// It is not tried again with every change of the table.
	if again := other.service().sweepAt(t.Context(), time.Now()); again != sweepAgain {
		t.Errorf("it is swept again after %v", again)
	}
	if again := s.sweepAt(t.Context(), time.Now()); again != s.cfg.OrphanAge {
		t.Errorf("it is swept again after %v", again)
	}
	if err := s.sweep(t.Context(), time.Now().Add(time.Minute)); err != nil || d.objects("")[theirs] {
		t.Errorf("the table's own sweep: %v", err)
	}
}

// TestCallsAreTold: Running and Finished, once more at the next start.
func TestCallsAreTold(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 100)
	stop := d.start()
	d.until(d.create(spec("nobody", 100)).ID, "the reporter to have started", func(j *report.Job) bool { return j.State == report.StateFinished })
	j := d.finished(d.create(spec("c", 100)).ID)
	stop()
	told := func() (states []string) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		for _, r := range testenv.Records(ctx, t, d.cfg.Kafka, audit.APICallsTopic) {
			var c audit.APICall
			if err := audit.DecodeAPICall(r.Value, &c); err != nil {
				t.Fatal(err)
			}
			if err := c.Validate(r.Timestamp, time.Hour); err != nil {
				t.Errorf("%s: %v", r.Value, err)
			}
			if c.CallID != j.Call.String() {
				continue
			}
			if c.API != report.API || !c.Durable {
				t.Errorf("a call of %s, durable is %v", c.API, c.Durable)
			}
			states = append(states, c.State)
		}
		return states
	}
	if got := fmt.Sprint(told()); got != "[Running Finished]" {
		t.Errorf("told: %s", got)
	}
	d.start()
	testenv.Until(t, deadline, nil, "the calls to be told again", func() (bool, string) {
		got := fmt.Sprint(told())
		return got == "[Running Finished Queued Running Finished]", got
	})
}

// TestStartsWhileEverythingIsAway: Kafka and the object store come later.
func TestStartsWhileEverythingIsAway(t *testing.T) {
	t.Parallel()
	addr, err := testenv.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	e := testenv.NewEngine(t)
	conn, _ := openStore(t, e)
	cfg := broker.Config{Addr: addr, DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: 1000 * time.Hour}
	b, err := broker.Start(context.Background(), cfg, broker.Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	d := newDeskOn(t, kafka.Config{Addr: []string{addr}}, e, conn)
	d.fill("c", 0, 100)
	d.table.Close()
	b.Close()
	e.Kill()
	log := zaptest.NewLogger(t)
	o := ops.New(log)
	testenv.Run(t, deadline, func(ctx context.Context) error { return Run(ctx, d.cfg, Deps{Log: log, Ops: o}) })
	mux := http.NewServeMux()
	o.Mount(mux)
	ready := func() (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return w.Code, w.Body.String()
	}
	testenv.Until(t, deadline, nil, "readiness to say what is away", func() (bool, string) {
		code, text := ready()
		return code == http.StatusServiceUnavailable && strings.Contains(text, "reporter:") && strings.Contains(text, "reporter-clickhouse:"), text
	})
	if b, err = broker.Start(context.Background(), cfg, broker.Deps{Log: zaptest.NewLogger(t)}); err != nil {
		t.Fatal(err)
	}
	if d.table, err = report.Open(t.Context(), d.cfg.Kafka, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.table.Close)
	j := d.create(spec("c", 100))
	d.until(j.ID, "to be in trouble", func(j *report.Job) bool { return strings.Contains(j.Progress.Trouble, "ClickHouse") })
	e.Start()
	j = d.finished(j.ID)
	file, _ := d.download(j)
	d.wants(file, "c", 100)
	testenv.Until(t, deadline, nil, "to be ready", func() (bool, string) {
		code, text := ready()
		return code == http.StatusOK, text
	})
}

// TestClickHouseThatStaysAwayFailsTheReport once it was away for as long as it
// may be.
func TestClickHouseThatStaysAwayFailsTheReport(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	conn, _ := openStore(t, e)
	d := newDeskOn(t, testenv.Kafka(t), e, conn)
	d.fill("c", 0, 100)
	e.Kill()
	d.cfg.GiveUp = 2 * time.Second
	d.start()
	j := d.create(spec("c", 100))
	j = d.until(j.ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
	if !strings.Contains(j.Reason, "ClickHouse cannot be reached") || !strings.Contains(j.Reason, "rerun") && !strings.Contains(j.Reason, "Rerun") {
		t.Errorf("reason %q", j.Reason)
	}
	e.Start()
	if _, err := d.table.Resume(t.Context(), j.ID, "jack", uuid.New()); err != nil {
		t.Fatal(err)
	}
	file, _ := d.download(d.finished(j.ID))
	d.wants(file, "c", 100)
}

func TestLimitsAreChecked(t *testing.T) {
	t.Parallel()
	for _, l := range []Limits{{Workers: -1}, {ChunkRows: -1}, {Running: -1}, {Threads: -1}, {Memory: -1}, {GiveUp: -1}, {Retention: -1}, {EntryRetention: -1}} {
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), "--report-") {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if err := (Limits{}).Validate(); err != nil {
		t.Error(err)
	}
	if got := explain(errors.New("anything")); got.text == "" || got.what == "" {
		t.Errorf("got %+v", got)
	}
}
