package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// history draws what several owners, some of them zombies, users and the clock
// write about one job. Offsets are even, so that others fit between.
func history(t *rapid.T) []event {
	events := []event{at("1/spec", 2, Record{Spec: &Spec{Job: uuid.Max}})}
	epochs := []Epoch{0}
	for i := range rapid.IntRange(1, 40).Draw(t, "records") {
		offset := int64(2*i + 4)
		e := draw(t, epochs, offset)
		if e.Claim != nil {
			epochs = append(epochs, Epoch(offset))
		}
		events = append(events, e)
	}
	return events
}

func at(key string, offset int64, r Record) event {
	return event{key, offset, time.UnixMilli(offset), &r}
}

// draw makes a record of anybody.
func draw(t *rapid.T, epochs []Epoch, offset int64) event {
	epoch := rapid.SampledFrom(epochs[max(0, len(epochs)-3):]).Draw(t, "epoch")
	unique := "x" + strconv.FormatInt(offset, 10)
	kind := rapid.SampledFrom([]string{
		kindClaim, kindClaim, kindProgress, kindProgress, kindProgress, kindChunk, kindChunk, kindPlan,
		kindRelease, kindEnd, kindCancel, kindResume, kindExpire, kindTidy,
	}).Draw(t, "kind")
	var r Record
	switch kind {
	case kindClaim:
		r.Claim = &claim{Prev: epoch, Worker: unique}
		return at(key(1, kind, unique), offset, r)
	case kindProgress:
		r.Progress = &Progress{Rows: offset, Trouble: unique}
		return at(key(1, kind, epoch.String()), offset, r)
	case kindChunk:
		r.Chunk = &Chunk{N: rapid.IntRange(Header, 2).Draw(t, "n"), Object: unique, Rows: offset, Bytes: 1, Busy: 1}
	case kindPlan:
		r.Plan = &Plan{Chunks: []PlannedChunk{{Rows: offset}}}
	case kindRelease:
		r.Release = &release{Undo: rapid.Bool().Draw(t, "undo")}
	case kindEnd:
		r.End = &End{State: rapid.SampledFrom([]State{StateFinished, StateFailed}).Draw(t, "end"), Rows: offset}
	case kindCancel:
		r.Cancel = &by{Why: unique}
		return at(key(1, kind, unique), offset, r)
	case kindResume:
		r.Resume = &resume{Call: uuid.NewSHA1(uuid.Nil, []byte(unique))}
		return at(key(1, kind, unique), offset, r)
	case kindTidy:
		r.Tidy = &Progress{Rows: offset}
		return at(key(1, kind, unique), offset, r)
	case kindExpire:
		r.Expire = &by{Why: unique}
		return at(key(1, kind, unique), offset, r)
	}
	return at(key(1, kind, epoch.String(), unique), offset, r)
}

// compacted keeps the newest record of each key, as the table does.
func compacted(events []event) *Job {
	records := map[string]ktable.Entry[Record]{}
	for _, e := range events {
		records[e.key] = ktable.Entry[Record]{Value: *e.Record, At: e.at, Offset: e.offset}
	}
	return fold(1, records)
}

func same(t *rapid.T, what string, got, want *Job, opts ...gocmp.Option) {
	t.Helper()
	if diff := gocmp.Diff(got, want, append(opts, cmpopts.IgnoreUnexported(Job{}))...); diff != "" {
		t.Fatalf("%s: -got +want:\n%s", what, diff)
	}
}

// TestAJobIsWhatItsRecordsSay, whether the table has dropped older ones or not,
// at every moment.
func TestAJobIsWhatItsRecordsSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := history(t)
		for n := range events {
			same(t, fmt.Sprintf("after %d records", n+1), compacted(events[:n+1]), replay(1, events[:n+1]))
		}
	})
}

// TestAZombieChangesNothing: whoever is not the owner writes what it likes.
func TestAZombieChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := history(t)
		with := slices.Clone(events)
		for range rapid.IntRange(1, 10).Draw(t, "zombie's records") {
			n := rapid.IntRange(1, len(events)).Draw(t, "after")
			before := replay(1, events[:n])
			zombies := []Epoch{-1} // nobody's
			for _, e := range events[:n] {
				if e.Claim != nil && Epoch(e.offset) != before.Owner {
					zombies = append(zombies, Epoch(e.offset))
				}
			}
			e := draw(t, zombies, events[n-1].offset+1)
			if e.Cancel != nil || e.Resume != nil || e.Expire != nil || e.Tidy != nil {
				continue // not an owner's
			}
			with = append(with, e)
		}
		slices.SortStableFunc(with, func(a, b event) int { return cmp.Compare(a.offset, b.offset) })
		// Last says no more than that somebody wrote.
		same(t, "with a zombie", compacted(with), compacted(events), cmpopts.IgnoreFields(Job{}, "Last"))
	})
}

// TestTheStatesOfAJob walks through a job's life.
func TestTheStatesOfAJob(t *testing.T) {
	t.Parallel()
	var events []event
	step := func(key string, r Record, want State, owner Epoch) *Job {
		t.Helper()
		events = append(events, at(key, int64(len(events)), r))
		j := compacted(events)
		if j.State != want || j.Owner != owner {
			t.Fatalf("after record %d, %s: %s of %d, want %s of %d", len(events)-1, key, j.State, j.Owner, want, owner)
		}
		return j
	}
	step("1/nothing", Record{}, "", 0)
	step("1/spec", Record{Spec: &Spec{}}, StateQueued, 0)
	step("1/claim/a", Record{Claim: &claim{Prev: 0}}, StateRunning, 2)
	step("1/claim/b", Record{Claim: &claim{Prev: 0}}, StateRunning, 2) // it lost
	j := step("1/release/2/a", Record{Release: &release{Undo: true}}, StateQueued, 0)
	if !j.Began.IsZero() || j.First != 0 || j.Place != 1 || len(j.Calls()) != 1 {
		t.Errorf("a claim that was taken back left %v, %d, place %d, %v", j.Began, j.First, j.Place, j.Calls())
	}
	step("1/claim/c", Record{Claim: &claim{Prev: 0}}, StateRunning, 5)
	step("1/chunk/5/a", Record{Chunk: &Chunk{N: 0, Rows: 10, Bytes: 20, Busy: 30}}, StateRunning, 5)
	step("1/claim/d", Record{Claim: &claim{Prev: 5}}, StateRunning, 7) // it was silent
	j = step("1/progress/5", Record{Progress: &Progress{Rows: 99}}, StateRunning, 7)
	if want := (Progress{Rows: 10, Bytes: 20, Busy: 30}); j.Progress != want || j.Heard != 7 {
		t.Errorf("a new owner begins with %+v, heard at %d, want %+v, 7", j.Progress, j.Heard, want)
	}
	step("1/release/7/a", Record{Release: &release{Undo: true}}, StateRunning, 0) // that was not its first claim
	step("1/claim/e", Record{Claim: &claim{Prev: 0}}, StateRunning, 10)
	j = step("1/end/10/a", Record{End: &End{State: StateFailed, Reason: "full"}}, StateFailed, 0)
	if len(j.Chunks) != 1 || j.Reason != "full" || len(j.Calls()) != 3 {
		t.Errorf("a failed job has %d chunks, %q, %v", len(j.Chunks), j.Reason, j.Calls())
	}
	step("1/cancel/a", Record{Cancel: &by{}}, StateFailed, 0) // too late
	j = step("1/resume/a", Record{Resume: &resume{Call: uuid.Max}}, StateQueued, 0)
	if j.Call != uuid.Max || j.End != nil || len(j.Chunks) != 1 || len(j.RunCalls()) != 1 {
		t.Errorf("a job that is resumed has call %s, end %v, %d chunks", j.Call, j.End, len(j.Chunks))
	}
	step("1/resume/b", Record{Resume: &resume{Call: uuid.Nil}}, StateQueued, 0)
	queued := j
	step("1/claim/f", Record{Claim: &claim{Prev: 0}}, StateRunning, 15)
	j = step("1/release/15/a", Record{Release: &release{Undo: true}}, StateQueued, 0)
	if j.Place != 13 || j.Place != queued.Place || !j.Since.Equal(queued.Since) {
		t.Errorf("a claim after a resume that was taken back left place %d, since %v, want %d, %v", j.Place, j.Since, queued.Place, queued.Since)
	}
	step("1/claim/g", Record{Claim: &claim{Prev: 0}}, StateRunning, 17)
	step("1/expire/a", Record{Expire: &by{}}, StateRunning, 17) // it is not over
	step("1/end/17/a", Record{End: &End{State: StateFinished, Rows: 12, Bytes: 24}}, StateFinished, 0)
	step("1/resume/c", Record{Resume: &resume{Call: uuid.Nil}}, StateFinished, 0)
	first := step("1/expire/b", Record{Expire: &by{}}, StateExpired, 0)
	again := step("1/expire/c", Record{Expire: &by{}}, StateExpired, 0)
	if !again.Since.Equal(first.Since) {
		t.Error("expiring twice moved the moment")
	}
}

// TestTakeoversAreCounted of owners that were silent and brought nothing.
func TestTakeoversAreCounted(t *testing.T) {
	t.Parallel()
	var events []event
	step := func(key string, r Record, want int) {
		t.Helper()
		events = append(events, at(key, int64(len(events)+1), r))
		if j := compacted(events); j.Takeovers != want {
			t.Fatalf("after record %d, %s: %d takeovers, want %d", len(events), key, j.Takeovers, want)
		}
	}
	step("1/spec", Record{Spec: &Spec{}}, 0)
	step("1/claim/a", Record{Claim: &claim{Prev: 0}}, 0)
	step("1/claim/b", Record{Claim: &claim{Prev: 2}}, 1)
	step("1/claim/c", Record{Claim: &claim{Prev: 2}}, 1) // it lost
	step("1/progress/3", Record{Progress: &Progress{Rows: 1}}, 1)
	step("1/release/3/a", Record{Release: &release{}}, 1)
	step("1/claim/d", Record{Claim: &claim{Prev: 0}}, 1)
	step("1/claim/e", Record{Claim: &claim{Prev: 7}}, 2)
	step("1/plan/7/a", Record{Plan: &Plan{}}, 2) // a zombie's
	step("1/plan/8/a", Record{Plan: &Plan{}}, 0)
	step("1/claim/f", Record{Claim: &claim{Prev: 8}}, 1)
	step("1/plan/11/a", Record{Plan: &Plan{}}, 1) // it has one
	step("1/chunk/11/a", Record{Chunk: &Chunk{N: 0}}, 0)
	step("1/claim/g", Record{Claim: &claim{Prev: 11}}, 1)
	step("1/chunk/14/a", Record{Chunk: &Chunk{N: 0}}, 1) // it has that
	step("1/end/14/a", Record{End: &End{State: StateFailed}}, 0)
	step("1/resume/a", Record{Resume: &resume{}}, 0)
	step("1/claim/h", Record{Claim: &claim{Prev: 0}}, 0)
	step("1/claim/i", Record{Claim: &claim{Prev: 18}}, 1)
}

// TestCallsOfAllRuns: the run that failed and was resumed before anybody told
// that it ended is told as ended.
func TestCallsOfAllRuns(t *testing.T) {
	t.Parallel()
	first, second, third := uuid.UUID{1}, uuid.UUID{2}, uuid.UUID{3}
	records := []struct {
		key string
		r   Record
	}{
		{"1/spec", Record{Spec: &Spec{Job: first}}},
		{"1/claim/a", Record{Claim: &claim{}}},
		{"1/end/2/a", Record{End: &End{State: StateFailed, Reason: "full"}}},
		{"1/resume/a", Record{Resume: &resume{Call: second}}},
		{"1/claim/b", Record{Claim: &claim{}}},
		{"1/end/5/a", Record{End: &End{State: StateFailed, Reason: "still full"}}},
		{"1/resume/b", Record{Resume: &resume{Call: third}}},
		{"1/cancel/a", Record{Cancel: &by{}}},
		{"1/expire/a", Record{Expire: &by{}}},
	}
	var events []event
	for i, r := range records {
		events = append(events, at(r.key, int64(i+1), r.r))
	}
	j := compacted(events)
	var got []string
	for _, c := range j.Calls() {
		got = append(got, fmt.Sprintf("%.2s %s %d-%d %d ms %s", c.CallID, c.State, c.SubmittedDate, c.UpdatedDate, c.DurationMs, c.Reason))
	}
	want := []string{
		"01 Queued 1-1 0 ms ", "01 Running 1-2 0 ms ", "01 Finished 1-3 1 ms Failed: full",
		"02 Queued 4-4 0 ms ", "02 Running 4-5 0 ms ", "02 Finished 4-6 1 ms Failed: still full",
		"03 Queued 7-7 0 ms ", "03 Finished 7-8 0 ms Cancelled",
	}
	if diff := gocmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	if diff := gocmp.Diff(j.RunCalls(), j.Calls()[6:]); diff != "" {
		t.Errorf("the last run's are others:\n%s", diff)
	}
}

// TestARangeIsWhatWasAskedFor: what is kept bounds it not.
func TestARangeIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	start := func(ms int64) *int64 { return &ms }
	for _, c := range []struct {
		start   *int64
		from    int64
		clipped bool
	}{
		{nil, sqlgen.MinInstant, false},
		{start(999), 999, true},
		{start(1000), 1000, false},
		{start(-1 << 62), sqlgen.MinInstant, true},
	} {
		s := Spec{Start: c.start, KeptSince: 1000}
		if s.From() != c.from || s.Clipped() != c.clipped {
			t.Errorf("from %d, clipped %v, want %d, %v", s.From(), s.Clipped(), c.from, c.clipped)
		}
	}
}
