package ingest

import (
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/bench/limit"
	"github.com/auditrail/auditrail/services/bench/measure"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// BenchmarkBlock builds and encodes the native block of a batch, from events
// and from the bytes of their records. `go run ./services/bench` compares the
// results.
func BenchmarkBlock(b *testing.B) {
	for _, w := range measure.Workloads {
		lines := measure.Lines(b, w.Full, measure.Size())
		events := measure.Events(b, lines)
		b.Run("events/"+w.Name+"/ours", func(b *testing.B) { benchmarkOurs(b, fromEvents(events)) })
		b.Run("events/"+w.Name+"/limit", func(b *testing.B) { benchmarkLimit(b, w.Full, fromEvents(events)) })
		b.Run("records/"+w.Name+"/ours", func(b *testing.B) { benchmarkOurs(b, oursFromRecords(lines)) })
		b.Run("records/"+w.Name+"/limit", func(b *testing.B) { benchmarkLimit(b, w.Full, limitFromRecords(lines)) })
	}
}

// source gives event i, until it is asked for the next.
type source func(i int) (*audit.Event, error)

func benchmarkOurs(b *testing.B, next source) {
	var (
		current  = newBatch(newEvents())
		columns  = current.filler.(*eventColumns)
		buf      proto.Buffer
		at       = topic.Position{TopicID: uuid.New(), Partition: 3}
		appended = measure.Now().UnixMilli()
	)
	measure.Process(b, measure.Size(), func() {
		current.reset()
		for i := range measure.Size() {
			e, err := next(i)
			if err != nil {
				b.Fatal(err)
			}
			at.Offset = int64(i)
			id, err := eventID(e, at, nil)
			if err != nil {
				b.Fatal(err)
			}
			current.take(at.Offset, 0, 0)
			columns.row(e, id, at, appended)
		}
		encode(b, &buf, current.rows.block)
	})
}

func benchmarkLimit(b *testing.B, full bool, next source) {
	var (
		columns = limit.NewColumns(full)
		buf     proto.Buffer
	)
	measure.Process(b, measure.Size(), func() {
		columns.Reset()
		for i := range measure.Size() {
			e, err := next(i)
			if err != nil {
				b.Fatal(err)
			}
			columns.Add(e, 3, int64(i))
		}
		encode(b, &buf, columns.Block())
	})
}

func encode(b *testing.B, buf *proto.Buffer, columns proto.Input) {
	buf.Reset()
	block := proto.Block{Columns: len(columns), Rows: measure.Size()}
	if err := block.EncodeBlock(buf, proto.Version, columns); err != nil {
		b.Fatal(err)
	}
}

func fromEvents(events []audit.Event) source {
	return func(i int) (*audit.Event, error) { return &events[i], nil }
}

func oursFromRecords(lines [][]byte) source {
	var e audit.Event
	at := measure.Now()
	return func(i int) (*audit.Event, error) {
		if err := audit.Decode(lines[i], &e); err != nil {
			return nil, err
		}
		return &e, e.Validate(at, 0)
	}
}

func limitFromRecords(lines [][]byte) source {
	var e audit.Event
	return func(i int) (*audit.Event, error) {
		e = audit.Event{}
		return &e, limit.Decode(lines[i], &e)
	}
}
