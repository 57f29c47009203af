package deadletter

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestListShowsWhatIngestBuried(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	began := time.Now()
	e.produce(
		&kgo.Record{Topic: pm, Key: []byte("customer-1"), Value: event(1, func(e *audit.Event) { e.Action = "" })},
		&kgo.Record{Topic: pm, Partition: 1, Key: []byte("customer-2"), Value: []byte("this is not JSON")},
		&kgo.Record{Topic: pm, Value: event(3)},
		&kgo.Record{Topic: vm, Value: event(4)},
		&kgo.Record{Topic: vm, Value: []byte(`{"customerUuid":"customer-5","action":}`)},
	)
	e.ingest(b, 400)
	b.stored(1)
	e.settled()

	rows, notes := e.list()
	for i := range rows {
		if rows[i].Key == "" || rows[i].Problem == "" || rows[i].Size == 0 || time.UnixMilli(rows[i].AppendedAt).Before(began.Add(-time.Minute)) {
			t.Errorf("a field is missing: %+v", rows[i])
		}
		rows[i].Key, rows[i].Problem, rows[i].Size, rows[i].AppendedAt = "", "", 0, 0
	}
	want := map[row]bool{
		{Topic: pm, Reason: "required", CustomerUUID: "customer-1"}:           true,
		{Topic: pm, Partition: 1, Reason: "json", CustomerUUID: "customer-2"}: true,
		{Topic: vm, Reason: "topic", CustomerUUID: "customer-4"}:              true,
		{Topic: vm, Offset: 1, Reason: "json", CustomerUUID: "customer-5"}:    true,
	}
	got := map[row]bool{}
	for _, r := range rows {
		got[r] = true
	}
	if diff := cmp.Diff(got, want); diff != "" || notes != "" {
		t.Errorf("notes %q, -got +want:\n%s", notes, diff)
	}

	for what, c := range map[string]struct {
		filter Filter
		want   []string
	}{
		"reason":            {Filter{Reason: []string{"json"}}, []string{"json", "json"}},
		"reasons":           {Filter{Reason: []string{"topic", "required"}}, []string{"required", "topic"}},
		"module":            {Filter{Module: []string{"VM"}}, []string{"json", "topic"}},
		"topic":             {Filter{Topic: []string{pm}}, []string{"json", "required"}},
		"customer in value": {Filter{Customer: []string{"customer-5"}}, []string{"json"}},
		"customer in key":   {Filter{Customer: []string{"customer-2"}}, []string{"json"}},
		"all must pass":     {Filter{Reason: []string{"json"}, Module: []string{"PM"}}, []string{"json"}},
		"since":             {Filter{Since: When{began.Add(-time.Minute)}}, []string{"json", "json", "required", "topic"}},
		"since later":       {Filter{Since: When{time.Now().Add(time.Minute)}}, []string{}},
		"until":             {Filter{Until: When{began.Add(-time.Minute)}}, []string{}},
	} {
		rows, notes := e.list(func(cfg *ListConfig) { cfg.Filter = c.filter })
		if diff := cmp.Diff(reasons(rows), c.want); diff != "" {
			t.Errorf("%s: -got +want:\n%s", what, diff)
		}
		if empty := len(c.want) == 0; empty != strings.Contains(notes, "no dead letter passes") {
			t.Errorf("%s: notes are %q", what, notes)
		}
	}
}

func TestOrderAndLimit(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	if rows, notes := e.list(); len(rows) != 0 || notes != "no dead letters\n" {
		t.Errorf("got %v and %q of an empty topic", rows, notes)
	}
	const n = 50
	for _, i := range []int64{7, 3} { // not in order, so that sorting shows
		var rs []*kgo.Record
		for j := range int64(n) {
			rs = append(rs, madeLetter((j*i)%n+n*i, []byte("x")))
		}
		e.produce(rs...)
	}
	for _, c := range []struct {
		order       string
		limit       int
		first, last int64
		note        string
	}{
		{"newest", 10, 8*n - 1, 8*n - 10, "the newest 10 of 100: 90 more"},
		{"oldest", 10, 3 * n, 3*n + 9, "the oldest 10 of 100: 90 more"},
		{"newest", 0, 8*n - 1, 3 * n, ""},
		{"oldest", 100, 3 * n, 8*n - 1, ""},
	} {
		rows, notes := e.list(func(cfg *ListConfig) { cfg.Order, cfg.Limit = c.order, c.limit })
		want := c.limit
		if want == 0 {
			want = 2 * n
		}
		if len(rows) != want || rows[0].Offset != c.first || rows[want-1].Offset != c.last {
			t.Errorf("%s %d: got %d rows, %+v to %+v", c.order, c.limit, len(rows), rows[0], rows[len(rows)-1])
		}
		if !strings.Contains(notes, c.note) || (c.note == "" && notes != "") {
			t.Errorf("%s %d: got notes %q, want %q", c.order, c.limit, notes, c.note)
		}
	}
}

// What the topic may hold beside plain letters: copies, a copy after the
// marker, markers whose letter aged out, records of others, and records whose
// producers use our names.
func TestLettersAreFolded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	mark := func(offset int64) *kgo.Record {
		l, _ := parse(madeLetter(offset, nil))
		return l.marker(time.Now(), &kgo.Record{Topic: pm, Partition: 1, Offset: 99})
	}
	e.produce(
		madeLetter(1, []byte("a")), madeLetter(1, []byte("a")),
		madeLetter(2, []byte("b")), mark(2), madeLetter(2, []byte("b")),
		mark(3),
		&kgo.Record{Topic: topic.DeadLetter, Key: []byte("foreign"), Value: []byte("x")},
		&kgo.Record{Topic: topic.DeadLetter, Value: []byte("x")},
		madeLetter(4, []byte("d"), kgo.RecordHeader{Key: topic.HeaderRedrivenAt, Value: []byte("1")}, kgo.RecordHeader{Key: topic.HeaderReason, Value: []byte("mine")}),
	)
	offsets := func(rows []row) (out []int64) {
		for _, r := range rows {
			out = append(out, r.Offset)
		}
		return out
	}
	rows, notes := e.list()
	if diff := cmp.Diff(offsets(rows), []int64{1, 4}); diff != "" || !strings.Contains(notes, "1 that was redriven is hidden, --include-redriven shows it\n") {
		t.Errorf("notes %q, -got +want:\n%s", notes, diff)
	}
	if rows[1].Reason != "made-up" {
		t.Errorf("a producer's header replaced the reason: %q", rows[1].Reason)
	}
	rows, _ = e.list(func(c *ListConfig) { c.IncludeRedriven = true })
	if diff := cmp.Diff(offsets(rows), []int64{1, 2, 4}); diff != "" || rows[1].RedrivenAt == 0 || rows[0].RedrivenAt != 0 {
		t.Errorf("with those redriven: -got +want:\n%s%+v", diff, rows)
	}
}

func TestTableIsFitForATerminal(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.produce(madeLetter(1, []byte(`{"customerUuid":"c\u001b[2J"}`)), madeLetter(2, []byte("x"), kgo.RecordHeader{Key: topic.HeaderSize, Value: []byte("3000000")}))
	var out, notes bytes.Buffer
	if err := List(t.Context(), ListConfig{Kafka: e.kafka, Order: "oldest", Output: "table"}, e.deps(&out, &notes)); err != nil {
		t.Fatal(err)
	}
	want := `APPENDED                  RECORD                  REASON   CUSTOMER    BYTES    PROBLEM
2023-11-14T22:13:20.001Z  audit.events.pm.v1/0/1  made-up  "c\x1b[2J"  29       a problem
2023-11-14T22:13:20.002Z  audit.events.pm.v1/0/2  made-up  -           3000000  a problem
`
	if diff := cmp.Diff(out.String(), want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

func TestWhen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-05-01T12:00:00Z":      time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		"2026-05-01T12:00:00+02:00": time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC),
		"24h":                       time.Now().Add(-24 * time.Hour),
	} {
		var w When
		if err := w.UnmarshalText([]byte(text)); err != nil || w.Sub(want).Abs() > time.Minute {
			t.Errorf("%s: got %s, %v", text, w.Time, err)
		}
	}
	for _, text := range []string{"", "yesterday", "-1h", "2026-05-01"} {
		var w When
		if err := w.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %s", text, w.Time)
		}
	}
}

// BenchmarkFold measures what folding keeps of a letter.
func BenchmarkFold(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	f, before := newFold(), heap()
	for i := range b.N {
		f.again(topic.Position{Offset: int64(i)})
	}
	b.ReportMetric((heap()-before)/float64(b.N), "B/letter")
	runtime.KeepAlive(f)
}
