package limits

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t *testing.T, at kafka.Config) Table {
	t.Helper()
	table, err := Open(t.Context(), at, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// set replaces the limits by those of a text.
func set(text string) func(*apicall.Override) error {
	return func(o *apicall.Override) error { return json.Unmarshal([]byte(text), o) }
}

// TestLimitsAreSetChangedAndTakenBack: over one table, seen by another, with the
// audit events of each change.
func TestLimitsAreSetChangedAndTakenBack(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	table, other := open(t, at), open(t, at)
	var events []audit.Event
	record := func(_ context.Context, e audit.Event) error { events = append(events, e); return nil }

	five := apicall.Limit{Calls: 5, Window: time.Minute}
	for _, c := range []struct {
		text    string
		changes string // "" none
		search  apicall.Limit
		ok      bool
	}{
		{`{}`, ``, apicall.Limit{}, false},
		{`{"default":{"unlimited":true},"apis":{"a/search":{"calls":5,"windowSec":60}}}`,
			`[{"field":"default","after":{"unlimited":true}},{"field":"apis[a/search]","after":{"calls":5,"windowSec":60}}]`, five, true},
		{`{"apis":{"a/search":{"calls":5,"windowSec":60}}, "default":{"unlimited":true}}`, ``, five, true},
		{`{"default":{"unlimited":true},"apis":{"a/*":{"concurrency":2}}}`,
			`[{"field":"apis[a/*]","after":{"concurrency":2}},{"field":"apis[a/search]","before":{"calls":5,"windowSec":60}}]`, apicall.Limit{Concurrency: 2}, true},
		{`{}`, `[{"field":"default","before":{"unlimited":true}},{"field":"apis[a/*]","before":{"concurrency":2}}]`, apicall.Limit{}, false},
	} {
		events = nil
		if _, _, err := table.Update(t.Context(), "c", set(c.text), record); err != nil {
			t.Fatal(c.text, err)
		}
		var said []string
		for _, e := range events {
			said = append(said, e.Status+" "+string(e.Changes))
		}
		var want []string
		if c.changes != "" {
			want = []string{"Requested " + c.changes, "Success " + c.changes}
		}
		if d := cmp.Diff(said, want); d != "" {
			t.Errorf("%s: events (-got +want)\n%s", c.text, d)
		}
		if err := other.table.Fresh(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		for _, table := range []Table{table, other} {
			if l, ok := table.Limit("c", "a/search"); l != c.search || ok != c.ok {
				t.Errorf("%s: limit %+v %v, want %+v %v", c.text, l, ok, c.search, c.ok)
			}
		}
	}
	if all := table.table.List(); len(all) > 0 {
		t.Errorf("what was taken back is still there: %v", all)
	}
}

func TestWrongLimitsAreNotWritten(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	table := open(t, at)
	_, _, err = table.Update(t.Context(), "c", func(o *apicall.Override) error { o.Default = &apicall.Limit{Calls: -1}; return nil },
		func(context.Context, audit.Event) error { t.Error("recorded"); return nil })
	if err == nil || !strings.Contains(err.Error(), "default.calls must be a whole number from 1 to 100000") {
		t.Errorf("got %v", err)
	}
	if _, err := table.Change(t.Context(), strings.Repeat("x", audit.MaxIDBytes+1), set(`{"default":{"unlimited":true}}`)); err == nil {
		t.Error("a customerUuid that no token can have was taken")
	}
}
