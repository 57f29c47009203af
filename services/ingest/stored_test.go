package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/stored"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// tracker opens one on the pipeline's broker, which shares the test's clock.
func (p *pipeline) tracker() *stored.Tracker {
	p.t.Helper()
	tr, err := stored.Open(stored.Config{Kafka: p.cfg.Kafka, Group: p.cfg.Group}, zaptest.NewLogger(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(tr.Close)
	return tr
}

// completeFrom waits until the watermark is at from or later.
func (p *pipeline) completeFrom(tr *stored.Tracker, from time.Time) {
	p.t.Helper()
	p.completeOf(tr, stored.Events, from)
}

func (p *pipeline) completeOf(tr *stored.Tracker, of stored.Kind, from time.Time) {
	p.t.Helper()
	p.until("the watermark to reach "+from.String(), func() (bool, string) {
		upTo, err := tr.CompleteUpTo(p.t.Context(), of)
		return err == nil && !upTo.Before(from), fmt.Sprint(upTo, err)
	})
}

// upTo is the watermark of a tracker that is new, once the broker has a
// coordinator for groups.
func (p *pipeline) upTo() (upTo time.Time, err error) {
	p.t.Helper()
	tr := p.tracker()
	p.until("a coordinator", func() (bool, string) {
		upTo, err = tr.CompleteUpTo(p.t.Context(), stored.Events)
		return !errors.Is(err, kerr.CoordinatorNotAvailable), fmt.Sprint(err)
	})
	return upTo, err
}

// produceOne writes a value and returns when it was appended.
func (p *pipeline) produceOne(topic string, partition int32, value []byte) time.Time {
	p.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Value: value}
	if err := p.kafka.ProduceSync(p.t.Context(), r).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
	// The producer's own idea of the time may be another.
	read, err := kafka.Open(p.t.Context(), p.cfg.Kafka, zaptest.NewLogger(p.t),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(r.Offset)}}))
	if err != nil {
		p.t.Fatal(err)
	}
	defer read.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	rs := read.PollFetches(ctx).Records()
	if len(rs) == 0 {
		p.t.Fatal("the record is not there")
	}
	return rs[0].Timestamp
}

func (p *pipeline) positions(tr *stored.Tracker) map[string]int64 {
	p.t.Helper()
	all, err := tr.Positions(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	next := map[string]int64{}
	for at, n := range all {
		if at.TopicID != p.topicID(at.Topic) {
			p.t.Errorf("%s has the id %s", at, at.TopicID)
		}
		next[at.String()] = n
	}
	return next
}

func TestNothingToStoreIsCompleteNow(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	tr := p.tracker()
	p.completeFrom(tr, time.Now()) // empty topics, and a group that never was
	if got := p.positions(tr); len(got) != 8 || got[pm+"/0"] != 0 {
		t.Errorf("got %v, want 0 for eight partitions", got)
	}
}

// TestAPICallsHaveAWatermarkOfTheirOwn: neither kind holds the other's, and signs
// of life, of which nothing is stored, hold none.
func TestAPICallsHaveAWatermarkOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	tr := p.tracker()
	p.completeOf(tr, stored.Calls, time.Now())
	first := p.produceOne(audit.APICallsTopic, 0, call(1, audit.StateRunning))
	p.produce(audit.APICallsTopic, 0, call(1, audit.StateRunning, func(c *audit.APICall) { c.Heartbeat = true }))
	p.until("the watermark of calls to stand at the first", func() (bool, string) {
		upTo, err := tr.CompleteUpTo(t.Context(), stored.Calls)
		return err == nil && upTo.Equal(first), fmt.Sprint(upTo, err)
	})
	p.completeFrom(tr, time.Now())
	if upTo, err := tr.CompleteUpTo(t.Context(), stored.Calls); err != nil || !upTo.Equal(first) {
		t.Fatalf("got %v, %v; want the first call's time, %v", upTo, err, first)
	}
	p.start()
	p.completeOf(tr, stored.Calls, time.Now())
}

func TestRecordsThatNobodyStoresHoldTheWatermark(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	first := p.produceOne(pm, 1, event(1))
	p.produce(pm, 1, event(2))
	upTo, err := p.upTo()
	if err != nil || !upTo.Equal(first) {
		t.Fatalf("got %v, %v; want the first record's time, %v", upTo, err, first)
	}
	p.start()
	p.stored(2)
	p.completeFrom(p.tracker(), time.Now())
}

func TestTheWatermarkWaitsForTheEngine(t *testing.T) {
	t.Parallel()
	engine := testenv.NewEngine(t)
	p := newPipeline(t, engine.Config(), "PM", "VM")
	p.start()
	tr := p.tracker()
	p.produce(pm, 0, event(1), []byte("a dead letter"))
	p.stored(1)
	p.completeFrom(tr, time.Now())
	engine.Kill()
	left := p.produceOne(pm, 0, event(2))
	p.produce(pm, 0, event(3))
	p.completeFrom(tr, left)
	for _, tr := range []*stored.Tracker{tr, p.tracker()} { // one that knows, and one that comes new
		p.completeFrom(tr, left)
		for range 8 { // each look is a new one
			<-time.After(300 * time.Millisecond)
			if upTo, err := tr.CompleteUpTo(t.Context(), stored.Events); err != nil || !upTo.Equal(left) {
				t.Fatalf("got %v, %v; want it to stand at the first record that is not stored, %v", upTo, err, left)
			}
		}
	}
	if got := p.positions(tr)[pm+"/0"]; got != 2 {
		t.Errorf("the stored position is %d, want 2", got)
	}
	engine.Start()
	p.stored(3)
	p.completeFrom(tr, time.Now())
	if got := p.positions(tr)[pm+"/0"]; got != 4 {
		t.Errorf("the stored position is %d, want 4", got)
	}
}

func TestDeadLettersAreComplete(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.start()
	tr := p.tracker()
	p.produce(pm, 0, []byte("no event"))
	p.deadLetters(1)
	p.completeFrom(tr, time.Now())
	if got := p.positions(tr)[pm+"/0"]; got != 1 {
		t.Errorf("the stored position is %d, want 1", got)
	}
}

func TestATopicMadeAnewIsNotStoredYet(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	stop := p.start()
	tr := p.tracker()
	p.produce(pm, 0, event(1), event(2), event(3))
	p.stored(3)
	p.committed()
	p.completeFrom(tr, time.Now())
	stop()

	before := p.topicID(pm)
	if _, err := p.admin.DeleteTopics(t.Context(), pm); err != nil {
		t.Fatal(err)
	}
	p.until("the topic to be made anew", func() (bool, string) {
		topics := topic.Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: 365 * 24 * time.Hour}
		_, err := topic.Ensure(t.Context(), p.kafka, topics.Specs())
		return err == nil && p.topicID(pm) != before, fmt.Sprint(err)
	})
	p.kafka.PurgeTopicsFromClient(pm)
	p.completeFrom(tr, time.Now())
	first := p.produceOne(pm, 0, event(4))
	for what, tr := range map[string]*stored.Tracker{"the old tracker": tr, "a new one": p.tracker()} {
		p.until(what+" to see the record", func() (bool, string) {
			upTo, err := tr.CompleteUpTo(t.Context(), stored.Events)
			return err == nil && upTo.Equal(first), fmt.Sprint(upTo, err)
		})
		if got := p.positions(tr)[pm+"/0"]; got != 0 {
			t.Errorf("%s: the stored position is %d, want 0", what, got)
		}
	}
	p.start()
	p.stored(4)
	p.completeFrom(tr, time.Now())
}

func TestAnnouncementsRunAheadOfCommits(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	// It looks at a group that never commits: all it knows, it has heard.
	tr, err := stored.Open(stored.Config{Kafka: p.cfg.Kafka, Group: "nobody"}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	p.completeFrom(tr, time.Now())
	announce := func(a topic.Announcement) {
		t.Helper()
		if err := p.kafka.ProduceSync(t.Context(), &kgo.Record{Topic: topic.Ingested, Key: a.Key(), Value: a.Value()}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	a := topic.Announcement{Topic: pm, TopicID: p.topicID(pm), Partition: 1, Next: 5, AppendedAt: time.Now().UnixMilli()}
	p.until("it to listen", func() (bool, string) {
		announce(a)
		n := p.positions(tr)[pm+"/1"]
		return n == 5, fmt.Sprint(n)
	})

	heard := func() int64 { return p.positions(tr)[pm+"/0"] }
	p.produce(pm, 0, event(1), event(2))
	if n := heard(); n != 0 {
		t.Errorf("the stored position is %d before ingest has begun", n)
	}
	p.start()
	p.stored(2)
	p.until("the announcement", func() (bool, string) { n := heard(); return n == 2, fmt.Sprint(n) })
	p.completeFrom(tr, time.Now())

	a.Partition, a.Next = 0, 7
	other := a
	other.TopicID[0]++
	other.Next = 9
	announce(other)
	announce(a)
	p.until("an announcement beyond the commit", func() (bool, string) { n := heard(); return n == 7, fmt.Sprint(n) })
}

func TestWithoutKafkaNobodyKnows(t *testing.T) {
	t.Parallel()
	tr, err := stored.Open(stored.Config{Kafka: kafka.Config{Addr: []string{"127.0.0.1:1"}}, Group: "g"}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if upTo, err := tr.CompleteUpTo(t.Context(), stored.Events); err == nil {
		t.Errorf("got %v", upTo)
	}
}

// TestEverythingBeforeTheWatermarkIsInTheTable: events flow, replicas come and
// go. Whatever the watermark says, at every look the table has all records that
// were appended before it, and the watermark does not move backwards.
func TestEverythingBeforeTheWatermarkIsInTheTable(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM", "VM")
	p.cfg.Limits.BatchRows = 200
	first := p.start()
	tr := p.tracker()

	p.completeFrom(tr, time.Now())

	// Every record's append time, as a reader of the log sees it.
	log, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.ConsumeTopics(pm), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	const rounds, perRound = 40, 250
	stop := make(chan struct{})
	type look struct {
		upTo time.Time
		rows uint64
	}
	var looks []look
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			upTo, err := tr.CompleteUpTo(t.Context(), stored.Events)
			if err != nil {
				t.Errorf("the watermark is unknown: %v", err)
				return
			}
			var rows uint64
			if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM audit_events WHERE appended_at < fromUnixTimestamp64Milli({upTo:Int64})", named("upTo", fmt.Sprint(upTo.UnixMilli()))).Scan(&rows); err != nil {
				t.Error(err)
				return
			}
			looks = append(looks, look{upTo, rows})
		}
	})
	var second func()
	for round := range rounds {
		switch round {
		case 10:
			second = p.start()
		case 25:
			first()
		}
		values := make([][]byte, perRound)
		for i := range values {
			values[i] = event(round*perRound + i)
		}
		p.produce(pm, int32(round%2), values...)
	}
	p.stored(rounds * perRound)
	p.completeFrom(tr, time.Now())
	close(stop)
	watching.Wait()
	second()

	var appended []time.Time
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for len(appended) < rounds*perRound {
		fetches := log.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { appended = append(appended, r.Timestamp) })
	}
	partial := 0
	for i, l := range looks {
		var want uint64
		for _, at := range appended {
			if at.Before(l.upTo) {
				want++
			}
		}
		if l.rows < want {
			t.Errorf("look %d: %d rows of %d that were appended before %v", i, l.rows, want, l.upTo)
		}
		if i > 0 && l.upTo.Before(looks[i-1].upTo) {
			t.Errorf("look %d: the watermark moved back from %v to %v", i, looks[i-1].upTo, l.upTo)
		}
		if want > 0 && want < uint64(len(appended)) {
			partial++
		}
	}
	if partial < 10 {
		t.Errorf("only %d looks of %d fell between the first and the last record", partial, len(looks))
	}
}

// commitAt commits an offset as ingest does.
func (p *pipeline) commitAt(partition int32, offset int64, metadata string) {
	p.t.Helper()
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: pm, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: metadata})
	if err := p.admin.CommitAllOffsets(p.t.Context(), p.cfg.Group, os); err != nil {
		p.t.Fatal(err)
	}
}

// drop has Kafka drop what is before an offset, as retention does.
func (p *pipeline) drop(partition int32, before int64) {
	p.t.Helper()
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: pm, Partition: partition, At: before})
	rs, err := p.admin.DeleteRecords(p.t.Context(), os)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestWhatKafkaDropped(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.produce(pm, 0, event(1))
	p.produce(pm, 0, event(2))
	left := p.produceOne(pm, 0, event(3))
	p.drop(0, 2)
	if upTo, err := p.upTo(); err != nil || !upTo.Equal(left) {
		t.Errorf("without a commit: got %v, %v; want the time of what is left, %v", upTo, err, left)
	}
	p.commitAt(0, 1, marker{topicID: p.topicID(pm)}.String())
	if upTo, err := p.upTo(); err == nil || !strings.Contains(err.Error(), "dropped") {
		t.Errorf("with records dropped before they were stored: got %v, %v; want an error", upTo, err)
	}
	p.drop(0, 3)
	p.commitAt(0, 3, "") // an operator gives them up
	p.completeFrom(p.tracker(), time.Now())
}

func TestOnlyCommitsOfIngestCount(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.produce(pm, 0, event(1), event(2))
	tr := p.tracker()
	for metadata, want := range map[string]int64{
		marker{topicID: p.topicID(pm)}.String():                                                      1,
		marker{topicID: p.topicID(pm), pending: &pendingRange{first: 1, last: 1, count: 1}}.String(): 1,
		marker{topicID: p.topicID(topic.DeadLetter)}.String():                                        0,
		"of somebody else": 0,
		"":                 1,
	} {
		p.commitAt(0, 1, metadata)
		if got := p.positions(tr)[pm+"/0"]; got != want {
			t.Errorf("with the metadata %q: got %d, want %d", metadata, got, want)
		}
	}
}

func TestMarksOfTransactionsAreNothingToStore(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	cl, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: pm, Value: event(1)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.stored(1)
	p.completeFrom(p.tracker(), time.Now())
}

func TestAnnouncementsThatFailHarmNothing(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	if _, err := p.admin.DeleteTopics(t.Context(), topic.Ingested); err != nil {
		t.Fatal(err)
	}
	tr := p.tracker()
	p.start()
	for i := range 20 {
		p.produce(pm, 0, event(i))
	}
	p.stored(20)
	p.committed()
	p.completeFrom(tr, time.Now())
	p.until("the failures to be counted", func() (bool, string) {
		n := p.gauge("auditrail_ingest_announcement_failures_total")
		return n > 0, fmt.Sprint(n)
	})
}
