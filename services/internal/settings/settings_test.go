package settings

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestRetentionHasLimits(t *testing.T) {
	for days, good := range map[uint16]bool{0: true, 1: true, 400: true, 3650: true, 3651: false, 65535: false} {
		err := Settings{RetentionDays: days}.Validate()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "between 1 and 3650") {
			t.Errorf("%d days: got %v", days, err)
		}
	}
}

func TestAChoiceIsReadWhereItIsNeeded(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t), kgo.DefaultProduceTopic(topic.Settings))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	table, err := Open(t.Context(), at, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	retain := func(customer string, days uint16) error {
		_, err := table.Change(t.Context(), customer, func(s *Settings) error { s.RetentionDays = days; return nil })
		return err
	}
	for _, c := range []struct {
		customer string
		days     uint16
	}{{"a", 30}, {"b", 90}, {"c", 0}, {"unset", 90}, {"unset", 0}} {
		if err := retain(c.customer, c.days); err != nil {
			t.Fatal(err)
		}
	}
	for customer, days := range map[string]uint16{"a": 3651, "": 30, strings.Repeat("x", 65): 30} {
		if err := retain(customer, days); err == nil {
			t.Errorf("customer %.5q, %d days: accepted", customer, days)
		}
	}
	// Somebody else wrote what no table of ours would.
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("d"), Value: []byte(`{"retentionDays":60000}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, time.Minute, nil, "the foreign record", func() (bool, string) {
		s, ok := table.table.Peek("d")
		return ok, fmt.Sprint(s)
	})
	got := map[string]uint16{}
	for customer, r := range table.Retentions() {
		got[customer] = r.Days
		if one, ok := table.Retention(customer); !ok || one != r || time.Since(r.At).Abs() > time.Minute {
			t.Errorf("%s: got %v, %v alone and %v in the list, want one that was made now", customer, one, ok, r)
		}
	}
	// What was never set is no choice; what was unset is one.
	if diff := cmp.Diff(got, map[string]uint16{"a": 30, "b": 90, "unset": 0}); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	for _, customer := range []string{"c", "d", "e"} {
		if r, ok := table.Retention(customer); ok {
			t.Errorf("%s: got %v, want no choice", customer, r)
		}
	}

	// The same again is no new choice, which would have to stand anew.
	before, _ := table.Retention("a")
	if err := retain("a", 30); err != nil {
		t.Fatal(err)
	}
	if after, _ := table.Retention("a"); after != before {
		t.Errorf("got %v after a repetition, want %v", after, before)
	}
}

func TestAChangeKeepsWhatOnlyNewerVersionsKnow(t *testing.T) {
	var s Settings
	if err := json.Unmarshal([]byte(`{"alerts":{"to":["x"]},"retentionDays":30,"size":12345678901234567890}`), &s); err != nil {
		t.Fatal(err)
	}
	for days, want := range map[uint16]string{
		90: `{"alerts":{"to":["x"]},"retentionDays":90,"size":12345678901234567890}`,
		0:  `{"alerts":{"to":["x"]},"size":12345678901234567890}`,
	} {
		s.RetentionDays = days
		if got, err := json.Marshal(s); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	if got, err := json.Marshal(Settings{}); err != nil || string(got) != "{}" {
		t.Errorf("got %s, %v, want {}", got, err)
	}
}

func TestSwitchesCountInTheirOrder(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms).Add(SwitchDelay) }
	s := Settings{AutoUpdateSwitches: []Moment{100, 200, 200, 300}}
	for ms, want := range map[int64]bool{99: true, 100: false, 199: false, 200: false, 299: false, 300: true, 1e9: true} {
		if got := s.StoresAutoUpdate(at(ms)); got != want {
			t.Errorf("%d ms: stored %v, want %v", ms, got, want)
		}
	}
	if !(Settings{}).StoresAutoUpdate(at(0)) || !s.AutoUpdates() {
		t.Error("it is on at first, and after an even number of switches")
	}
}

// TestTheOldestSwitchesAreForgotten: in pairs, so that off stays off, and what
// was skipped between them would be stored by a replay.
func TestTheOldestSwitchesAreForgotten(t *testing.T) {
	var s Settings
	for i := range MaxSwitches + 3 {
		s.SetAutoUpdates(i%2 == 1)
		s = s.of(time.UnixMilli(int64(1000 + i)))
	}
	n := len(s.AutoUpdateSwitches)
	if n > MaxSwitches || n < MaxSwitches-1 || s.AutoUpdates() || s.AutoUpdateSwitches[n-1] != 1000+MaxSwitches+2 {
		t.Errorf("%d switches, the last at %d, on: %v", n, s.AutoUpdateSwitches[n-1], s.AutoUpdates())
	}
	first := time.UnixMilli(int64(s.AutoUpdateSwitches[0])).Add(SwitchDelay)
	if !s.StoresAutoUpdate(first.Add(-time.Millisecond)) || s.StoresAutoUpdate(first) {
		t.Error("the first switch that is known is off")
	}
	raw, err := json.Marshal(s)
	if err != nil || len(raw) > 64<<10 {
		t.Errorf("%d bytes, %v: want a record that fits its topic easily", len(raw), err)
	}
}

func TestWhatIsNotSetHasADefault(t *testing.T) {
	var s Settings
	if s.Timeframe() != 30 || !s.AutoUpdates() || s.RestrictUserInformation || s.AuditSearches || s.RetentionDays != 0 {
		t.Errorf("got %+v", s)
	}
	for days, good := range map[uint16]bool{0: true, 30: true, 90: true, 180: true, 1: false, 60: false, 65535: false} {
		s := Settings{DefaultTimeframeDays: days}
		err := s.Validate()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "30, 90 or 180") {
			t.Errorf("%d days: got %v", days, err)
		}
		if got := s.Timeframe(); good && days > 0 && got != int(days) || !good && got != 30 {
			t.Errorf("%d days: searches look back %d", days, got) // somebody wrote it by hand
		}
	}
}

func TestWhatMayDeleteEvents(t *testing.T) {
	for change, want := range map[[2]uint16]bool{
		{30, 30}: false, {30, 90}: false, {90, 30}: true, {0, 90}: true, {90, 0}: true, {0, 0}: false,
		{0, MaxRetentionDays}: false, {90, MaxRetentionDays}: false,
	} {
		if got := MayDelete(change[0], change[1]); got != want {
			t.Errorf("%d -> %d: %v", change[0], change[1], got)
		}
	}
}
