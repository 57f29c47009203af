package ingest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const vm = "audit.events.vm.v1"

// produceAgain writes a value with a header that says it is sent again.
func (p *pipeline) produceAgain(topic string, partition int32, header string, at string, values ...[]byte) {
	p.t.Helper()
	rs := make([]*kgo.Record, len(values))
	for i, v := range values {
		rs[i] = &kgo.Record{Topic: topic, Partition: partition, Value: v, Headers: []kgo.RecordHeader{{Key: header, Value: []byte(at)}}}
	}
	if err := p.kafka.ProduceSync(p.t.Context(), rs...).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

// leftOut waits until that many duplicates were counted, and checks that no
// more are.
func (p *pipeline) leftOut(want float64) {
	p.t.Helper()
	p.committed()
	if got := p.gauge("auditrail_ingest_duplicates_total"); got != want {
		p.t.Errorf("%v duplicates were counted, want %v", got, want)
	}
}

func TestAnEventSentTwiceIsStoredOnce(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.start()
	// In one batch, more than twice; in a batch of its own; in another partition.
	one, two := event(1), event(2)
	p.produce(pm, 0, one, two, one, one)
	p.stored(2)
	p.produce(pm, 0, two)
	p.produce(pm, 1, one, event(3))
	p.stored(3)
	p.leftOut(4)
}

func TestOneIDOfTwoCustomersIsTwoEvents(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	neill := event(1, func(e *audit.Event) { e.CustomerUUID = "o'neill\\" })
	p.produce(pm, 0, event(1), neill)
	p.produce(pm, 0, neill)
	p.produce(pm, 1, event(1, func(e *audit.Event) { e.CustomerUUID = "another" }), event(2))
	p.until("4 rows", func() (bool, string) {
		var rows uint64
		if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM audit_events").Scan(&rows); err != nil {
			return false, err.Error()
		}
		return rows == 4, fmt.Sprint(rows)
	})
	p.leftOut(1)
}

func TestOneIDWithTwoContentsIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.start()
	p.produce(pm, 0, event(1), event(2))
	p.stored(2)
	other := event(1, func(e *audit.Event) { e.AuditComment = "says something else" })
	later := event(2, func(e *audit.Event) { e.CreatedDate += 5000 })
	p.produce(pm, 0, other, event(3), later)
	p.stored(3)
	elsewhere := event(3, func(e *audit.Event) { e.ModuleCode = "VM" })
	p.produce(vm, 0, elsewhere)
	p.committed()
	p.stored(3)
	dead := p.deadLetters(3)
	for offset, want := range map[string][]byte{"2": other, "4": later, "0": elsewhere} {
		r := dead[offset]
		if r == nil {
			t.Fatalf("offset %s is no dead letter: %v", offset, dead)
		}
		if headerOf(r, topic.HeaderReason) != topic.ReasonConflict || headerOf(r, topic.HeaderProblem) != newEvents().conflict.Error() || !bytes.Equal(r.Value, want) {
			t.Errorf("offset %s: got %q with headers %v", offset, r.Value, r.Headers)
		}
	}
	p.leftOut(0)
}

func TestRecordsSentAgainAreLookedUpHoweverOld(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	stop := p.start()
	full := fullEvent(t)
	values := [][]byte{full, event(1), event(2)}
	p.produce(pm, 0, values...)
	p.stored(3)
	p.committed()
	stop()

	// The new process has seen none of them, and is past its first records.
	p.cfg.Limits.LookUpFirst = 0
	p.start()
	p.produceAgain(pm, 0, audit.HeaderResent, "", values...)
	p.produceAgain(pm, 0, audit.HeaderResent, "", event(3))
	p.stored(4)
	p.leftOut(3)
}

func TestAfterARestartTheFirstRecordsAreLookedUp(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	stop := p.start()
	two := event(2)
	p.produce(pm, 0, event(1), two)
	p.stored(2)
	p.committed()
	stop()
	p.start()
	p.produce(pm, 0, two, event(3))
	p.stored(3)
	p.leftOut(1)
}

func TestARedrivenRecordWithoutIDHasTheIDOfItsFirstPosition(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	nameless := event(1, func(e *audit.Event) { e.ID = "" })
	at := topic.Position{TopicID: uuid.New(), Partition: 3, Offset: 77}
	p.produceAgain(pm, 0, audit.HeaderRedriven, at.String(), nameless)
	p.stored(1)
	p.produceAgain(pm, 1, audit.HeaderRedriven, at.String(), nameless)
	p.produceAgain(pm, 1, audit.HeaderRedriven, "no position", event(2))
	p.stored(2)
	p.leftOut(1)
	want, err := eventID(&audit.Event{}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM audit_events WHERE id = {id:UUID}", named("id", want.String())).Scan(&n); err != nil || n != 1 {
		t.Errorf("got %d rows with id %s, %v; want 1", n, want, err)
	}
}

// The owner before had judged a record to be a duplicate, named the batch and
// died. Whoever makes the batch again must not take the record for one that is
// missing.
func TestDiedAfterADuplicateWasLeftOut(t *testing.T) {
	t.Parallel()
	t.Run("of the batch before", func(t *testing.T) {
		t.Parallel()
		p, values := newCrash(t)
		p.cfg.Limits.LookUpFirst = 0
		values = append(values, values[7], values[8])
		p.produce(pm, 0, values[100:]...)
		p.insertAs(values, 0, 99, func(int) bool { return true })
		p.leavePending(values, 100, 101)
		p.recovers()
		p.leftOut(2)
	})
	t.Run("of the same batch that had landed", func(t *testing.T) {
		t.Parallel()
		p, values := newCrash(t)
		p.cfg.Limits.LookUpFirst = 0
		values = append(values, values[7], values[8])
		p.produce(pm, 0, values[100:]...)
		p.insertAs(values, 0, 101, func(i int) bool { return i < 100 })
		p.leavePending(values, 0, 101)
		p.recovers()
		p.leftOut(2)
	})
	t.Run("of the same batch that had landed in part", func(t *testing.T) {
		t.Parallel()
		p, values := newCrash(t)
		p.cfg.Limits.LookUpFirst = 0
		values = append(values, values[7], values[8])
		p.produce(pm, 0, values[100:]...)
		p.insertAs(values, 0, 101, func(i int) bool { return i < 100 && i%2 == 0 })
		p.leavePending(values, 0, 101)
		p.recovers()
		p.leftOut(2)
	})
}

// The owner before had buried a record with the id of another and other content,
// of another time, stored that other, and died.
func TestDiedAfterAConflictWasBuried(t *testing.T) {
	t.Parallel()
	p, values := newCrash(t)
	p.cfg.Limits.LookUpFirst = 0
	values = append(values, event(7, func(e *audit.Event) { e.CreatedDate -= 90_000 }))
	p.produce(pm, 0, values[100])
	p.insertAs(values, 0, 100, func(i int) bool { return i < 100 })
	p.leavePending(values, 0, 100)
	p.recovers()
	if r := p.deadLetters(1)["100"]; r == nil || headerOf(r, topic.HeaderReason) != topic.ReasonConflict {
		t.Errorf("got %v", r)
	}
	p.leftOut(0)
}

// Two lanes of one process come across the same events at the same time.
func TestOneEventInTwoPartitionsIsStoredOnce(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.cfg.Limits.LookUpFirst = 0
	const n = 3000
	values := make([][]byte, n)
	for i := range values {
		values[i] = event(i)
	}
	p.produce(pm, 0, values...)
	p.produce(pm, 1, values...)
	p.start()
	p.stored(n)
	p.leftOut(n)
}

// Many conflicts, of records that came packed together.
func TestManyConflictsAreBuriedPieceByPiece(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.cfg.Limits.FlushAge = 200 * time.Millisecond
	p.start()
	const n = 3000
	values, others := make([][]byte, n), make([][]byte, n)
	for i := range values {
		values[i] = event(i)
		others[i] = event(i, func(e *audit.Event) { e.AuditComment = strings.Repeat("other ", 200) })
	}
	p.produce(pm, 0, values...)
	p.stored(n)
	p.produce(pm, 0, others...)
	p.produce(pm, 0, event(n))
	p.stored(n + 1)
	p.committed()
	dead := p.deadLetters(n)
	for i, value := range others {
		r := dead[fmt.Sprint(n+i)]
		if r == nil || !bytes.Equal(r.Value, value) || headerOf(r, topic.HeaderReason) != topic.ReasonConflict {
			t.Fatalf("offset %d: got %v", n+i, r)
		}
	}
	if got := p.gauge("auditrail_ingest_dead_letters_total"); got != n {
		t.Errorf("%v dead letters were counted, want %d", got, n)
	}
}

// A batch of many keys, and of many duplicates.
func TestManyRecordsSentAgain(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	// A session lost on a starved machine would have the batch judged, and its
	// duplicates counted, once more.
	p.cfg.SessionTimeout = time.Minute
	p.cfg.Limits.FlushAge = 200 * time.Millisecond
	p.start()
	const n = lookupKeys*3 + 10
	values := make([][]byte, n)
	for i := range values {
		values[i] = event(i)
	}
	p.produce(pm, 0, values...)
	p.stored(n)
	p.produceAgain(pm, 0, audit.HeaderResent, "", values...)
	p.produce(pm, 0, event(n))
	p.stored(n + 1)
	p.leftOut(n)
}

// fullEvent has every field, and what quoting may go wrong with.
func fullEvent(t *testing.T) []byte {
	t.Helper()
	e := audit.Event{
		ID: uuid.NewString(), AuditEnabledAppID: 21, ApplicationName: "pm'\\", ModuleCode: "PM", ModuleName: "Patch\x01 Management",
		UserName: "Ja'ck\t", UserRole: "Manager", UserUUID: "u", CustomerUUID: "c'\\'\n" + strings.Repeat("ü", 20), Client: "Chrome", SourceIP: "2001:db8::1",
		CreatedDate: time.Now().UnixMilli(), TargetType: "User", TargetName: "null \x00 byte", Action: "Add", Status: "Success",
		AuditComment: "Created \"User\"\n\u00e9", ExternalChangeLink: "http://example.com/key?a=1&b=2", EndpointType: audit.EndpointWebUI,
		BusinessUnit: "Europe", Origin: audit.OriginAutoUpdate, RequestID: "r-1", Extra: []byte(`{"ticket":{"id":7}}`),
	}
	if err := e.SetChanges([]audit.Change{{Field: "role", Before: "Reader", After: "Manager"}}); err != nil {
		t.Fatal(err)
	}
	value, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestRecentForgetsTheOldestOnly(t *testing.T) {
	t.Parallel()
	r := newRecent()
	ids := make([]uuid.UUID, 100_000)
	for i := range ids {
		ids[i] = uuid.New()
	}
	if known, _ := r.add(ids); len(known) > 2 { // one in half a billion
		t.Errorf("%d of %d new ids are known", len(known), len(ids))
	}
	if known, _ := r.add(ids); len(known) != len(ids) {
		t.Errorf("%d of %d ids are known, want all", len(known), len(ids))
	}
	if known, _ := r.add([]uuid.UUID{{}, {}}); !cmp.Equal(known, []int{1}) {
		t.Errorf("got %v, want the second of two", known)
	}
	random := rand.NewChaCha8([32]byte{1})
	for range 200 { // five times what it holds
		fresh := make([]uuid.UUID, 100_000)
		for i := range fresh {
			_, _ = random.Read(fresh[i][:]) // never fails
		}
		r.add(fresh)
	}
	if known, _ := r.add(ids); len(known) > len(ids)/100 {
		t.Errorf("%d of %d old ids are still known", len(known), len(ids))
	}
}
