package reporter

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// childFlag, as the first argument, makes a test binary what the file says that
// the second names: a childSpec.
const childFlag = "-auditrail-child"

type childSpec struct {
	Reporter *Config
	Broker   *broker.Config
}

// child is the main of a child process; it returns in any other.
func child() {
	if len(os.Args) != 3 || os.Args[1] != childFlag {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := runChild(ctx, os.Args[2])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(ctx context.Context, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var s childSpec
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&s); err != nil {
		return err
	}
	log, err := zap.NewDevelopment()
	if err != nil {
		return err
	}
	if s.Reporter != nil {
		return Run(ctx, *s.Reporter, Deps{Log: log, Ops: ops.New(log)})
	}
	b, err := broker.Start(ctx, *s.Broker, broker.Deps{Log: log})
	if err != nil {
		return err
	}
	<-ctx.Done()
	b.Close()
	return nil
}

// process is a child that a test kills, pauses and starts again.
type process struct {
	*testenv.Command
	t    *testing.T
	spec string
}

func newProcess(t *testing.T, name string, s childSpec) *process {
	t.Helper()
	dir := t.TempDir()
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(s); err != nil {
		t.Fatal(err)
	}
	p := &process{Command: &testenv.Command{Log: filepath.Join(dir, name+".log")}, t: t, spec: filepath.Join(dir, name+".gob")}
	if err := os.WriteFile(p.spec, raw.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Resume()
		p.Kill()
		if t.Failed() {
			words, _ := os.ReadFile(p.Log)
			t.Logf("log of %s:\n%s", name, words[max(0, len(words)-20_000):])
		}
	})
	p.start()
	return p
}

func (p *process) start() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.Start(self, childFlag, p.spec); err != nil {
		p.t.Fatal(err)
	}
}

// newBroker is an embedded broker in a process of its own.
func newBroker(t *testing.T) (*process, kafka.Config) {
	t.Helper()
	addr, err := testenv.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, "broker", childSpec{Broker: &broker.Config{Addr: addr, DataDir: t.TempDir(), RetentionBytes: 1 << 30, Retention: 1000 * time.Hour}})
	at := kafka.Config{Addr: []string{addr}}
	testenv.Until(t, deadline, p.Ended(), "the broker", func() (bool, string) {
		cl, err := kafka.Open(t.Context(), at, zap.NewNop())
		if err == nil {
			cl.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	return p, at
}

// worker runs a replica in a process of its own.
func (d *desk) worker(name string) *process {
	d.t.Helper()
	return newProcess(d.t, name, childSpec{Reporter: &d.cfg})
}

// told is a record of the table.
type told struct {
	offset int64
	id     int64 // of the job
	key    string
	report.Record
}

// history lists what the table's topic has, in order.
func (d *desk) history() (all []told) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), deadline)
	defer cancel()
	for _, r := range testenv.Records(ctx, d.t, d.cfg.Kafka, topic.Reports) {
		e := told{offset: r.Offset, key: string(r.Key)}
		if len(r.Value) > 0 {
			if err := json.Unmarshal(r.Value, &e.Record); err != nil {
				d.t.Fatal(err)
			}
		}
		id, _, _ := strings.Cut(e.key, "/")
		var err error
		if e.id, err = strconv.ParseInt(id, 10, 64); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// by says that an owner wrote it.
func (e told) by(epoch report.Epoch) bool {
	parts := strings.Split(e.key, "/")
	return len(parts) > 2 && parts[2] == epoch.String()
}

// chunksOf counts the chunk records of a job.
func (d *desk) chunksOf(id int64) (n int) {
	for _, e := range d.history() {
		if e.Chunk != nil && e.id == id {
			n++
		}
	}
	return n
}

// once fails the test unless the chunks of a job that had one owner were made
// once each.
func (d *desk) once(j *report.Job, m *report.Manifest) {
	d.t.Helper()
	if n := d.chunksOf(j.ID); n != len(m.Parts) {
		d.t.Errorf("report %d has %d parts, and %d were made", j.ID, len(m.Parts), n)
	}
}

// TestKilledAtAnyMoment: workers, ClickHouse and Kafka are killed while reports
// are made and events arrive.
func TestKilledAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("takes about a minute; runs without -short")
	}
	t.Parallel()
	e := testenv.NewEngine(t)
	conn, _ := openStore(t, e)
	kafkas, at := newBroker(t)
	d := newDeskOn(t, at, e, conn)
	d.cfg.ChunkRows = 100
	d.cfg.Lease = time.Second
	const rows = 12_000
	d.fill("c", 0, rows)
	d.fill("other", 0, rows)
	workers := []*process{d.worker("a"), d.worker("b")}
	jobs := []*report.Job{
		d.create(spec("c", rows)),
		d.create(spec("other", rows/2, func(s *report.Spec) { s.Compression = report.Gzip })),
		d.create(spec("other", rows, func(s *report.Spec) { s.Format = report.Parquet })),
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 25 {
		pass(t, time.Duration(r.IntN(1200))*time.Millisecond) // the moment is what is tried
		switch part := r.IntN(6); part {
		case 0:
			e.Kill()
			e.Start()
		case 1:
			kafkas.Kill()
			kafkas.start()
		default: // so that the other takes over
			workers[part%2].Kill()
			workers[part%2].start()
		}
		if i == 8 {
			d.eventually("events arrive", func() error { return d.tryFill("c", rows, 2000) })
		}
	}
	d.eventually("the broker", func() error { return d.table.Fresh(t.Context()) })
	alive := d.table.Sorted(func(j *report.Job) bool { return !j.State.Over() })
	owners := 0
	for _, e := range d.history() {
		if e.Claim != nil {
			owners++
		}
	}
	t.Logf("%d reports are not done yet, %d claims so far", len(alive), owners)
	if owners <= len(jobs) {
		t.Error("nobody was killed while it made a report")
	}
	for _, j := range jobs {
		j = d.finished(j.ID)
		file, m := d.download(j)
		switch {
		case j.Spec.Format == report.Parquet:
			if m.Rows != rows {
				t.Errorf("%d rows, want %d", m.Rows, rows)
			}
		case j.Spec.Compression == report.Gzip:
			d.wants(gunzip(t, file), "other", rows/2)
		default:
			d.wants(file, "c", rows)
		}
		d.onlyTheFileIsLeft(j, m)
	}
}

// pass lets time pass, where that is what a test is about.
func pass(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// eventually repeats do until it works.
func (d *desk) eventually(what string, do func() error) {
	d.t.Helper()
	testenv.Until(d.t, deadline, nil, what, func() (bool, string) {
		err := do()
		return err == nil, fmt.Sprint(err)
	})
}

// owner waits for another owner of a job.
func (d *desk) owner(id int64, other report.Epoch) report.Epoch {
	d.t.Helper()
	return d.until(id, "another owner", func(j *report.Job) bool { return j.Owner != 0 && j.Owner != other || j.State.Over() }).Owner
}

// TestAZombieThatComesBack: an owner is paused for longer than its lease, and
// goes on when another one is at work, or done.
func TestAZombieThatComesBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		share int // of its chunks that are there when it is paused, in percent
		done  bool
	}{{"at_once_while_the_other_works", 1, false}, {"in_the_middle", 30, true}, {"near_the_end", 85, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			const rows = 10_000
			d.cfg.ChunkRows = 50 // so many chunks that it is never faster than we are
			d.fill("c", 0, rows)
			zombie := d.worker("zombie")
			j := d.create(spec("c", rows))
			j = d.until(j.ID, "some chunks", func(j *report.Job) bool { return j.Plan != nil && len(j.Chunks)*100 >= len(j.Plan.Chunks)*c.share })
			zombie.Pause()
			if err := d.table.Fresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			j = d.table.Job(j.ID)
			if j.State != report.StateRunning {
				t.Fatalf("it was faster: %s", j.State)
			}
			first := j.Owner
			d.start()
			second := d.owner(j.ID, first)
			if c.done {
				j = d.finished(j.ID)
			}
			d.fill("c", rows, 100)
			zombie.Resume()
			// It says something as the owner that it was.
			testenv.Until(t, deadline, zombie.Ended(), "a word of the zombie", func() (bool, string) {
				all := d.history()
				return slices.ContainsFunc(all, func(e told) bool { return e.offset > int64(second) && e.by(first) }), fmt.Sprintf("%d records", len(all))
			})
			j = d.finished(j.ID)
			if err := d.table.Fresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if again := d.table.Job(j.ID); *again.End != *j.End || again.State != report.StateFinished {
				t.Errorf("the zombie changed the report: %+v", again.End)
			}
			file, m := d.download(j)
			d.wants(file, "c", rows)
			// Of the zombie there is what it said while it was the owner, no more.
			want, got := 0, 0
			for _, e := range d.history() {
				if e.Chunk != nil && e.by(first) && e.offset < int64(second) {
					want++
				}
			}
			for _, p := range m.Parts {
				if strings.Contains(p.Object, "-"+first.String()+"-") {
					got++
				}
			}
			if got != want || got < 1 {
				t.Errorf("%d parts are the zombie's, want %d", got, want)
			}
		})
	}
}

// TestKafkaThatIsSilentTakesWritesAllTheSame: requests that were sent to a broker
// that is paused land when it goes on, after their writers gave them up.
func TestKafkaThatIsSilentTakesWritesAllTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute; runs without -short")
	}
	t.Parallel()
	e := testenv.ClickHouse(t)
	conn, _ := openStore(t, e)
	kafkas, at := newBroker(t)
	d := newDeskOn(t, at, e, conn)
	const rows = 10_000
	d.cfg.ChunkRows = 250
	d.fill("c", 0, rows)
	d.start()
	d.start()
	j := d.create(spec("c", rows))
	for _, chunks := range []int{2, 20} {
		d.until(j.ID, "some chunks", func(j *report.Job) bool { return len(j.Chunks) >= chunks })
		kafkas.Pause()
		pass(t, 12*time.Second) // longer than a write is waited for
		kafkas.Resume()
	}
	j = d.finished(j.ID)
	file, m := d.download(j)
	d.wants(file, "c", rows)
	d.onlyTheFileIsLeft(j, m)
}

// TestReplicasRace for many small reports: each is made once.
func TestReplicasRace(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 1500)
	var jobs []*report.Job
	for i := range 12 {
		customer := "c"
		if i%3 == 0 {
			customer = "nobody"
		}
		jobs = append(jobs, d.create(spec(customer, 1500)))
	}
	for range 3 {
		d.start()
	}
	for _, j := range jobs {
		j = d.finished(j.ID)
		file, m := d.download(j)
		if j.Spec.Requester.CustomerUUID == "c" {
			d.wants(file, "c", 1500)
		} else if m.Rows != 0 || !strings.HasPrefix(string(file), "Id,") {
			t.Errorf("nobody's report has %d rows: %q", m.Rows, file)
		}
		d.once(j, m)
	}
}

// TestRunningIsLimitedOverAllReplicas: a subscription's reports run one after the
// other when one may run at a time.
func TestRunningIsLimitedOverAllReplicas(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.Running = 1
	d.cfg.ChunkRows = 300
	d.fill("c", 0, 3000)
	var jobs []*report.Job
	for range 5 {
		jobs = append(jobs, d.create(spec("c", 3000)))
	}
	for range 3 {
		d.start()
	}
	for _, j := range jobs {
		_, m := d.download(d.finished(j.ID))
		if m.Rows != 3000 {
			t.Errorf("%d rows", m.Rows)
		}
	}
	at := int64(0) // the job at work
	for _, e := range d.history() {
		switch {
		case e.Plan != nil || e.Chunk != nil:
			if at != 0 && at != e.id {
				t.Fatalf("at %d: reports %d and %d run at the same time", e.offset, at, e.id)
			}
			at = e.id
		case e.End != nil:
			at = 0
		}
	}
}

// TestASmallReportWaitsForOneChunk of the huge one of another subscription, and
// no more. Turns are counted, not time.
func TestASmallReportWaitsForOneChunk(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.Workers = 1
	d.cfg.ChunkRows = 100
	d.fill("huge", 0, 10_000)
	d.fill("small", 0, 90)
	d.start()
	huge := d.create(spec("huge", 10_000))
	d.until(huge.ID, "some chunks", func(j *report.Job) bool { return len(j.Chunks) > 3 })
	small := d.finished(d.create(spec("small", 90)).ID)
	if d.table.Job(huge.ID).State != report.StateRunning {
		t.Fatal("the huge report is not huge enough")
	}
	chunks := -1
	for _, e := range d.history() {
		switch {
		case e.id == small.ID && e.Spec != nil:
			chunks = 0
		case e.id == small.ID && e.End != nil:
			if chunks > 1 {
				t.Errorf("the small report waited for %d chunks of the huge one", chunks)
			}
			return
		case e.id == huge.ID && e.Chunk != nil && chunks >= 0:
			chunks++
		}
	}
	t.Error("the small report has no end")
}

// TestCancelWhileRunning: the report ends at once, and its objects go.
func TestCancelWhileRunning(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.ChunkRows = 100
	d.fill("c", 0, 10_000)
	d.start()
	j := d.create(spec("c", 10_000))
	d.until(j.ID, "some chunks", func(j *report.Job) bool { return len(j.Chunks) > 3 })
	j, err := d.table.Cancel(t.Context(), j.ID, "jack", "no")
	if err != nil || j.State != report.StateCancelled {
		t.Fatal(err, j)
	}
	// The chunk in hand may still be written, and is deleted at the next look.
	d.until(j.ID, "to have no objects", func(*report.Job) bool { return len(d.objects(report.Dir(j.Spec.Job))) == 0 })
	// Another one gets its place.
	d.finished(d.create(spec("c", 200)).ID)
}

// TestStopGivesBack: another replica goes on at once, long before the lease ends.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.ChunkRows = 100
	d.cfg.Lease = time.Hour
	d.fill("c", 0, 10_000)
	stop := d.start()
	j := d.create(spec("c", 10_000))
	d.until(j.ID, "some chunks", func(j *report.Job) bool { return len(j.Chunks) > 3 })
	stop()
	if err := d.table.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if j = d.table.Job(j.ID); j.Owner != 0 || j.State != report.StateRunning {
		t.Fatalf("it is %s of %d", j.State, j.Owner)
	}
	d.start()
	j = d.finished(j.ID)
	file, m := d.download(j)
	d.wants(file, "c", 10_000)
	d.once(j, m)
}

// TestAClaimThatLandedInDoubtIsOurs: the job does not wait for its lease to end.
func TestAClaimThatLandedInDoubtIsOurs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.service()
	s.worker = "us"
	var err error
	if s.emitter, err = emit.New(emit.Config{Brokers: d.cfg.Kafka.Addr}); err != nil {
		t.Fatal(err)
	}
	defer s.closeEmitter()
	j := d.create(spec("c", 1))
	epoch, err := d.table.Claim(t.Context(), j.ID, 0, "us")
	if err != nil || epoch == 0 {
		t.Fatal(epoch, err)
	}
	sched := &scheduler{service: s, turns: newTurns(), leases: leases{}, claims: map[int64]time.Time{}}
	free, some := sched.candidates([]*report.Job{d.table.Job(j.ID)}, time.Now())
	if !free || len(some) != 1 {
		t.Fatalf("it has no turn: %v, %v", free, some)
	}
	r := newRun(t.Context(), s, some[0])
	if ours, err := r.claim(some[0], false); !ours || err != nil || r.epoch != epoch {
		t.Errorf("got %v, %v, epoch %d, want %d", ours, err, r.epoch, epoch)
	}
	r.end(errStopped)
	r.beats.Wait()
	// That of somebody else is not.
	s.worker = "others"
	if _, some := sched.candidates([]*report.Job{d.table.Job(j.ID)}, time.Now()); len(some) != 0 {
		t.Errorf("it has a turn: %v", some)
	}
}
