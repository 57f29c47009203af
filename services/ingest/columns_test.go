package ingest

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// decodeDictionary reads back what EncodeColumn wrote, with ch-go's own decoder.
func decodeDictionary(t *testing.T, d *dictionary) []string {
	t.Helper()
	var buf proto.Buffer
	d.EncodeState(&buf)
	d.EncodeColumn(&buf)
	r := buf.Reader()
	got := proto.NewLowCardinality[string](new(proto.ColStr))
	if err := got.DecodeState(r); err != nil {
		t.Fatal(err)
	}
	if err := got.DecodeColumn(r, d.Rows()); err != nil {
		t.Fatal(err)
	}
	out := make([]string, got.Rows())
	for i := range out {
		out[i] = got.Row(i)
	}
	return out
}

func TestDictionaryKeepsValuesAcrossBatches(t *testing.T) {
	var d dictionary
	for _, batch := range [][]string{{"a", "a", "", "b"}, {"b", "c", "b"}, {"", "a"}} {
		for _, s := range batch {
			d.append(s)
		}
		if diff := cmp.Diff(batch, decodeDictionary(t, &d)); diff != "" {
			t.Errorf("-got +want:\n%s", diff)
		}
		d.reset(len(batch))
	}
	if got := len(d.keys); got != 4 {
		t.Errorf("got %d keys, want 4: they live on", got)
	}
}

func TestDictionaryCopiesItsValues(t *testing.T) {
	var d dictionary
	record := []byte(`{"action":"Login"}`)
	var e audit.Event
	if err := audit.Decode(record, &e); err != nil {
		t.Fatal(err)
	}
	d.append(e.Action)
	clear(record) // the fetch buffer is reused
	d.append("Login")
	if got := decodeDictionary(t, &d); got[0] != "Login" || got[1] != "Login" {
		t.Errorf("got %q, want two Logins", got)
	}
}

func TestDictionaryDropsDeadWeight(t *testing.T) {
	var d dictionary
	for i := range keepKeys + 1 {
		d.append(fmt.Sprint(i))
	}
	d.reset(10)
	if len(d.keys) != 0 {
		t.Errorf("got %d keys after a batch of 10 rows, want 0", len(d.keys))
	}
}

func TestDictionaryFullStopsTheBatch(t *testing.T) {
	b := newBatch(newEvents())
	client := &b.filler.(*eventColumns).client
	for i := range maxKeys {
		client.append(fmt.Sprint(i))
	}
	if !b.full(Limits{BatchRows: 1 << 30, BatchBytes: 1 << 30}) {
		t.Error("a batch whose dictionary is full takes more rows")
	}
	if got := decodeDictionary(t, client); got[maxKeys-1] != fmt.Sprint(maxKeys-1) {
		t.Errorf("got %q as last value", got[maxKeys-1])
	}
}

func TestMonths(t *testing.T) {
	var m months
	for _, s := range []string{"2026-01-31T23:59:59.999Z", "2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59.999Z"} {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		m.add(at.UnixMilli())
	}
	if m.count() != 3 {
		t.Errorf("got %d months, want 3", m.count())
	}
}

func TestEventIDWithoutOneIsMadeOfThePosition(t *testing.T) {
	at := topic.Position{TopicID: uuid.MustParse("5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a01"), Partition: 3, Offset: 7}
	first, err := eventID(&audit.Event{}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := eventID(&audit.Event{}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	at.Offset++
	other, err := eventID(&audit.Event{}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first != again || first == other || first.Version() != 5 {
		t.Errorf("got %s, %s again, %s for the next offset", first, again, other)
	}
}

func TestMarkerRoundTrip(t *testing.T) {
	id := uuid.MustParse("5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a01")
	for _, m := range []marker{{topicID: id}, {topicID: id, pending: &pendingRange{first: 5, last: 9, count: 4, bytes: 123}}} {
		got, err := parseMarker(m.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, m, cmp.AllowUnexported(marker{}, pendingRange{})); diff != "" {
			t.Errorf("-got +want:\n%s", diff)
		}
	}
	for _, s := range []string{"", "2 " + id.String(), "1 x", "1 " + id.String() + " 1 2 3", "1 " + id.String() + " 1 2 3 x"} {
		if m, err := parseMarker(s); err == nil {
			t.Errorf("parseMarker(%q) = %v, want an error", s, m)
		}
	}
}

func TestInsertNamesEveryFieldAndThePosition(t *testing.T) {
	var want, got []string
	for _, f := range field.Events.Fields {
		want = append(want, f.Column)
	}
	want = append(want, "topic_id", "kafka_partition", "kafka_offset", "appended_at", "retention_days")
	for _, c := range newEventColumns().block {
		got = append(got, c.Name)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

func TestParseIDIsThatOfUUID(t *testing.T) {
	id := "5d0d1f4a-6a55-4e0c-9f53-0C6A3C1F7A01"
	if got, err := parseID(id); err != nil || got != uuid.MustParse(id) {
		t.Errorf("%s became %s, %v", id, got, err)
	}
	for i := range id {
		for _, c := range "-g \xff" {
			wrong := id[:i] + string(c) + id[i+1:]
			got, err := parseID(wrong)
			want, wantErr := uuid.Parse(wrong)
			if (err == nil) != (wantErr == nil) || got != want {
				t.Errorf("%q: got %s and %v, want %s and %v", wrong, got, err, want, wantErr)
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"0.0.0.0", "1.2.3.4", "10.20.30.255", "191.160.45.90", "::", "::1", "2001:db8::1.2.3.4", "::ffff:1.2.3.4"} {
		if got, want := address(s), netip.MustParseAddr(s).As16(); got != want {
			t.Errorf("%s: got %v, want %v", s, got, want)
		}
	}
	if got := address(""); got != (proto.IPv6{}) {
		t.Errorf("no address became %v", got)
	}
}

func TestADictionaryIsFullWithItsLastKey(t *testing.T) {
	c := newEventColumns()
	for round := range 2 {
		rows := 0
		for ; !c.full(); rows++ {
			if rows > maxKeys {
				t.Fatal("never full")
			}
			c.row(&audit.Event{RequestID: "r", UserRole: strconv.Itoa(rows / 2), BusinessUnit: strconv.Itoa(rows)}, uuid.Nil, topic.Position{}, 0)
		}
		if rows != maxKeys {
			t.Errorf("round %d: full after %d rows, want %d", round, rows, maxKeys)
		}
		c.reset()
	}
}
