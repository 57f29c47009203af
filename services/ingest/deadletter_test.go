package ingest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Whatever a producer sends along, a dead letter fits its topic, keeps what
// ingest heeds, and says what was cut.
func TestADeadLetterKeepsWhatIngestHeeds(t *testing.T) {
	t.Parallel()
	first := topic.Position{TopicID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("topic")), Partition: 1, Offset: 7}
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	const much = 3 << 20
	r := &kgo.Record{Topic: pm, Key: bytes.Repeat([]byte("k"), much), Value: bytes.Repeat([]byte("v"), much), Headers: []kgo.RecordHeader{
		header("a", strings.Repeat("a", maxDeadHeaders-1)), header("b", strings.Repeat("b", much)),
		header(audit.HeaderRedriven, strings.Repeat("x", much)), header(audit.HeaderResent, strings.Repeat("y", much)), header(topic.HeaderReason, "mine"),
		header(audit.HeaderRedriven, uuid.Nil.String()+"/0/0"), header(audit.HeaderRedriven, first.String()),
	}}
	m := deadLetter{record: r, reason: "json", err: newEvents().conflict}.message(uuid.Nil)
	size := len(m.Key) + len(m.Value)
	got := map[string][]string{}
	for _, h := range m.Headers {
		size += len(h.Key) + len(h.Value)
		got[h.Key] = append(got[h.Key], string(h.Value))
	}
	if size > topic.MaxDeadLetterBytes-(100<<10) {
		t.Errorf("the dead letter has %d bytes", size)
	}
	for key, want := range map[string][]string{
		topic.HeaderReason:   {"json"},
		topic.HeaderKey:      {strings.Repeat("k", maxDeadKey)},
		topic.HeaderKeySize:  {"3145728"},
		topic.HeaderSize:     {"3145728"},
		audit.HeaderRedriven: {first.String()},
		audit.HeaderResent:   {strings.Repeat("y", maxResent)},
		"a":                  {strings.Repeat("a", maxDeadHeaders-1)},
		"b":                  nil,
	} {
		if diff := cmp.Diff(got[key], want); diff != "" {
			t.Errorf("%s: -got +want:\n%.300s", key, diff)
		}
	}
}
