package ingest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// callsBegan is about when the calls of these tests came in.
var callsBegan = time.Now().Add(-time.Minute).UnixMilli()

// call is a valid record of call n in a state; edit changes it.
func call(n int, state string, edit ...func(*audit.APICall)) []byte {
	submitted := callsBegan + int64(n)
	c := audit.APICall{
		CallID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)).String(), CustomerUUID: fmt.Sprintf("customer-%d", n%3), ModuleCode: "PM",
		API: "api/v1/jobs", Method: "GET", State: state, SubmittedDate: submitted, UpdatedDate: submitted + 100*int64(audit.StateRank(state)),
		UserName: "Jack", UserUUID: "u1", SourceIP: "191.160.45.90", RequestID: fmt.Sprintf("request %d", n),
	}
	if state == audit.StateFinished {
		c.DurationMs, c.HTTPStatus = 200, 200
	}
	for _, f := range edit {
		f(&c)
	}
	b, err := c.AppendJSON(nil)
	if err != nil {
		panic(err) // the test's own record
	}
	return b
}

// hundredCalls are a hundred records of fifty calls, every other of which came
// in during the month before and goes on into this one.
func hundredCalls() (values [][]byte) {
	for n := range 50 {
		for _, state := range []string{audit.StateRunning, audit.StateFinished} {
			values = append(values, call(n, state, func(c *audit.APICall) {
				c.SubmittedDate -= int64(n % 2 * 31 * 24 * 3600_000)
				c.UpdatedDate -= int64(n / 2 % 2 * (n % 2) * 31 * 24 * 3600_000)
			}))
		}
	}
	return values
}

// latest fails unless api_calls has, of each call, the row that the model makes
// of the values.
func (p *pipeline) latest(values ...[]byte) {
	p.t.Helper()
	newest := map[string]audit.APICall{}
	version := func(c audit.APICall) [2]int64 { return [2]int64{int64(audit.StateRank(c.State)), c.UpdatedDate} }
	for _, v := range values {
		var c audit.APICall
		if err := json.Unmarshal(v, &c); err != nil {
			p.t.Fatal(err)
		}
		if c.Heartbeat {
			continue
		}
		if was, ok := newest[c.CallID]; !ok || slices.Compare(sliceOf(version(was)), sliceOf(version(c))) < 0 {
			newest[c.CallID] = c
		}
	}
	want := map[string]string{}
	for id, c := range newest {
		want[id] = fmt.Sprint(c.CustomerUUID, " ", c.State, " ", c.SubmittedDate, " ", c.UpdatedDate, " ", c.DurationMs, " ", c.HTTPStatus, " ", c.Reason, " ", c.RequestID)
	}
	rows, err := p.conn.Query(p.t.Context(), `SELECT toString(call_id), arrayStringConcat([customer_uuid, state, toString(toUnixTimestamp64Milli(submitted_date)),
		toString(toUnixTimestamp64Milli(updated_date)), toString(duration_ms), toString(http_status), reason, request_id], ' ') FROM api_calls FINAL`)
	if err != nil {
		p.t.Fatal(err)
	}
	defer rows.Close()
	got, n := map[string]string{}, 0
	for rows.Next() {
		var id, row string
		if err := rows.Scan(&id, &row); err != nil {
			p.t.Fatal(err)
		}
		got[id] = row
		n++
	}
	if err := rows.Err(); err != nil {
		p.t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" || n != len(want) {
		p.t.Errorf("%d rows of %d calls: -got +want:\n%s", n, len(want), diff)
	}
}

func sliceOf(v [2]int64) []int64 { return v[:] }

func (p *pipeline) exec(statement string) {
	p.t.Helper()
	if err := p.conn.Exec(p.t.Context(), statement); err != nil {
		p.t.Fatal(err)
	}
}

// newCallPipeline is a pipeline for API calls.
func newCallPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.topic = audit.APICallsTopic
	return p
}

// TestCallsAreStoredOnce: changes of state become rows, once; heartbeats do not;
// what breaks a rule, or says another thing of the same state, is a dead letter.
func TestCallsAreStoredOnce(t *testing.T) {
	t.Parallel()
	p := newCallPipeline(t)
	beat := func(c *audit.APICall) { c.Heartbeat, c.UpdatedDate = true, c.UpdatedDate+10_000 }
	good := [][]byte{
		call(1, audit.StateQueued), call(1, audit.StateRunning), call(1, audit.StateRunning, beat), call(1, audit.StateFinished),
		call(2, audit.StateBlockedRate, func(c *audit.APICall) { c.Reason, c.HTTPStatus = "300 calls an hour", 429 }),
		call(3, audit.StateRunning), call(3, audit.StateRunning, beat),
	}
	stop := p.start()
	p.produce(p.topic, 1, good...)
	p.produce(p.topic, 1,
		call(1, audit.StateRunning), // again
		call(1, audit.StateFinished, func(c *audit.APICall) { c.HTTPStatus = 500 }),
		call(4, audit.StateFinished, func(c *audit.APICall) { c.UpdatedDate = c.SubmittedDate - 1 }),
		[]byte(`{"callId":"x"`), event(1))
	p.stored(5)
	p.committed()
	p.latest(good...)
	dead := p.deadLetters(4)
	for offset, want := range map[string]string{"8": topic.ReasonConflict, "9": audit.RuleRange, "10": audit.RuleJSON, "11": audit.RuleUnknown} {
		if got := headerOf(dead[offset], topic.HeaderReason); got != want {
			t.Errorf("record %s is a dead letter for %q, want %q: %s", offset, got, want, headerOf(dead[offset], topic.HeaderProblem))
		}
	}
	if err := testutil.GatherAndCompare(p.ops.Registry, strings.NewReader(`
# HELP auditrail_ingest_heartbeats_total Records not stored because they only say that an API call goes on.
# TYPE auditrail_ingest_heartbeats_total counter
auditrail_ingest_heartbeats_total 2
`), "auditrail_ingest_heartbeats_total"); err != nil {
		t.Error(err)
	}
	stop()
	p.start()
	again := slices.Concat(good, [][]byte{call(3, audit.StateExpired)})
	p.produce(p.topic, 0, again...) // to another partition, in another process
	p.stored(6)
	p.committed()
	p.latest(again...)
}

// TestACallExpiresOnce: whoever writes an Expired record marks it as one that
// may be there already, and ingest looks whatever its date is.
func TestACallExpiresOnce(t *testing.T) {
	t.Parallel()
	p := newCallPipeline(t)
	p.cfg.Limits.LookUpFirst = 0
	expired := func(later int64) *kgo.Record {
		return &kgo.Record{Topic: p.topic, Value: call(1, audit.StateExpired, func(c *audit.APICall) { c.UpdatedDate += later }),
			Headers: []kgo.RecordHeader{{Key: audit.HeaderResent}}}
	}
	produce := func(rs ...*kgo.Record) {
		t.Helper()
		if err := p.kafka.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	stop := p.start()
	produce(expired(0))
	p.stored(1)
	p.committed()
	stop()
	p.start() // it has seen nothing
	produce(expired(0), expired(60_000))
	p.committed()
	p.stored(1)
	p.latest(expired(0).Value)
	if got := headerOf(p.deadLetters(1)["2"], topic.HeaderReason); got != topic.ReasonConflict {
		t.Errorf("another Expired of the call is a dead letter for %q, want %q", got, topic.ReasonConflict)
	}
}

// TestTheViewMissedWhatTheTableHas: the engine died, or failed, between the rows
// of an insert and what its view makes of them.
func TestTheViewMissedWhatTheTableHas(t *testing.T) {
	t.Parallel()
	t.Run("and ingest died, too", func(t *testing.T) {
		t.Parallel()
		p := newCallPipeline(t)
		values := hundredCalls()
		p.produce(p.topic, 0, values...)
		p.leavePending(values, 0, 59)
		p.exec("DETACH TABLE api_calls_latest")
		p.insertAs(values, 0, 59, func(int) bool { return true })
		p.exec("ATTACH TABLE api_calls_latest")
		p.latest() // nothing: the view was not there
		p.recovers()
		p.latest(values...)
	})
	t.Run("and an operator set the offset back", func(t *testing.T) {
		t.Parallel()
		p := newCallPipeline(t)
		values := hundredCalls()
		p.produce(p.topic, 0, values...)
		p.exec("DETACH TABLE api_calls_latest")
		p.insertAs(values, 0, 59, func(int) bool { return true })
		p.exec("ATTACH TABLE api_calls_latest")
		var os kadm.Offsets
		os.AddOffset(p.topic, 0, 0, -1) // nothing says what is pending
		if err := p.admin.CommitAllOffsets(t.Context(), p.cfg.Group, os); err != nil {
			t.Fatal(err)
		}
		p.recovers()
		p.latest(values...)
	})
	t.Run("and ingest repeats its insert", func(t *testing.T) {
		t.Parallel()
		p := newCallPipeline(t)
		p.exec("ALTER TABLE api_calls MODIFY SETTING table_readonly = 1")
		p.start()
		values := hundredCalls()
		p.produce(p.topic, 0, values...)
		p.until("the insert to fail at the view", func() (bool, string) {
			said := p.readyz()
			return strings.Contains(said, "insert "+p.topic+"/0 has been failing"), said
		})
		p.exec("ALTER TABLE api_calls RESET SETTING table_readonly")
		p.committed()
		p.latest(values...)
		p.stored(100)
	})
}

// TestTokensDoNotCollideInTheView: what two inserts make of the same values is
// kept twice if their tokens differ, and a repetition does no harm.
func TestTokensDoNotCollideInTheView(t *testing.T) {
	t.Parallel()
	p := newCallPipeline(t)
	values := hundredCalls()
	all := func(int) bool { return true }
	for range 2 {
		p.insertAs(values, 0, 59, all)
		p.stored(60)
		p.latest(values[:60]...)
	}
	p.exec("TRUNCATE TABLE api_calls")
	p.exec("TRUNCATE TABLE api_call_events")
	p.insertAs(values, 0, 58, all) // the same rows but one, under another token
	p.latest(values[:59]...)
	p.insertAs(values, 59, 99, all)
	p.latest(values...)
	p.stored(100)
}

// TestTheLatestStateIsThatOfTheModel, in whatever order changes of state come
// and however often, merged or not, with a process that ends in between.
func TestTheLatestStateIsThatOfTheModel(t *testing.T) {
	t.Parallel()
	p := newCallPipeline(t)
	random := rand.New(rand.NewPCG(7, 11)) // the same in every run
	lives := [][]string{
		{audit.StateRunning, audit.StateFinished},
		{audit.StateQueued, audit.StateRunning, audit.StateFinished},
		{audit.StateRunning, audit.StateExpired, audit.StateFinished}, // it was alive
		{audit.StateQueued, audit.StateExpired},
		{audit.StateQueued, audit.StateBlockedConcurrency},
		{audit.StateBlockedRate},
		{audit.StateQueued, audit.StateRunning},
	}
	const calls = 300
	var told, distinct [][]byte
	for n := range calls {
		for _, state := range lives[random.IntN(len(lives))] {
			v := call(n, state, func(c *audit.APICall) {
				c.SubmittedDate -= int64(n % 3 * 20 * 24 * 3600_000)
				c.UpdatedDate = c.SubmittedDate + random.Int64N(5)*1000 // ranks decide, whatever the clocks say
				c.Reason = state
			})
			distinct = append(distinct, v)
			for range 1 + random.IntN(3) {
				told = append(told, v)
			}
		}
	}
	random.Shuffle(len(told), func(i, j int) { told[i], told[j] = told[j], told[i] })
	stop := p.start()
	for i, part := range slices.Collect(slices.Chunk(told, len(told)/10)) {
		p.produce(p.topic, int32(i%2), part...)
		switch i {
		case 3:
			stop()
			stop = p.start()
		case 5:
			p.committed()
			p.exec("OPTIMIZE TABLE api_calls FINAL")
		}
	}
	p.committed()
	p.stored(uint64(len(distinct)))
	p.latest(distinct...)
	p.exec("OPTIMIZE TABLE api_calls FINAL")
	p.latest(distinct...)
	var rows uint64
	if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM api_calls").Scan(&rows); err != nil || rows != calls {
		t.Errorf("got %d rows after a full merge, %v; want %d", rows, err, calls)
	}
}

func TestEngineKilledWhileCallsAreStored(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	p := newPipeline(t, e.Config(), "PM")
	p.topic = audit.APICallsTopic
	p.cfg.Limits.BatchRows = 100 // many inserts for the kills to meet
	p.start()
	var values [][]byte
	for n := range 3000 {
		for _, state := range []string{audit.StateRunning, audit.StateFinished} {
			values = append(values, call(n, state, func(c *audit.APICall) { c.SubmittedDate -= int64(n % 3 * 31 * 24 * 3600_000) }))
		}
	}
	for i, part := range slices.Collect(slices.Chunk(values, 500)) {
		p.produce(p.topic, int32(i%2), part...)
		if i == 0 {
			p.stored(uint64(len(part))) // ingest has begun
		}
		if i == 3 || i == 8 {
			e.Kill()
			e.Start()
		}
	}
	p.stored(uint64(len(values)))
	p.committed()
	p.latest(values...)
}

// TestRetentionOfCalls: a choice of days counts for both tables.
func TestRetentionOfCalls(t *testing.T) {
	t.Parallel()
	p := newCallPipeline(t)
	table := p.choices()
	stop := p.start()
	old := func(c *audit.APICall) {
		c.CustomerUUID = awkward
		c.SubmittedDate -= 40 * 24 * 3600_000
		c.UpdatedDate -= 40 * 24 * 3600_000
	}
	values := [][]byte{call(0, audit.StateFinished), call(1, audit.StateFinished, old), call(2, audit.StateFinished, func(c *audit.APICall) { c.CustomerUUID = awkward })}
	p.produce(p.topic, 0, values...)
	p.stored(3)
	p.committed()
	stop()
	p.choose(table, awkward, 30)
	p.pass(p.reconciler(table))
	days := func() (got []string) {
		for _, name := range []string{"api_call_events", "api_calls"} {
			var rows string
			if err := p.conn.QueryRow(t.Context(), "SELECT arrayStringConcat(arraySort(groupArray(request_id || ':' || toString(retention_days))), ' ') FROM "+name).Scan(&rows); err != nil {
				t.Fatal(err)
			}
			got = append(got, rows)
		}
		return got
	}
	want := []string{"request 0:400 request 2:30", "request 0:400 request 2:30"}
	p.until("rows to be as chosen", func() (bool, string) {
		diff := cmp.Diff(days(), want)
		return diff == "", diff
	})
	p.start()
	p.produce(p.topic, 1, call(5, audit.StateFinished, func(c *audit.APICall) { c.CustomerUUID = awkward }))
	want = []string{"request 0:400 request 2:30 request 5:30", "request 0:400 request 2:30 request 5:30"}
	p.until("a new row to be as chosen", func() (bool, string) {
		diff := cmp.Diff(days(), want)
		return diff == "", diff
	})
}
