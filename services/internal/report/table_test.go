package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// deadline bounds every wait; it is only met by a failure.
const deadline = 60 * time.Second

// newTopics makes the topics of the table and returns a client of the test's own.
func newTopics(t testing.TB) (kafka.Config, *kgo.Client) {
	t.Helper()
	at := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), at, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ensure(t, cl)
	return at, cl
}

func ensure(t testing.TB, cl *kgo.Client) {
	t.Helper()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, at kafka.Config) *Table {
	t.Helper()
	table, err := Open(t.Context(), at, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// must is j, which was written without an error.
func must(t testing.TB) func(j *Job, err error) *Job {
	return func(j *Job, err error) *Job {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
}

func claimed(t testing.TB, table *Table, id int64, prev Epoch) Epoch {
	t.Helper()
	e, err := table.Claim(t.Context(), id, prev, "w")
	if err != nil || e == 0 {
		t.Fatalf("got epoch %d, %v", e, err)
	}
	return e
}

// agree fails the test unless tables that are opened now, and one that has
// followed, know the same job.
func agree(t testing.TB, at kafka.Config, tables ...*Table) {
	t.Helper()
	tables = append(tables, open(t, at))
	for _, table := range tables {
		if err := table.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range tables {
		alive := table.Sorted(func(j *Job) bool { return !j.State.Over() })
		if !slices.Equal(table.Alive(), alive) {
			t.Errorf("alive are %v, want %v", table.Alive(), alive)
		}
		for _, j := range table.Jobs() {
			if table.ByJob(j.Spec.Job) != j {
				t.Errorf("job %d is not found as %s", j.ID, j.Spec.Job)
			}
		}
		if len(table.byJob) != len(table.jobs) {
			t.Errorf("%d jobs have %d names", len(table.jobs), len(table.byJob))
		}
	}
	for _, table := range tables[1:] {
		if diff := gocmp.Diff(table.Jobs(), tables[0].Jobs(), cmpopts.IgnoreUnexported(Job{})); diff != "" {
			t.Errorf("tables differ:\n%s", diff)
		}
	}
}

func TestOneOwner(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	tables := []*Table{open(t, at), open(t, at), open(t, at)}
	for round := range 10 {
		j := must(t)(tables[0].Create(t.Context(), Spec{Job: uuid.New()}))
		prev := Epoch(0)
		for range 3 { // of the first owner, then of silent ones
			var mu sync.Mutex
			var owners []Epoch
			var wg sync.WaitGroup
			for i, table := range tables {
				for range 3 {
					wg.Go(func() {
						e, err := table.Claim(t.Context(), j.ID, prev, strconv.Itoa(i))
						if err != nil {
							t.Error(err)
						}
						if e != 0 {
							mu.Lock()
							defer mu.Unlock()
							owners = append(owners, e)
						}
					})
				}
			}
			wg.Wait()
			if len(owners) != 1 {
				t.Fatalf("round %d: owners %v, want one", round, owners)
			}
			prev = owners[0]
		}
	}
	agree(t, at, tables...)
}

func TestTheFirstEndCounts(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	a, b := open(t, at), open(t, at)
	seen := map[State]bool{}
	for range 20 {
		j := must(t)(a.Create(t.Context(), Spec{Job: uuid.New()}))
		e := claimed(t, a, j.ID, 0)
		var wg sync.WaitGroup
		var ended, cancelled *Job
		wg.Go(func() { ended = must(t)(a.SetEnd(t.Context(), j.ID, e, End{State: StateFinished, Rows: 1})) })
		wg.Go(func() { cancelled = must(t)(b.Cancel(t.Context(), j.ID, "jack", "no")) })
		wg.Wait()
		if ended.State != cancelled.State {
			t.Fatalf("the owner takes it for %s, who cancelled for %s", ended.State, cancelled.State)
		}
		if ended.Owner != 0 || (ended.State == StateFinished) != (ended.End != nil) {
			t.Fatalf("%s has owner %d, end %v", ended.State, ended.Owner, ended.End)
		}
		seen[ended.State] = true
	}
	for s := range seen {
		if s != StateFinished && s != StateCancelled {
			t.Errorf("a job became %s", s)
		}
	}
	agree(t, at, a, b)
}

func TestResumeGoesOnWithTheChunks(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	table := open(t, at)
	j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	e := claimed(t, table, j.ID, 0)
	must(t)(table.SetPlan(t.Context(), j.ID, e, Plan{Chunks: []PlannedChunk{{}, {}}}))
	must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 0, Object: "a", Rows: 5}))
	if j := must(t)(table.Resume(t.Context(), j.ID, "jack", uuid.New())); j.State != StateRunning {
		t.Errorf("one that runs was resumed: %s", j.State)
	}
	must(t)(table.SetEnd(t.Context(), j.ID, e, End{State: StateFailed, Reason: "full"}))
	call := uuid.New()
	j = must(t)(table.Resume(t.Context(), j.ID, "jack", call))
	if j.State != StateQueued || j.Call != call || j.Plan == nil || j.Chunks[0] == nil || j.Progress.Rows != 5 {
		t.Fatalf("got %+v", j)
	}
	// The owner before is none any more.
	if j := must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 1, Object: "b"})); j.Chunks[1] != nil {
		t.Error("the owner before the resume added a chunk")
	}
	e = claimed(t, table, j.ID, 0)
	if j := must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 1, Object: "c"})); j.Chunks[1].Object != "c" || j.Chunks[0].Object != "a" {
		t.Errorf("chunks %v", j.Chunks)
	}
	agree(t, at, table)
}

// TestWhatRunsAgainIsNotTidied: whoever tidies took it for one that failed.
func TestWhatRunsAgainIsNotTidied(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	table := open(t, at)
	j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	tidy := func(want State) {
		t.Helper()
		before := table.Job(j.ID)
		if err := table.Tidy(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		if now := table.Job(j.ID); now.State != want || now.Plan == nil || now.Chunks[0] == nil || now.Last != before.Last {
			t.Errorf("%s: a plan %v, chunks %v", now.State, now.Plan, now.Chunks)
		}
	}
	e := claimed(t, table, j.ID, 0)
	must(t)(table.SetPlan(t.Context(), j.ID, e, Plan{Chunks: []PlannedChunk{{}, {}}}))
	must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 0}))
	tidy(StateRunning)
	must(t)(table.SetEnd(t.Context(), j.ID, e, End{State: StateFailed}))
	tidy(StateFailed)
	must(t)(table.Resume(t.Context(), j.ID, "jack", uuid.New()))
	tidy(StateQueued)
	e = claimed(t, table, j.ID, 0)
	must(t)(table.SetPlan(t.Context(), j.ID, e, Plan{Chunks: []PlannedChunk{{}, {}}}))
	if now := must(t)(table.Expire(t.Context(), j.ID, "old")); now.State != StateRunning {
		t.Errorf("one that runs is %s", now.State)
	}
	tidy(StateRunning)
}

func TestWhatIsOverExpiresAndIsRemoved(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	table := open(t, at)
	j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	other := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	e := claimed(t, table, j.ID, 0)
	must(t)(table.SetPlan(t.Context(), j.ID, e, Plan{Chunks: []PlannedChunk{{}}}))
	must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 0}))
	must(t)(table.SetProgress(t.Context(), j.ID, e, Progress{Rows: 3}))
	must(t)(table.SetEnd(t.Context(), j.ID, e, End{State: StateFinished, Rows: 7, Manifest: "m"}))
	before := table.Job(j.ID)
	if err := table.Tidy(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	tidy := table.Job(j.ID)
	if tidy.Plan != nil || len(tidy.Chunks) != 0 {
		t.Errorf("left over: %v, %v", tidy.Plan, tidy.Chunks)
	}
	if diff := gocmp.Diff(tidy, before, cmpopts.IgnoreUnexported(Job{}), cmpopts.IgnoreFields(Job{}, "Plan", "Chunks", "Heard")); diff != "" {
		t.Errorf("what is tidy differs:\n%s", diff)
	}
	if j := must(t)(table.Expire(t.Context(), j.ID, "old")); j.State != StateExpired || j.End == nil {
		t.Errorf("got %+v", j)
	}
	// We die in the middle of the removal: the specification is gone, no more.
	if err := table.table.Delete(t.Context(), key(j.ID, kindSpec)); err != nil {
		t.Fatal(err)
	}
	if got, err := table.Get(t.Context(), j.ID); got != nil || err != nil {
		t.Errorf("got %v, %v, want nothing", got, err)
	}
	again := open(t, at)
	if n, err := again.DropLeftovers(t.Context()); n == 0 || err != nil {
		t.Errorf("%d records were left over, %v", n, err)
	}
	if n, err := again.DropLeftovers(t.Context()); n != 0 || err != nil {
		t.Errorf("%d records were left over then, %v", n, err)
	}
	claimed(t, again, other.ID, 0)
	if err := again.Remove(t.Context(), other.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := again.DropLeftovers(t.Context()); n != 1 || err != nil {
		t.Errorf("%d records of the removed were left over, %v", n, err)
	}
	if jobs := again.Jobs(); len(jobs) != 0 {
		t.Errorf("left: %v", jobs)
	}
	if keys := again.table.List(); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
	// Nobody who was away brings it back.
	if j, err := table.SetProgress(t.Context(), j.ID, e, Progress{}); j != nil || err != nil {
		t.Errorf("got %v, %v", j, err)
	}
	agree(t, at, table, again)
}

// TestNumbersGoOnBehindAnotherTopic: the topic of numbers was made anew, and
// begins at 1 again.
func TestNumbersGoOnBehindAnotherTopic(t *testing.T) {
	t.Parallel()
	at, cl := newTopics(t)
	table := open(t, at)
	var ids []int64
	for range 3 {
		ids = append(ids, must(t)(table.Create(t.Context(), Spec{Job: uuid.New()})).ID)
	}
	if want := []int64{1, 2, 3}; !slices.Equal(ids, want) {
		t.Fatalf("numbers %v, want %v", ids, want)
	}
	if _, err := kadm.NewClient(cl).DeleteTopics(t.Context(), topic.ReportIDs); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, deadline, nil, "the topic to go", func() (bool, string) {
		known, err := topic.IDs(t.Context(), cl)
		_, there := known[topic.ReportIDs]
		return err == nil && !there, fmt.Sprint(err)
	})
	ensure(t, cl)
	fresh := open(t, at)
	if j := must(t)(fresh.Create(t.Context(), Spec{Job: uuid.New()})); j.ID != 4 {
		t.Errorf("number %d, want 4", j.ID)
	}
	// Who knew the topic before goes on with the new one.
	if j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()})); j.ID != 5 {
		t.Errorf("number %d, want 5", j.ID)
	}
	agree(t, at, table, fresh)
}

// TestATopicMadeAnewHasNoJobs also in a table that knew some.
func TestATopicMadeAnewHasNoJobs(t *testing.T) {
	t.Parallel()
	at, cl := newTopics(t)
	table := open(t, at)
	must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	before := table.ID()
	if _, err := kadm.NewClient(cl).DeleteTopics(t.Context(), topic.Reports); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, deadline, nil, "the topic to go", func() (bool, string) {
		known, err := topic.IDs(t.Context(), cl)
		_, there := known[topic.Reports]
		return err == nil && !there, fmt.Sprint(err)
	})
	ensure(t, cl)
	testenv.Until(t, deadline, nil, "the table to be empty", func() (bool, string) {
		return len(table.Jobs()) == 0 && table.ID() != before, fmt.Sprint(table.Jobs())
	})
	if j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()})); j.ID != 2 {
		t.Errorf("number %d, want 2: the topic of numbers is the old one", j.ID)
	}
}

// fillTable writes n jobs, each with an owner and some chunks.
func fillTable(t testing.TB, cl *kgo.Client, n int) {
	t.Helper()
	var records []*kgo.Record
	offset := int64(0)
	add := func(key string, r Record) {
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: topic.Reports, Key: []byte(key), Value: raw})
		offset++
	}
	for id := int64(1); id <= int64(n); id++ {
		add(key(id, kindSpec), Record{Spec: &Spec{Job: uuid.New(), Name: "report", Request: json.RawMessage(`{"reportName":"report"}`)}})
		e := Epoch(offset)
		add(key(id, kindClaim, "a"), Record{Claim: &claim{Worker: "w"}})
		add(key(id, kindPlan, e.String(), "a"), Record{Plan: &Plan{Chunks: make([]PlannedChunk, 5)}})
		for n := range 5 {
			add(key(id, kindChunk, e.String(), strconv.Itoa(n)), Record{Chunk: &Chunk{N: n, Object: "object", Sum: make([]byte, 108)}})
		}
	}
	if err := cl.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestOnlyWhatChangedIsFoldedAgain: jobs whose records did not change stay the
// very same.
func TestOnlyWhatChangedIsFoldedAgain(t *testing.T) {
	t.Parallel()
	at, cl := newTopics(t)
	fillTable(t, cl, 100)
	table := open(t, at)
	before := table.Jobs()
	if len(before) != 100 {
		t.Fatalf("%d jobs", len(before))
	}
	must(t)(table.SetProgress(t.Context(), 7, before[7].Owner, Progress{Rows: 1}))
	after := table.Jobs()
	for id, j := range after {
		if (j == before[id]) != (id != 7) {
			t.Errorf("job %d: folded again is %v", id, j != before[id])
		}
	}
	if before[7].Progress.Rows != 0 || after[7].Progress.Rows != 1 {
		t.Errorf("what was returned changed: %d, %d", before[7].Progress.Rows, after[7].Progress.Rows)
	}
}

// TestWhatHasNoFileShowsWhatItCameTo: rows and bytes of the chunks that were
// complete, not of those under way, also when they are forgotten, by whoever and
// however often.
func TestWhatHasNoFileShowsWhatItCameTo(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	table, other := open(t, at), open(t, at)
	for _, state := range []State{StateCancelled, StateExpired} {
		j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
		e := claimed(t, table, j.ID, 0)
		must(t)(table.SetPlan(t.Context(), j.ID, e, Plan{Chunks: []PlannedChunk{{}, {}, {}}}))
		must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 0, Rows: 5, Bytes: 50, Busy: 7}))
		must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 1, Rows: 6, Bytes: 60, Busy: 8}))
		must(t)(table.SetProgress(t.Context(), j.ID, e, Progress{Rows: 13, Bytes: 130}))
		if state == StateCancelled {
			must(t)(table.Cancel(t.Context(), j.ID, "jack", ""))
		} else {
			must(t)(table.SetEnd(t.Context(), j.ID, e, End{State: StateFailed}))
			must(t)(table.Expire(t.Context(), j.ID, "old"))
		}
		want := Progress{Rows: 11, Bytes: 110, Busy: 15}
		shown := func(when string, chunks int, of *Job) {
			t.Helper()
			if of.State != state || of.Progress != want || len(of.Chunks) != chunks {
				t.Errorf("%s %s: %+v of %d chunks, want %+v", of.State, when, of.Progress, len(of.Chunks), want)
			}
		}
		shown("before it is tidied", 2, table.Job(j.ID))
		// Who tidied before died behind the first chunk.
		must(t)(table.put(t.Context(), j.ID, Record{Tidy: &want}, kindTidy, "a"))
		for k := range table.records[j.ID] {
			if _, kind, _ := parseKey(k); kind == kindChunk {
				if err := table.table.Delete(t.Context(), k); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		shown("in the middle", 1, table.Job(j.ID))
		if err := other.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, table := range []*Table{other, table, other} {
			if err := table.Tidy(t.Context(), j.ID); err != nil {
				t.Fatal(err)
			}
		}
		shown("when it is tidied", 0, other.Job(j.ID))
		// One that is late has no say.
		shown("after all", 0, must(t)(table.put(t.Context(), j.ID, Record{Tidy: &Progress{}}, kindTidy, "b")))
	}
	// Nobody died.
	j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	e := claimed(t, table, j.ID, 0)
	must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 0, Rows: 5}))
	must(t)(table.Cancel(t.Context(), j.ID, "jack", ""))
	if err := table.Tidy(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	if j := table.Job(j.ID); j.Progress.Rows != 5 || len(j.Chunks) != 0 {
		t.Errorf("%d rows, %d chunks", j.Progress.Rows, len(j.Chunks))
	}
	agree(t, at, table, other)
}

// TestWhatCannotBeReadIsKept: a newer version's records, or damaged ones, make
// nobody take their job for removed, nor give its number away.
func TestWhatCannotBeReadIsKept(t *testing.T) {
	t.Parallel()
	for what, bad := range map[string]string{
		"damaged":      `{"spec":{"job`,
		"another type": `{"spec":{"job":"00000000-0000-0000-0000-000000000001","name":{"en":"report"}}}`,
		"another form": `{"spec2":{}}`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			at, cl := newTopics(t)
			logs, logged := observer.New(zap.ErrorLevel)
			table, err := Open(t.Context(), at, zap.New(logs))
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			write := func(key, value string) {
				t.Helper()
				if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic.Reports, Key: []byte(key), Value: []byte(value)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
				if err := table.Fresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
			e := claimed(t, table, j.ID, 0)
			must(t)(table.AddChunk(t.Context(), j.ID, e, Chunk{N: 0}))
			raw, err := json.Marshal(Record{Spec: j.Spec})
			if err != nil {
				t.Fatal(err)
			}
			write("2/spec", bad) // the number that comes next
			write("1/spec", bad)
			for _, table := range []*Table{table, open(t, at)} {
				if n := table.Unreadable(); n != 2 || len(table.Jobs()) != 0 {
					t.Errorf("%d are unreadable, there are %v", n, table.Jobs())
				}
				if n, err := table.DropLeftovers(t.Context()); n != 0 || err != nil {
					t.Errorf("%d records were dropped, %v", n, err)
				}
			}
			if j := must(t)(table.Create(t.Context(), Spec{Job: uuid.New()})); j.ID != 3 {
				t.Errorf("number %d was given away", j.ID)
			}
			if n := logged.FilterMessageSnippet("reports have records that this version cannot read").Len(); n != 1 {
				t.Errorf("logged %d times: %v", n, logged.All())
			}
			// Who can read them finds all there.
			write("1/spec", string(raw))
			if j := table.Job(1); j == nil || table.Unreadable() != 1 {
				t.Errorf("got %v, %d are unreadable", j, table.Unreadable())
			}
			if err := table.Remove(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			write("1/chunk/1/x", `{"chunk":{"n":"x"}}`)
			if table.Unreadable() != 1 || table.Job(1) == nil {
				t.Errorf("%d are unreadable, %v", table.Unreadable(), table.Job(1))
			}
		})
	}
}

// TestACreationInDoubtHasItsNumber: the caller gives up before the record is read
// back, which another's transaction holds up.
func TestACreationInDoubtHasItsNumber(t *testing.T) {
	t.Parallel()
	at, cl := newTopics(t)
	table := open(t, at)
	must(t)(table.Create(t.Context(), Spec{Job: uuid.New()}))
	other, err := kafka.Open(t.Context(), at, zap.NewNop(), kgo.TransactionalID("another"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := other.ProduceSync(t.Context(), &kgo.Record{Topic: topic.Reports, Key: []byte("9/spec"), Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	end := func() int64 {
		ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic.Reports)
		o, ok := ends.Lookup(topic.Reports, 0)
		if err != nil || !ok || o.Err != nil {
			t.Fatal(err, ok, o.Err)
		}
		return o.Offset
	}
	before := end()
	ctx, giveUp := context.WithCancel(t.Context())
	var made *Job
	var wg sync.WaitGroup
	wg.Go(func() { made, err = table.Create(ctx, Spec{Job: uuid.New()}) })
	testenv.Until(t, deadline, nil, "the record to be written", func() (bool, string) { return end() > before, "" })
	giveUp()
	wg.Wait()
	if doubt, ok := errors.AsType[*DoubtError](err); !ok || doubt.ID != 2 || !errors.Is(err, ktable.ErrUnconfirmed) || made != nil {
		t.Errorf("got %v, %v", made, err)
	}
	if err := other.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if j, err := table.Get(t.Context(), 2); err != nil || j == nil {
		t.Errorf("it is there after all: got %v, %v", j, err)
	}
}

// TestTheAliveAreFound among many that are over, and those by their names.
func TestTheAliveAreFound(t *testing.T) {
	t.Parallel()
	at, _ := newTopics(t)
	table := open(t, at)
	var jobs []*Job
	for range 4 {
		jobs = append(jobs, must(t)(table.Create(t.Context(), Spec{Job: uuid.New()})))
	}
	alive := func(want ...int64) {
		t.Helper()
		var ids []int64
		for _, j := range table.Alive() {
			ids = append(ids, j.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("alive are %v, want %v", ids, want)
		}
	}
	alive(1, 2, 3, 4)
	must(t)(table.Cancel(t.Context(), 2, "jack", ""))
	e := claimed(t, table, 3, 0)
	alive(1, 3, 4)
	must(t)(table.SetEnd(t.Context(), 3, e, End{State: StateFailed}))
	alive(1, 4)
	must(t)(table.Resume(t.Context(), 3, "jack", uuid.New()))
	alive(1, 3, 4)
	if err := table.Remove(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	alive(1, 3)
	if j := table.ByJob(jobs[1].Spec.Job); j == nil || j.State != StateCancelled {
		t.Errorf("got %v", j)
	}
	if j := table.ByJob(jobs[3].Spec.Job); j != nil {
		t.Errorf("one that was removed is still there: %v", j)
	}
	agree(t, at, table)
}

// BenchmarkOneOfTenThousandChanges is what a change of one job costs those who
// look at what runs.
func BenchmarkOneOfTenThousandChanges(b *testing.B) {
	at, cl := newTopics(b)
	fillTable(b, cl, 10_000)
	writer, reader := open(b, at), open(b, at)
	jobs := reader.Jobs()
	if len(jobs) != 10_000 {
		b.Fatalf("%d jobs", len(jobs))
	}
	var looked time.Duration
	for b.Loop() {
		must(b)(writer.SetProgress(b.Context(), 7, jobs[7].Owner, Progress{Rows: 1}))
		if err := reader.Fresh(b.Context()); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		reader.Alive()
		looked += time.Since(began)
	}
	b.ReportMetric(float64(looked.Microseconds())/float64(b.N), "µs/look")
}
