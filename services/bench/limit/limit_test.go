package limit

import (
	"bytes"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/bench/measure"
)

// TestDecodeReadsWhatTheProductReads makes sure that the limit does the work.
func TestDecodeReadsWhatTheProductReads(t *testing.T) {
	for _, full := range []bool{false, true} {
		for _, line := range measure.Lines(t, full, 2000) {
			var got, want audit.Event
			if err := Decode(line, &got); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if err := audit.Decode(line, &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("(-product +limit):\n%s", diff)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, line := range []string{``, `[]`, `{`, `{"id"`, `{"id":`, `{"id":"`, `{"id":"x"`, `{"id":"x";`, `{"i\d":1}`, `{"a":[1`, `{"a":["\`} {
		if err := Decode([]byte(line), new(audit.Event)); err == nil {
			t.Errorf("%q passes", line)
		}
	}
}

// TestColumnsHoldTheEvents reads a second block back, when the dictionaries
// are not new any more.
func TestColumnsHoldTheEvents(t *testing.T) {
	events := measure.Events(t, measure.Lines(t, true, 1000))
	c := NewColumns(true)
	var buf proto.Buffer
	for range 2 {
		c.Reset()
		buf.Reset()
		for i := range events {
			c.Add(&events[i], 3, int64(i))
		}
		block := proto.Block{Columns: len(c.Block()), Rows: len(events)}
		if err := block.EncodeBlock(&buf, proto.Version, c.Block()); err != nil {
			t.Fatal(err)
		}
	}
	var (
		block   proto.Block
		results proto.Results
	)
	if err := block.DecodeBlock(proto.NewReader(bytes.NewReader(buf.Buf)), proto.Version, results.Auto()); err != nil {
		t.Fatal(err)
	}
	if len(results) != 25 || block.Rows != len(events) {
		t.Fatalf("%d columns of %d rows", len(results), block.Rows)
	}
	for _, column := range results {
		get, want := reader(t, column), map[string]func(*audit.Event) string{
			"id":           func(e *audit.Event) string { return e.ID },
			"customerUuid": func(e *audit.Event) string { return e.CustomerUUID },
			"action":       func(e *audit.Event) string { return e.Action },
			"businessUnit": func(e *audit.Event) string { return e.BusinessUnit },
			"changes":      func(e *audit.Event) string { return string(e.Changes) },
		}[column.Name]
		if want == nil {
			continue
		}
		for i := range events {
			if got, want := get(i), want(&events[i]); got != want {
				t.Fatalf("%s of row %d: got %q, want %q", column.Name, i, got, want)
			}
		}
	}
}

// reader gives the text of a row of the column.
func reader(t *testing.T, column proto.ResultColumn) func(int) string {
	switch data := column.Data.(type) {
	case *proto.ColUUID:
		return func(i int) string { return data.Row(i).String() }
	case *proto.ColStr:
		return data.Row
	case *proto.ColLowCardinality[string]:
		return data.Row
	}
	return func(int) string {
		t.Fatalf("no text in a column of type %s", column.Data.Type())
		return ""
	}
}
