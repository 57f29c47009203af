package deadletter

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/topic"
)

func (e *env) show(letter string, raw bool) (string, error) {
	e.t.Helper()
	p, err := parsePosition(letter)
	if err != nil {
		e.t.Fatal(err)
	}
	var out, notes bytes.Buffer
	err = Show(e.t.Context(), ShowConfig{Kafka: e.kafka, Letter: p, Raw: raw}, e.deps(&out, &notes))
	return out.String(), err
}

func TestShow(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	whole := madeLetter(1, []byte(`{"customerUuid":"c1","n":1.50}`), header(topic.HeaderKey, "c1"), header("trace", "a\x00b"))
	l, _ := parse(whole)
	e.produce(whole, whole,
		madeLetter(2, []byte("{\"a\":\"\x1b[2J\xff")),
		madeLetter(3, []byte("the beginning"), header(topic.HeaderSize, "5000000"), header(topic.HeaderSHA256, "abc")),
		madeLetter(4, []byte("packed"), header(topic.HeaderBatch, "4-9")),
		madeLetter(5, []byte("long key"), header(topic.HeaderKey, "k"), header(topic.HeaderKeySize, "100000")),
		l.marker(time.UnixMilli(1_700_000_100_000), &kgo.Record{Topic: pm, Partition: 1, Offset: 99}),
	)
	got, err := e.show("audit.events.pm.v1/0/1", false)
	if err != nil {
		t.Fatal(err)
	}
	want := `key        ` + l.id.String() + `
record     audit.events.pm.v1/0/1
appended   2023-11-14T22:13:20.001Z
reason     made-up
problem    a problem
customer   c1
value      30 bytes
redriven   2023-11-14T22:15:00.000Z to audit.events.pm.v1/1/99
record key "c1"
header     trace = "a\x00b"

{
  "customerUuid": "c1",
  "n": 1.50
}
`
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	if byKey, err := e.show(strings.ToUpper(l.id.TopicID.String())+"/0/1", false); err != nil || byKey != got {
		t.Errorf("by its key: %v\n%s", err, byKey)
	}
	for offset, want := range map[string]string{"2": "|{\"a\":\".[2J.|", "3": "the first 13 are kept, sha256 of the whole abc", "4": "offsets 4-9", "5": `record key "k"; the first 1 of 100000 bytes`} {
		if got, err := e.show(pm+"/0/"+offset, false); err != nil || !strings.Contains(got, want) || strings.Contains(got, "\x1b") {
			t.Errorf("offset %s: %v, no %q in\n%s", offset, err, want, got)
		}
	}
	for offset, why := range map[string]string{"3": "its value was cut", "4": "packed batch", "5": "its key was cut"} {
		if got, _ := e.show(pm+"/0/"+offset, false); !strings.Contains(got, "no, and it cannot be: ") || !strings.Contains(got, why) {
			t.Errorf("offset %s: it does not say that it cannot be redriven:\n%s", offset, got)
		}
	}
	if got, err := e.show(pm+"/0/2", true); err != nil || got != "{\"a\":\"\x1b[2J\xff" {
		t.Errorf("raw: got %q, %v", got, err)
	}
	if _, err := e.show(pm+"/0/6", false); err == nil || !strings.Contains(err.Error(), pm+"/0/6") {
		t.Errorf("got %v for a letter that is not there", err)
	}

	// The topic made anew: another record of the same offset.
	anew := madeLetter(1, []byte("other"))
	anew.Key = []byte(topic.Position{TopicID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("anew")), Offset: 1}.String())
	e.produce(anew)
	if got, err := e.show(pm+"/0/1", false); err != nil || strings.Count(got, "key  ") != 2 {
		t.Errorf("two records of one position: %v\n%s", err, got)
	}
	if _, err := e.show(pm+"/0/1", true); err == nil || !strings.Contains(err.Error(), string(anew.Key)) {
		t.Errorf("raw of two: got %v", err)
	}
	if got, err := e.show(string(anew.Key), true); err != nil || got != "other" {
		t.Errorf("raw by key: got %q, %v", got, err)
	}
}

func TestPositions(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "1", "a/b", "a/0/-1", "a/-1/0", "a/0/x", "/0/0", "a/0/0/0", "a/99999999999/0"} {
		if p, err := parsePosition(s); err == nil {
			t.Errorf("%q is taken for %s", s, p)
		}
	}
}
