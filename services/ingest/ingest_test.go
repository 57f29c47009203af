package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const pm = "audit.events.pm.v1"

func TestEventsAreStoredOnceAcrossARestart(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	stop := p.start()
	for i := range 300 {
		p.produce(pm, int32(i%2), event(i))
	}
	p.stored(300)
	p.committed()
	stop()

	for i := range 200 { // while nobody is there
		p.produce("audit.events.vm.v1", int32(i%2), event(1000+i, func(e *audit.Event) { e.ModuleCode = "VM" }))
	}
	p.start()
	p.stored(500)
	p.committed()
}

func TestRecordsOfBeforeTheFirstStartAreStored(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.produce(pm, 0, event(1), event(2))
	p.produce(pm, 1, event(3))
	p.start()
	p.stored(3)
}

func TestAStopInTheMiddleLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	const n = 20_000
	values := make([][]byte, n)
	for i := range values {
		values[i] = event(i)
	}
	for range 4 {
		stop := p.start()
		p.produce(pm, 0, values[:n/4]...)
		values = values[n/4:]
		stop()
	}
	p.start()
	p.stored(n)
	p.committed()
}

func TestPartitionsMoveWhileEventsFlow(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.cfg.Limits.BatchRows = 300
	first := p.start()
	const rounds, perRound = 60, 500
	var second, third func()
	for round := range rounds {
		switch round {
		case 15:
			second = p.start()
		case 30:
			third = p.start()
		case 40:
			first()
		case 50:
			second()
		}
		values := make([][]byte, perRound)
		for i := range values {
			values[i] = event(round*perRound + i)
		}
		p.produce(pm, int32(round%2), values...)
	}
	p.stored(rounds * perRound)
	p.committed()
	third()
}

func TestWrongTopicConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	if _, err := p.admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "message.timestamp.type", Value: kadm.StringPtr("CreateTime")}}, pm); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), p.cfg, Deps{Log: zaptest.NewLogger(t), Ops: ops.New(zaptest.NewLogger(t))}); err == nil || !strings.Contains(err.Error(), "LogAppendTime") {
		t.Errorf("got %v, want what must be altered", err)
	}
}

func TestEveryFieldArrives(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	now := time.Now().UnixMilli()
	e := audit.Event{
		ID: "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9", AuditEnabledAppID: 21, ApplicationName: "pm", ModuleCode: "PM", ModuleName: "Patch Management",
		UserName: "Jack", UserRole: "Manager", UserUUID: "1c9a83aa-20p8-e972-8036-899e5e608855", CustomerUUID: "1c9a83aa-20p8-e972-8036-899e5e608855",
		Client: "Chrome-Browser", SourceIP: "191.160.45.90", CreatedDate: now, TargetType: "User", TargetName: "John", Action: "Add", Status: "Success",
		AuditComment: "Created new \"User\"\n\u00e9", ExternalChangeLink: "http://example.com/key?a=1&b=2", EndpointType: audit.EndpointWebUI,
		BusinessUnit: "Europe", Origin: audit.OriginAutoUpdate, RequestID: "r-1", Extra: []byte(`{"ticket":{"id":7}}`),
	}
	if err := e.SetChanges([]audit.Change{{Field: "role", Before: "Reader", After: "Manager"}}); err != nil {
		t.Fatal(err)
	}
	value, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	p.produce(pm, 1, value)
	p.stored(1)
	var got string
	if err := p.conn.QueryRow(t.Context(), `SELECT formatRowNoNewline('JSONCompactEachRow', id, audit_enabled_app_id, application_name, module_code, module_name, user_name,
		user_role, user_uuid, customer_uuid, client, toString(source_ip), toUnixTimestamp64Milli(created_date) - {now:Int64}, target_type, target_name, action, status,
		audit_comment, external_change_link, endpoint_type, business_unit, origin, changes, request_id, extra, topic_id = {topic:UUID}, kafka_partition, kafka_offset,
		abs(dateDiff('second', appended_at, now64(3))) < 600, abs(dateDiff('second', ingested_at, now64(3))) < 600, retention_days) FROM audit_events`,
		named("now", fmt.Sprint(now)), named("topic", p.topicID(pm).String())).Scan(&got); err != nil {
		t.Fatal(err)
	}
	want := `["eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9",21,"pm","PM","Patch Management","Jack","Manager",` +
		`"1c9a83aa-20p8-e972-8036-899e5e608855","1c9a83aa-20p8-e972-8036-899e5e608855","Chrome-Browser","::ffff:191.160.45.90",0,` +
		`"User","John","Add","Success","Created new \"User\"\né","http:\/\/example.com\/key?a=1&b=2","Web UI",` +
		`"Europe","auto-update","[{\"field\":\"role\",\"before\":\"Reader\",\"after\":\"Manager\"}]","r-1","{\"ticket\":{\"id\":7}}",` +
		`1,1,0,1,1,400]`
	if diff := cmp.Diff(strings.ReplaceAll(got, ", ", ","), want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

func TestBrokenRecordsAreDeadLetteredAndTheirNeighboursStored(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.start()
	broken := []struct {
		reason string
		value  []byte
	}{
		{audit.RuleJSON, []byte("this is not JSON")},
		{audit.RuleJSON, nil},
		{audit.RuleRequired, event(1, func(e *audit.Event) { e.Action = "" })},
		{audit.RuleRecord, event(2, func(e *audit.Event) { e.Extra = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 300<<10)) })},
		{audit.RuleTooNew, event(3, func(e *audit.Event) { e.CreatedDate = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() })},
		{audit.RuleTooOld, event(4, func(e *audit.Event) { e.CreatedDate = time.Now().AddDate(0, 0, -401).UnixMilli() })},
		{audit.RuleTopic, event(5, func(e *audit.Event) { e.ModuleCode = "VM" })},
		{audit.RuleLoginAPI, event(6, func(e *audit.Event) { e.Action, e.EndpointType = "Login", audit.EndpointAPI })},
		{audit.RuleUTF8, bytes.Replace(event(7), []byte("Jack"), []byte("J\xffck"), 1)},
		{audit.RuleDuplicate, bytes.Replace(event(8), []byte(`{`), []byte(`{"action":"Add",`), 1)},
	}
	for i, b := range broken {
		p.produce(pm, 0, event(100+i), b.value)
	}
	p.stored(uint64(len(broken)))
	p.committed()
	dead := p.deadLetters(len(broken))
	for i, b := range broken {
		offset := fmt.Sprint(2*i + 1)
		r := dead[offset]
		if r == nil {
			t.Errorf("%s: no dead letter for offset %s", b.reason, offset)
			continue
		}
		if !bytes.Equal(r.Value, b.value) {
			t.Errorf("%s: the dead letter's value is not the record's", b.reason)
		}
		got := []string{headerOf(r, topic.HeaderReason), headerOf(r, topic.HeaderTopic), headerOf(r, topic.HeaderTopicID), headerOf(r, topic.HeaderPartition), headerOf(r, topic.HeaderOffset)}
		if diff := cmp.Diff(got, []string{b.reason, pm, p.topicID(pm).String(), "0", offset}); diff != "" {
			t.Errorf("%s: headers -got +want:\n%s", b.reason, diff)
		}
		if headerOf(r, topic.HeaderProblem) == "" || headerOf(r, topic.HeaderAppendedAt) == "" {
			t.Errorf("%s: the problem in words or the append time is missing", b.reason)
		}
	}
}

func TestRecordsWithoutIDGetTheSameOneInEveryReplay(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	p.produce(pm, 1, event(1), event(2, func(e *audit.Event) { e.ID = "" }))
	p.stored(2)
	want, err := eventID(&audit.Event{}, topic.Position{TopicID: p.topicID(pm), Partition: 1, Offset: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got uuid.UUID
	if err := p.conn.QueryRow(t.Context(), "SELECT id FROM audit_events WHERE kafka_offset = 1").Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("got id %s, want %s", got, want)
	}
}

func TestEngineKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	p := newPipeline(t, e.Config(), "PM")
	p.cfg.Limits.BatchRows = 500 // many inserts for the kills to meet
	stop := p.start()
	const n = 30_000
	for i := 0; i < n; i += 1000 {
		values := make([][]byte, 1000)
		for k := range values {
			// Three months: one insert makes several parts.
			values[k] = event(i+k, func(e *audit.Event) { e.CreatedDate -= int64((i + k) % 3 * 31 * 24 * 3600_000) })
		}
		p.produce(pm, int32(i/1000%2), values...)
		if i == n/3 || i == 2*n/3 {
			e.Kill()
			e.Start()
		}
	}
	p.stored(n)
	p.committed()
	stop()
}

func TestUnreachableEngineIsSaidAndOldSchemaRefused(t *testing.T) {
	t.Parallel()
	e := testenv.ClickHouse(t).Config()
	cfg := Config{Kafka: testenv.Kafka(t), Store: e, Group: "g", RetentionDays: 400, Limits: Limits{BatchRows: 1, BatchBytes: 1 << 20, FlushAge: 1, InsertsPerSecond: 1, Memory: 1 << 20, Connections: 1}}
	err := Run(t.Context(), cfg, Deps{})
	if err == nil || !strings.Contains(err.Error(), "run auditrail migrate") {
		t.Errorf("on an empty database Run returned %v, want a sentence that says what to run", err)
	}
	cfg.Store.Addr = []string{"127.0.0.1:1"}
	if err := Run(t.Context(), cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("without an engine Run returned %v, want the address", err)
	}
}

// The crash tests leave Kafka and the table as a process that died at one of
// the steps of lane.store leaves them, and look at what the next one makes of
// it.

func TestDiedBeforeTheInsert(t *testing.T) {
	t.Parallel()
	eachStream(t, func(t *testing.T, p *pipeline, values [][]byte) {
		t.Helper()
		p.leavePending(values, 0, 59)
		p.recovers()
	})
}

func TestDiedAfterTheInsertAndBeforeTheCommit(t *testing.T) {
	t.Parallel()
	eachStream(t, func(t *testing.T, p *pipeline, values [][]byte) {
		t.Helper()
		p.leavePending(values, 0, 59)
		p.insertAs(values, 0, 59, func(int) bool { return true })
		p.recovers()
	})
}

func TestDiedWhenSomeMonthsOfTheInsertHadLanded(t *testing.T) {
	t.Parallel()
	eachStream(t, func(t *testing.T, p *pipeline, values [][]byte) {
		t.Helper()
		p.leavePending(values, 10, 59)
		p.insertAs(values, 0, 9, func(int) bool { return true }) // the batch before
		p.insertAs(values, 10, 59, func(i int) bool { return i%2 == 0 })
		p.recovers()
	})
}

func TestDiedWhenSomeMonthsHadLandedAndTheOffsetsWereLost(t *testing.T) {
	t.Parallel()
	eachStream(t, func(t *testing.T, p *pipeline, values [][]byte) {
		t.Helper()
		p.insertAs(values, 0, 9, func(int) bool { return true })
		p.insertAs(values, 10, 59, func(i int) bool { return i%2 == 0 })
		p.recovers()
	})
}

// The engine writes a token down before the part is in place. Died in between,
// it takes every repetition for a duplicate of rows that it does not have.
func TestDiedWithTheTokenWrittenAndTheRowsNot(t *testing.T) {
	t.Parallel()
	eachStream(t, func(t *testing.T, p *pipeline, values [][]byte) {
		t.Helper()
		p.leavePending(values, 0, 59)
		p.insertAs(values, 0, 59, func(int) bool { return true })
		// A part's rows go, its token stays: as after that death.
		if err := p.conn.Exec(t.Context(), "DELETE FROM "+p.stream().table+" WHERE kafka_offset % 2 = 1 SETTINGS lightweight_deletes_sync = 2"); err != nil {
			t.Fatal(err)
		}
		p.recovers()
	})
}

func TestRecordsThatAreNotThoseNamedStopTheLane(t *testing.T) {
	t.Parallel()
	p, values := newCrash(t)
	p.leavePending(values[:59], 0, 59) // named with one record less
	p.produce(pm, 1, event(1000))
	p.start()
	p.until("/readyz to name the partition", func() (bool, string) {
		said := p.readyz()
		return strings.Contains(said, "partition "+pm+"/0 ") && strings.Contains(said, errMismatch.Error()), said
	})
	p.stored(1) // the other partition goes on, this one stands still
	var at int32
	if err := p.conn.QueryRow(t.Context(), "SELECT toInt32(kafka_partition) FROM audit_events").Scan(&at); err != nil || at != 1 {
		t.Errorf("the row is of partition %d, %v; want 1", at, err)
	}
}

// eachStream runs a crash test of events and one of API calls.
func eachStream(t *testing.T, test func(t *testing.T, p *pipeline, values [][]byte)) {
	t.Helper()
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		p, values := newCrash(t)
		test(t, p, values)
	})
	t.Run("API calls", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
		p.topic = audit.APICallsTopic
		values := hundredCalls()
		p.produce(p.topic, 0, values...)
		test(t, p, values)
		p.latest(values...)
	})
}

// newCrash is a pipeline with a hundred events in partition 0, in Kafka alone.
func newCrash(t *testing.T) (p *pipeline, values [][]byte) {
	t.Helper()
	p = newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	values = p.hundred()
	p.produce(pm, 0, values...)
	return p, values
}

// recovers starts ingest and waits until each of the hundred is stored once.
func (p *pipeline) recovers() {
	p.t.Helper()
	p.start()
	p.stored(100)
	p.committed()
}

// hundred events, every other one in the month before.
func (p *pipeline) hundred() [][]byte {
	values := make([][]byte, 100)
	for i := range values {
		values[i] = event(i, func(e *audit.Event) { e.CreatedDate -= int64(i % 2 * 31 * 24 * 3600_000) })
	}
	return values
}

// leavePending commits what step 1 of lane.store commits for the batch of
// partition 0 from first to last.
func (p *pipeline) leavePending(values [][]byte, first, last int64) {
	p.t.Helper()
	r := &pendingRange{first: first, last: last}
	for _, v := range values[first:min(int(last)+1, len(values))] {
		r.count++
		r.bytes += int64(len(v))
	}
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: p.topic, Partition: 0, At: first, LeaderEpoch: -1, Metadata: marker{topicID: p.topicID(p.topic), pending: r}.String()})
	if err := p.admin.CommitAllOffsets(p.t.Context(), p.cfg.Group, os); err != nil {
		p.t.Fatal(err)
	}
}

// insertAs inserts what step 4 inserts for that batch, less the rows that keep
// refuses.
func (p *pipeline) insertAs(values [][]byte, first, last int64, keep func(i int) bool) {
	p.t.Helper()
	in := p.bare()
	id := p.topicID(p.topic)
	l := newLane(in, partitionID{p.topic, 0}, in.streamOf(p.topic), id, ownership{})
	b := newBatch(l.stream)
	for i := first; i <= last; i++ {
		b.take(i, len(values[i]), 0)
		at := topic.Position{TopicID: id, Offset: i}
		if _, err := b.filler.read(l, &kgo.Record{Value: values[i], Timestamp: time.Now()}, at); err != nil {
			p.t.Fatal(err)
		}
		if keep(int(i)) {
			b.filler.add(at, time.Now().UnixMilli())
		}
	}
	b.rows.retain(func(string) uint16 { return p.cfg.RetentionDays })
	defer in.inserter.close()
	if err := in.inserter.once(p.t.Context(), target{table: l.stream.table, token: b.token(id, 0)}, b.rows.block, func(context.Context) error { return nil }); err != nil {
		p.t.Fatal(err)
	}
}

func TestHealthListsWhatFailsAndWhere(t *testing.T) {
	h := newHealth()
	h.failed("insert", "a/0", errors.New("away"))
	h.failed("insert", "b/1", errors.New("away too"))
	h.ok("insert", "a/1") // another lane's success changes nothing
	got := fmt.Sprint(h.check(t.Context()))
	if want := "insert a/0 has been failing for 0s: away\ninsert b/1 has been failing for 0s: away too"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.ok("insert", "a/0")
	h.clear("b/1")
	if err := h.check(t.Context()); err != nil {
		t.Errorf("got %v after all works again", err)
	}
}
