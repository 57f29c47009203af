package reporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// steps is a service whose turns a test takes itself.
func (d *desk) steps() *service {
	d.t.Helper()
	s := d.service()
	s.worker = "test"
	var err error
	if s.emitter, err = emit.New(emit.Config{Brokers: d.cfg.Kafka.Addr}); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(s.closeEmitter)
	if s.events, err = newClickHouse(s.cfg.Store, s.cfg.HTTP, 2, 1<<30); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(s.events.close)
	return s
}

// runOf is a run of a job, which s claims.
func (d *desk) runOf(s *service, id int64) *run {
	d.t.Helper()
	j := d.table.Job(id)
	r := newRun(d.t.Context(), s, j)
	if ours, err := r.claim(j, false); !ours || err != nil {
		d.t.Fatal(ours, err)
	}
	d.t.Cleanup(func() { r.end(errStopped); r.beats.Wait() })
	return r
}

// TestATurnIsAChunkAtMost: a large report is planned in a turn of its own, a
// small one is made in one.
func TestATurnIsAChunkAtMost(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 3000)
	s := d.steps()
	large, small := d.create(spec("c", 3000)).ID, d.create(spec("c", 500)).ID
	r := d.runOf(s, large)
	for turn := 0; ; turn++ {
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
		j := d.table.Job(large)
		if made := len(j.Chunks); made != turn && made != turn+1 || turn == 0 && made != 0 { // and the header
			t.Fatalf("%d chunks after turn %d", made, turn)
		}
		if j.State == report.StateFinished {
			if n := len(j.Plan.Chunks); n < 2 || turn != n {
				t.Errorf("%d chunks in %d turns", n, turn)
			}
			break
		}
	}
	if err := d.runOf(s, small).step(); err != nil || d.table.Job(small).State != report.StateFinished {
		t.Errorf("%v, it is %s", err, d.table.Job(small).State)
	}
}

// TestAPanicFailsTheReport, not the reporter.
func TestAPanicFailsTheReport(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.steps()
	s.events = nil
	j := d.create(spec("c", 10))
	r := newRun(t.Context(), s, j)
	r.turn(j, false)
	r.beats.Wait()
	if j = d.table.Job(j.ID); j.State != report.StateFailed || !strings.Contains(j.Reason, "its log says where") {
		t.Errorf("it is %s: %s", j.State, j.Reason)
	}
}

// TestAReportThatItsOwnersEndOfIsFailed by the sixth.
func TestAReportThatItsOwnersEndOfIsFailed(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.Lease = time.Second
	j := d.create(spec("c", 10))
	var last report.Epoch
	for i := range mostTakeovers {
		epoch, err := d.table.Claim(t.Context(), j.ID, last, fmt.Sprint("w", i))
		if err != nil || epoch == 0 {
			t.Fatal(epoch, err)
		}
		last = epoch
	}
	d.start()
	j = d.until(j.ID, "to fail", func(j *report.Job) bool { return j.State.Over() })
	if j.State != report.StateFailed || !strings.Contains(j.Reason, "Five workers in turn ended") {
		t.Errorf("it is %s: %s", j.State, j.Reason)
	}
	if _, err := d.table.Resume(t.Context(), j.ID, "jack", uuid.New()); err != nil {
		t.Fatal(err)
	}
	d.finished(j.ID)
}

// TestAnObjectThatIsGoneFailsTheReport before it is Finished, in all formats: one
// of a chunk that was made before it failed.
func TestAnObjectThatIsGoneFailsTheReport(t *testing.T) {
	t.Parallel()
	for _, format := range []report.Format{report.CSV, report.Parquet} {
		for what, spoil := range map[string]func(*desk, string) error{
			"deleted": func(d *desk, name string) error { return d.files.Bucket().Delete(t.Context(), name) },
			"cut": func(d *desk, name string) error {
				return d.files.Bucket().WriteAll(t.Context(), name, []byte("x"), nil)
			},
		} {
			t.Run(string(format)+"_"+what, func(t *testing.T) {
				t.Parallel()
				d := newDesk(t)
				d.fill("c", 0, 2000)
				f := d.breakStore(func(what string, _ int) fault {
					if what == "00001" {
						return full
					}
					return none
				})
				d.start()
				j := d.create(spec("c", 2000, func(s *report.Spec) { s.Format = format }))
				j = d.until(j.ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
				if err := spoil(d, j.Chunks[0].Object); err != nil {
					t.Fatal(err)
				}
				f.change(func(string, int) fault { return none })
				if _, err := d.table.Resume(t.Context(), j.ID, "jack", uuid.New()); err != nil {
					t.Fatal(err)
				}
				j = d.until(j.ID, "to be over", func(j *report.Job) bool { return j.State.Over() })
				if j.State != report.StateFailed || !strings.Contains(j.Reason, "An object of the report is gone") {
					t.Errorf("it is %s: %s", j.State, j.Reason)
				}
			})
		}
	}
}

// TestRowsThatRetentionTookAreTold in the manifest and the status.
func TestRowsThatRetentionTookAreTold(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 2000)
	s := d.steps()
	id := d.create(spec("c", 2000)).ID
	r := d.runOf(s, id)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if err := d.conn.Exec(t.Context(), "ALTER TABLE audit_events DELETE WHERE customer_uuid = 'c' AND kafka_offset < 7 SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
	for d.table.Job(id).State == report.StateRunning {
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
	}
	j := d.table.Job(id)
	_, m := d.download(j)
	if m.MissingRows != 7 || m.Rows != 1993 || j.Reason != "Retention deleted 7 of its rows while it was made." {
		t.Errorf("%d rows, %d are missing, %s", m.Rows, m.MissingRows, j.Reason)
	}
	raw, err := d.files.Bucket().ReadAll(t.Context(), j.End.Manifest)
	if err != nil || digest(raw) != j.End.ManifestSHA256 {
		t.Errorf("the manifest is %s, want %s, %v", digest(raw), j.End.ManifestSHA256, err)
	}
	if n := m.Parts[1].MissingRows; n != 7 {
		t.Errorf("%d of the newest are missing", n)
	}
}

// TestClickHouseThatIsSlowIsNotAway: each statement may take as long as a report
// may go without a chunk, when nothing is heard before; not when it has begun.
func TestClickHouseThatIsSlowIsNotAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		giveUp time.Duration
		serve  func(nth int32, w http.ResponseWriter, r *http.Request)
		want   []error
		text   string
	}{
		{"slow", 6 * time.Second, func(nth int32, w http.ResponseWriter, r *http.Request) {
			select { // what is tried: together it is more than one may take
			case <-time.After(3500 * time.Millisecond):
			case <-r.Context().Done():
			}
			if nth == 1 {
				_, _ = io.WriteString(w, "5\t2\n")
			} else {
				_, _ = io.WriteString(w, "6\t1\n5\t1\n")
			}
		}, nil, ""},
		{"silent", time.Second, func(_ int32, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []error{errSlow}, "takes longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that its end is noticed
				c.serve(n.Add(1), w, r)
			}))
			defer srv.Close()
			events, err := newClickHouse(store.Config{}, store.HTTPConfig{Addr: []string{strings.TrimPrefix(srv.URL, "http://")}}, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer events.close()
			s := spec("c", 10)
			of, err := rowsOf(&s)
			if err != nil {
				t.Fatal(err)
			}
			r := &run{service: &service{cfg: Config{Limits: Limits{GiveUp: c.giveUp}}}, ctx: t.Context()}
			ctx, moved := r.watched()
			defer moved.stop()
			chunks, err := cut(ctx, report.Span{To: 5 * stretches}, 1, counts{events, of, moved})
			if c.want == nil {
				if err != nil || len(chunks) != 2 {
					t.Errorf("%v, %v, cause %v", chunks, err, context.Cause(ctx))
				}
				return
			}
			err = moved.why(err)
			for _, want := range c.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			if text := explain(err).text; !strings.Contains(text, c.text) {
				t.Errorf("it says %q", text)
			}
		})
	}
}

// TestSilenceCountsOnlyWhileWeCanHear: who could not read the table waits for as
// long as a lease again.
func TestSilenceCountsOnlyWhileWeCanHear(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.steps()
	j := d.create(spec("c", 10))
	if epoch, err := d.table.Claim(t.Context(), j.ID, 0, "other"); err != nil || epoch == 0 {
		t.Fatal(epoch, err)
	}
	j = d.table.Job(j.ID)
	sched := &scheduler{service: s, turns: newTurns(), leases: leases{}, claims: map[int64]time.Time{}}
	now := time.Now()
	sched.leases.listen([]*report.Job{j}, now.Add(-time.Hour))
	if !sched.silent(j, now) {
		t.Fatal("it is not silent")
	}
	r := newRun(t.Context(), s, j)
	r.end(errStopped)
	if ours, err := r.claim(j, true); ours || err == nil {
		t.Fatal(ours, err)
	}
	if now = time.Now(); sched.silent(j, now) {
		t.Error("it is silent though we could not hear")
	}
	if !sched.silent(j, now.Add(d.cfg.Lease)) {
		t.Error("it is never silent")
	}
}

// TestStopDoesNotWaitForever for a turn that does not end.
func TestStopDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.steps()
	never := make(chan struct{})
	s.turns.Go(func() { <-never })
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	select {
	case <-stopped:
	case <-time.After(deadline):
		t.Error("it waits")
	}
	close(never)
}

// TestCallsAreToldAgain in the two passes after a change, by whomever it was.
func TestCallsAreToldAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.steps()
	j := d.create(spec("c", 10))
	var r retold
	s.retell(&r, time.Now())
	s.retell(&r, time.Now())
	if _, err := d.table.Cancel(t.Context(), j.ID, "jack", ""); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		s.retell(&r, time.Now())
	}
	want := []string{audit.StateQueued, audit.StateQueued, audit.StateFinished, audit.StateQueued, audit.StateFinished}
	slices.Sort(want)
	testenv.Until(t, deadline, nil, "the calls", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		var got []string
		for _, r := range testenv.Records(ctx, t, d.cfg.Kafka, audit.APICallsTopic) {
			var c audit.APICall
			if err := audit.DecodeAPICall(r.Value, &c); err != nil {
				t.Fatal(err)
			}
			got = append(got, c.State)
		}
		slices.Sort(got)
		if len(got) > len(want) {
			t.Fatalf("told %v, want %v", got, want)
		}
		return slices.Equal(got, want), fmt.Sprint(got)
	})
}

// TestWhatCannotBeMadeIsToldApart: what Kafka has nothing to do with is not
// blamed on it.
func TestWhatCannotBeMadeIsToldApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		what  string
		fatal bool
	}{
		{errors.New("anything"), whatInternal, false},
		{fmt.Errorf("%w: x", errKafka), whatKafka, false},
		{fmt.Errorf("%w: x", errPanic), whatInternal, true},
		{second(raw(io.Discard, report.Sum("no state"), nil)), whatInternal, true},
		{second(newPart(io.Discard, report.CSV, report.None, report.Sum("no state"))), whatInternal, true},
		{second(partOf(&report.Chunk{Sum: report.Sum("no state")}, nil)), whatInternal, true},
		{second(footer(nil, nil)), whatInternal, true},
		{second(footer([]*report.Chunk{{}}, func(string, int64) ([]byte, error) { return []byte("no footer"), nil })), whatInternal, true},
	} {
		if got := explain(c.err); got.what != c.what || got.fatal != c.fatal {
			t.Errorf("%v: got %+v", c.err, got)
		}
	}
	if n := rowGroups([]report.PlannedChunk{{Rows: 1_000_000}, {Rows: 3}}); n != 6 {
		t.Errorf("%d row groups", n)
	}
}

func second[T any](_ T, err error) error { return err }

// TestNothingIsSweptThatNobodyCanJudge: a record that this version cannot read may
// be of the job that wants an object.
func TestNothingIsSweptThatNobodyCanJudge(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.service()
	orphan := report.Dir(uuid.New()) + "00000-1-1.csv"
	d.write(orphan)
	cl, err := kafka.Open(t.Context(), d.cfg.Kafka, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic.Reports, Key: []byte("7/spec"), Value: []byte("{")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	if err := s.sweep(t.Context(), later); err == nil || !strings.Contains(err.Error(), "cannot read") || !d.objects("")[orphan] {
		t.Errorf("%v, the object is there: %v", err, d.objects("")[orphan])
	}
	if err := d.table.Remove(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(t.Context(), later); err != nil || d.objects("")[orphan] {
		t.Errorf("%v, the object is there: %v", err, d.objects("")[orphan])
	}
}
