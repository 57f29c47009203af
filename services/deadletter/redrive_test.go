package deadletter

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Records older than the retention that ingest had, and not older than the one
// that it has now: they are stored once they are redriven.
func TestARedrivenRecordIsStored(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	stop := e.ingest(b, 1)
	old := &kgo.Record{Topic: pm, Partition: 1, Key: []byte("customer-1"), Value: event(1, daysAgo(3)), Headers: []kgo.RecordHeader{
		{Key: "trace", Value: []byte("t1")}, {Key: audit.HeaderResent, Value: []byte("1")}, {Key: topic.HeaderProblem, Value: []byte("mine")},
	}}
	e.produce(old, &kgo.Record{Topic: pm, Value: event(2, daysAgo(3))}, &kgo.Record{Topic: pm, Value: []byte("broken for ever")}, &kgo.Record{Topic: pm, Value: event(4)})
	b.stored(1)
	e.settled()
	rows, _ := e.list()
	if diff := cmp.Diff(reasons(rows), []string{"json", "too-old", "too-old"}); diff != "" {
		t.Fatalf("-got +want:\n%s", diff)
	}
	stop()
	stop = e.ingest(b, 400)

	dry, err := e.redrive(func(c *RedriveConfig) { c.All, c.DryRun = true, true })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{
		"TOPIC REASON LETTERS OUTCOME",
		"audit.events.pm.v1 json 1 skipped: would fail again (json)",
		"audit.events.pm.v1 too-old 2 would be sent",
		"2 would be sent, 1 skipped, 0 failed in",
	}; !told(dry, want) {
		t.Errorf("the dry run says\n%s", dry)
	}
	if n := len(e.records(pm)); n != 4 || len(e.records(topic.DeadLetter)) != 3 {
		t.Errorf("the dry run wrote something")
	}
	if said, err := e.redrive(func(c *RedriveConfig) { c.All, c.RetentionDays = true, 1 }); err != nil || !told(said, []string{
		"TOPIC REASON LETTERS OUTCOME",
		"audit.events.pm.v1 json 1 skipped: would fail again (json)",
		"audit.events.pm.v1 too-old 2 skipped: would fail again (too-old)",
		"0 sent, 3 skipped, 0 failed in",
	}) {
		t.Errorf("with the retention of before: %v\n%s", err, said)
	}

	said, err := e.redrive(func(c *RedriveConfig) { c.Filter.Customer = []string{"customer-1"} })
	if err != nil || !told(said, []string{"TOPIC REASON LETTERS OUTCOME", "audit.events.pm.v1 too-old 1 sent", "1 sent, 0 skipped, 0 failed in"}) {
		t.Fatalf("%v\n%s", err, said)
	}
	b.stored(2)
	var again *kgo.Record
	for _, r := range e.records(pm) {
		if headerOf(r, audit.HeaderRedriven) != "" {
			again = r
		}
	}
	want := fmt.Sprintf("customer-1 [{%s 1} {trace t1} {%s %s}]", audit.HeaderResent, audit.HeaderRedriven, keyOf(rows, "customer-1"))
	if got := fmt.Sprintf("%s %s", again.Key, again.Headers); got != want || !bytes.Equal(again.Value, old.Value) {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	rows, notes := e.list()
	if diff := cmp.Diff(reasons(rows), []string{"json", "too-old"}); diff != "" || !strings.Contains(notes, "1 that was redriven") {
		t.Errorf("listed after it: %s-got +want:\n%s", notes, diff)
	}
	if said, err = e.redrive(func(c *RedriveConfig) { c.Filter.Reason = []string{"too-old"} }); err != nil || !strings.Contains(said, "1 sent, 0 skipped, 0 failed; 1 was redriven before, --include-redriven sends it again") {
		t.Errorf("%v\n%s", err, said)
	}
	b.stored(3)
	e.settled()
	stop()
}

// told says whether out has the lines, in order; runs of blanks are one, and
// what follows the last line's words is left out.
func told(out string, want []string) bool {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(want) {
		return false
	}
	for i := range lines {
		if line := strings.Join(strings.Fields(lines[i]), " "); line != want[i] && (i < len(want)-1 || !strings.HasPrefix(line, want[i])) {
			return false
		}
	}
	return true
}

func keyOf(rows []row, customer string) string {
	for _, r := range rows {
		if r.CustomerUUID == customer {
			return r.Key
		}
	}
	return ""
}

// A record that fails again is a new dead letter; redriving that one names the
// place where the record stood first.
func TestARecordThatFailsAgainIsANewDeadLetter(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	e.ingest(b, 400)
	e.produce(&kgo.Record{Topic: pm, Value: []byte("broken")})
	var first string
	for round := range 3 {
		rows := e.open(1)
		if round == 0 {
			first = rows[0].Key
		} else if rows[0].Key == first {
			t.Fatal("the dead letter of the redriven record is the old one")
		}
		position := fmt.Sprintf("%s/%d/%d", rows[0].Topic, rows[0].Partition, rows[0].Offset)
		said, err := e.redrive(func(c *RedriveConfig) { c.Letters, c.Force = []Position{mustPosition(t, position)}, true })
		if err != nil || !strings.Contains(said, "1 sent") {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	e.open(1)
	redriven := 0
	for _, r := range e.records(pm) {
		if from := headerOf(r, audit.HeaderRedriven); from != "" {
			redriven++
			if from != first {
				t.Errorf("redriven from %s, want %s, where it stood first", from, first)
			}
			for _, h := range r.Headers {
				if h.Key != audit.HeaderRedriven {
					t.Errorf("a redriven record has header %s", h.Key)
				}
			}
		}
	}
	if redriven != 3 {
		t.Errorf("%d records were redriven, want 3", redriven)
	}
}

func mustPosition(t *testing.T, s string) Position {
	t.Helper()
	p, err := parsePosition(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What can never be sent is not, whatever is asked for.
func TestWhatCannotBeRedrivenIsSkipped(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	from := func(offset int64, name, reason string, value []byte) *kgo.Record {
		r := madeLetter(offset, value)
		for i, h := range r.Headers {
			switch h.Key {
			case topic.HeaderTopic:
				r.Headers[i].Value = []byte(name)
			case topic.HeaderReason:
				r.Headers[i].Value = []byte(reason)
			}
		}
		return r
	}
	e.produce(
		madeLetter(1, event(1), header(topic.HeaderSize, "3000000")),
		madeLetter(2, event(2), header(topic.HeaderBatch, "2-3")),
		from(3, topic.DeadLetter, "json", event(3)),
		from(4, "audit.events.gone.v1", "json", event(4)),
		from(5, pm, "id-conflict", event(5)),
		from(6, vm, "refused", event(6)),
		from(7, pm, "refused", event(7)),
		madeLetter(8, event(8), header(topic.HeaderKey, "k"), header(topic.HeaderKeySize, "100000")),
	)
	head := "TOPIC REASON LETTERS OUTCOME"
	never := []string{head,
		"audit.dead-letter.v1 json 1 skipped: it comes from a topic of neither events nor API calls",
		"audit.events.gone.v1 json 1 skipped: its topic does not exist",
	}
	said, err := e.redrive(func(c *RedriveConfig) { c.All, c.DryRun = true, true })
	if err != nil || !told(said, append(never,
		"audit.events.pm.v1 id-conflict 1 skipped: would fail again (id-conflict)",
		"audit.events.pm.v1 made-up 1 skipped: it is a packed batch of records",
		"audit.events.pm.v1 made-up 1 skipped: its key was cut",
		"audit.events.pm.v1 made-up 1 skipped: its value was cut",
		"audit.events.pm.v1 refused 1 would be sent",
		"audit.events.vm.v1 refused 1 skipped: would fail again (topic)",
		"1 would be sent, 7 skipped, 0 failed in")) {
		t.Errorf("%v\n%s", err, said)
	}
	said, err = e.redrive(func(c *RedriveConfig) { c.All, c.Force = true, true })
	if err != nil || !told(said, append(never,
		"audit.events.pm.v1 id-conflict 1 sent",
		"audit.events.pm.v1 made-up 1 skipped: it is a packed batch of records",
		"audit.events.pm.v1 made-up 1 skipped: its key was cut",
		"audit.events.pm.v1 made-up 1 skipped: its value was cut",
		"audit.events.pm.v1 refused 1 sent",
		"audit.events.vm.v1 refused 1 sent",
		"3 sent, 5 skipped, 0 failed in")) {
		t.Errorf("by force: %v\n%s", err, said)
	}
}

// A stop ends the run after the round under way: what was sent is marked, what
// was not is open, and the next run sends the rest.
func TestAStoppedRedriveGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const n = 8 * roundLetters
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, madeLetter(int64(i), event(i)))
	}
	e.produce(rs...)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	watch, err := kafka.Open(t.Context(), e.kafka, e.deps(nil, nil).Log, kgo.ConsumeTopics(pm), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	go func() {
		watch.PollFetches(t.Context()) // the first record is there
		stop()
	}()
	var out, notes bytes.Buffer
	err = Redrive(ctx, RedriveConfig{Kafka: e.kafka, RetentionDays: 400, All: true}, e.deps(&out, &notes))
	sent := len(e.records(pm))
	if err == nil || !strings.Contains(err.Error(), "stopped") || sent == 0 || sent == n {
		t.Fatalf("got %v with %d records sent; it was not stopped in the middle", err, sent)
	}
	if !strings.Contains(out.String(), fmt.Sprintf("%d sent, 0 skipped, 0 failed", sent)) {
		t.Errorf("%d records were sent; the summary says\n%s", sent, out.String())
	}
	if rows, _ := e.list(func(c *ListConfig) { c.Limit = 0 }); len(rows) != n-sent {
		t.Errorf("%d letters are open, want %d", len(rows), n-sent)
	}
	if said, err := e.redrive(all); err != nil || !strings.Contains(said, fmt.Sprintf("%d sent, 0 skipped, 0 failed; %d were redriven before", n-sent, sent)) {
		t.Errorf("the second run: %v\n%s", err, said)
	}
	from := map[string]int{}
	for _, r := range e.records(pm) {
		from[headerOf(r, audit.HeaderRedriven)]++
	}
	if len(from) != n || len(e.records(pm)) != n {
		t.Errorf("%d records of %d letters are on the topic, want %d of each", len(e.records(pm)), len(from), n)
	}
}

// A round is bounded by all that its records take, not by their values alone.
func TestARoundIsBoundedByWholeRecords(t *testing.T) {
	t.Parallel()
	const size = 60 << 10
	l, _ := parse(madeLetter(1, event(1), kgo.RecordHeader{Key: "trace", Value: make([]byte, size/2)}, kgo.RecordHeader{Key: topic.HeaderKey, Value: make([]byte, size/2)}))
	r := &redriver{contract: contract{maxAge: 24 * time.Hour, topics: map[string]uuid.UUID{pm: {}}}, outcomes: map[outcome]int{}}
	ctx, stop := context.WithCancel(t.Context())
	stop() // so that a round that is full shows
	n := 1
	for r.take(ctx, l, time.Time{}) == nil {
		n++
	}
	if most := roundBytes/size + 1; n > most {
		t.Errorf("a round has %d records of %d bytes, want at most %d", n, size, most)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	if _, err := e.redrive(func(*RedriveConfig) {}); err == nil || !strings.Contains(err.Error(), "--all") {
		t.Errorf("without a filter: %v", err)
	}
	if _, err := e.redrive(func(c *RedriveConfig) { c.Letters = []Position{mustPosition(t, pm+"/0/7")} }); err == nil || !strings.Contains(err.Error(), pm+"/0/7") {
		t.Errorf("a letter that is not there: %v", err)
	}
	for what, filter := range map[string]Filter{"--since": {Since: When{time.Now()}, Until: When{time.Now().Add(-time.Hour)}}} {
		if _, err := e.redrive(func(c *RedriveConfig) { c.Filter = filter }); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var out bytes.Buffer
	if err := List(t.Context(), ListConfig{Kafka: e.kafka, Limit: -1}, e.deps(&out, &out)); err == nil || !strings.Contains(err.Error(), "--limit") {
		t.Errorf("a negative limit: %v", err)
	}
}
