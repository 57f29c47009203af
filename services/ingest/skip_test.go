package ingest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// generated makes an event one of origin auto-update.
func generated(customer string) func(*audit.Event) {
	return func(e *audit.Event) { e.CustomerUUID, e.Origin = customer, audit.OriginAutoUpdate }
}

// apart writes each value alone, later than the one before by the broker's
// clock, and returns when.
func (p *pipeline) apart(partition int32, values ...[]byte) (appended []time.Time) {
	p.t.Helper()
	for _, v := range values {
		p.produce(pm, partition, v)
		r := p.records(pm, partition)
		appended = append(appended, r[len(r)-1].Timestamp)
		p.until("the broker's clock to move on", func() (bool, string) { return time.Since(appended[len(appended)-1]) > 2*time.Millisecond, "" })
	}
	return appended
}

// records are those that Kafka holds of a partition.
func (p *pipeline) records(name string, partition int32) []*kgo.Record {
	p.t.Helper()
	return slices.DeleteFunc(p.readAll(name), func(r *kgo.Record) bool { return r.Partition != partition })
}

// switchedAt writes the record of a subscription whose switches begin to count
// at these times: off, on, off and so on.
func (p *pipeline) switchedAt(customer string, counts ...time.Time) {
	p.t.Helper()
	var s settings.Settings
	for _, at := range counts {
		s.AutoUpdateSwitches = append(s.AutoUpdateSwitches, settings.Moment(at.Add(-settings.SwitchDelay).UnixMilli()))
	}
	value, err := json.Marshal(s)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.kafka.ProduceSync(p.t.Context(), &kgo.Record{Topic: topic.Settings, Key: []byte(customer), Value: value}).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

// storedOffsetsOf lists the offsets of a partition that the table holds.
func (p *pipeline) storedOffsetsOf(partition int32) (offsets []int64) {
	p.t.Helper()
	if err := p.conn.QueryRow(p.t.Context(), "SELECT arraySort(groupArray(kafka_offset)) FROM audit_events WHERE topic_id = {t:UUID} AND kafka_partition = {p:UInt32}",
		named("t", p.topicID(pm).String()), named("p", fmt.Sprint(partition))).Scan(&offsets); err != nil {
		p.t.Fatal(err)
	}
	return offsets
}

// TestWhatIsSwitchedOffIsSkippedAndCounted, and a replay into an empty table
// decides alike, though the switch has moved on.
func TestWhatIsSwitchedOffIsSkippedAndCounted(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	invalid := []byte(strings.Replace(string(event(7, generated("a"))), `"action":"Add"`, `"action":""`, 1))
	at := p.apart(0,
		event(0, generated("a")),               // before the switch counts
		event(1, generated("a")),               // off: skipped
		event(2, of("a", 0)),                   // not generated
		event(3, generated("b")),               // of another subscription
		event(4, generated("a")),               // off: skipped
		event(5, generated("a")),               // on again
		event(6, generated("a")),               // off again: skipped
		invalid,                                // breaks a rule, so it is a dead letter
		event(8, generated("a"), of("a", 399)), // what happened long ago
		event(9, func(e *audit.Event) { generated("a")(e); e.Origin = "auto-updates" }),
	)
	p.switchedAt("a", at[1], at[5], at[6])
	want := []int64{0, 2, 3, 5, 9}
	stop := p.start()
	p.stored(uint64(len(want)))
	p.committed()
	if diff := cmp.Diff(p.storedOffsetsOf(0), want); diff != "" {
		t.Errorf("stored (-got +want)\n%s", diff)
	}
	if got := gaugeOf(t, p.ops, "auditrail_ingest_skipped_total"); got != 4 {
		t.Errorf("%v records were skipped, want 4", got)
	}
	if d := p.deadLetters(1); len(d) != 1 || d["7"] == nil {
		t.Errorf("dead letters %v, want the invalid event", d)
	}
	stop()

	if _, err := p.choices().Change(t.Context(), "a", func(s *settings.Settings) error {
		s.SetAutoUpdates(true)
		s.AuditSearches = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.Exec(t.Context(), "TRUNCATE TABLE audit_events"); err != nil {
		t.Fatal(err)
	}
	p.cfg.Group = "replay"
	p.start()
	p.stored(uint64(len(want)))
	p.committed()
	if diff := cmp.Diff(p.storedOffsetsOf(0), want); diff != "" {
		t.Errorf("stored by the replay (-got +want)\n%s", diff)
	}
}

// TestDiedAndSwitchedMeanwhile: a batch that was named is made again alike,
// whichever of its rows had landed, though the setting was switched in between.
func TestDiedAndSwitchedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, landed := range map[string]func(offset int) bool{
		"nothing had landed": func(int) bool { return false },
		"some had landed":    func(i int) bool { return i%2 == 0 },
		"all had landed":     func(int) bool { return true },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
			values := make([][]byte, 12)
			for i := range values {
				values[i] = event(i, generated("a"))
			}
			at := p.apart(0, values...)
			// As the process that died knew it: off for the records 4 to 7.
			off := func(i int) bool { return i >= 4 && i < 8 }
			p.switchedAt("a", at[4], at[8])
			p.leavePending(values, 0, 9)
			if keep := func(i int) bool { return !off(i) && landed(i) }; landed(0) {
				p.insertAs(values, 0, 9, keep)
			}
			if _, err := p.choices().Change(t.Context(), "a", func(s *settings.Settings) error { s.SetAutoUpdates(false); return nil }); err != nil {
				t.Fatal(err)
			}
			stop := p.start()
			p.stored(8)
			p.committed()
			stop()
			if diff := cmp.Diff(p.storedOffsetsOf(0), []int64{0, 1, 2, 3, 8, 9, 10, 11}); diff != "" {
				t.Errorf("stored (-got +want)\n%s", diff)
			}
		})
	}
}

// TestReplicasDecideAlikeWhileTheSwitchIsMade: two replicas, and events that
// arrive while the switch begins to count.
func TestReplicasDecideAlikeWhileTheSwitchIsMade(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	table := p.choices()
	p.start()
	p.start()
	p.until("both to be members", func() (bool, string) {
		groups, err := p.admin.DescribeGroups(t.Context(), p.cfg.Group)
		if err != nil {
			return false, err.Error()
		}
		g := groups[p.cfg.Group]
		return g.State == "Stable" && len(g.Members) == 2, g.State
	})
	s, err := table.Change(t.Context(), "a", func(s *settings.Settings) error { s.SetAutoUpdates(false); return nil })
	if err != nil {
		t.Fatal(err)
	}
	counts := time.UnixMilli(int64(s.AutoUpdateSwitches[0])).Add(settings.SwitchDelay)
	n, every := 0, time.NewTicker(20*time.Millisecond)
	defer every.Stop()
	for range every.C {
		n++
		p.produce(pm, int32(n%2), event(n, generated("a")))
		if time.Since(counts) > time.Second {
			break
		}
	}
	p.committed()
	for partition := range int32(2) {
		var want []int64
		skipped := 0
		for _, r := range p.records(pm, partition) {
			if r.Timestamp.Before(counts) {
				want = append(want, r.Offset)
			} else {
				skipped++
			}
		}
		if len(want) == 0 || skipped == 0 {
			t.Fatalf("partition %d: %d before the switch counts and %d after: the test shows nothing", partition, len(want), skipped)
		}
		if diff := cmp.Diff(p.storedOffsetsOf(partition), want); diff != "" {
			t.Errorf("partition %d (-got +want)\n%s", partition, diff)
		}
	}
}

// TestWithoutSettingsGeneratedEventsWait: what needs no setting goes on, what
// came before goes ahead, and nobody guesses.
func TestWithoutSettingsGeneratedEventsWait(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"until_Kafka_tells": false, "until_the_next_start": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
			stop := p.start()
			p.produce(pm, 0, event(0, generated("a")))
			p.stored(1)
			if _, err := p.admin.DeleteTopic(t.Context(), topic.Settings); err != nil {
				t.Fatal(err)
			}
			n := uint64(1)
			p.until("the partition to wait", func() (bool, string) {
				p.produce(pm, 0, event(int(n), of("a", 0)), event(int(n)+1, generated("a")))
				n += 2
				said := p.readyz()
				return strings.Contains(said, "settings "+pm+"/0 "), said
			})
			p.produce(pm, 1, event(int(n), of("b", 0)))
			p.until("the other partition to go on", func() (bool, string) {
				got := p.storedOffsetsOf(1)
				return len(got) == 1, fmt.Sprint(got)
			})
			if got := uint64(len(p.storedOffsetsOf(0))); got >= n {
				t.Errorf("all %d rows of the partition are stored, though nobody knew what was chosen", got)
			}
			if restart {
				stop() // does not hang
			}
			topics := topic.Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: time.Hour}
			if _, err := topic.Ensure(t.Context(), p.kafka, topics.Specs()); err != nil {
				t.Fatal(err)
			}
			if restart {
				p.start()
			}
			p.stored(n + 1)
			p.committed()
		})
	}
}
