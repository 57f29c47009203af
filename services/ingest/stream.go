package ingest

import (
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// stream is what topics of one kind carry, and where ingest puts it. All that a
// lane does it does alike for every stream.
type stream struct {
	table    string // of the rows
	date     string // its column that retention counts from, which is part of its key
	conflict error  // what is wrong with a record whose key is stored with other content
	redated  bool   // a record that is sent again may have another date
	latest   string // the materialized view over the table; "": none
	target   string // what that view fills

	fill                       func() filler
	lookupExact, lookupAnyTime string    // see lookupQuery
	spare                      sync.Pool // of *batch: those that no lane uses, empty
}

func newStream(table, date, conflict string, fill func() filler) *stream {
	s := &stream{table: table, date: date, conflict: errors.New(conflict)}
	s.fill = func() filler {
		f := fill()
		f.base().blank = func() *columns { return s.fill().base() }
		return f
	}
	s.spare.New = func() any { return newBatch(s) }
	block := s.fill().base().block
	s.lookupExact = s.lookupQuery(block, "(customer_uuid, "+date+", id)", "customer, fromUnixTimestamp64Milli(toInt64(date), 'UTC'), toUUID(id)")
	s.lookupAnyTime = s.lookupQuery(block, "(customer_uuid, id)", "customer, toUUID(id)")
	return s
}

// filler reads the records of a stream into the columns of its table. One a
// batch, and owned with it.
type filler interface {
	// base is the part of the columns that every table has, with the block of all.
	base() *columns
	// read decodes and validates a record; an error is why it must become a dead
	// letter. The clock is the broker's append time, not ours, so that a replay
	// next year decides alike.
	read(l *lane, r *kgo.Record, at topic.Position) (entry, error)
	// add appends a row made of the record read last. at is the record's
	// position; it was appended then, in epoch ms by the broker's clock. Nothing
	// of the record is kept: strings are copied.
	add(at topic.Position, appended int64)
	// forget drops what it holds of the record read last.
	forget()
	// probe appends a row of that date, in epoch ms, which the engine must take.
	probe(date int64)
}

// entry is what a lane must know of a record to settle it.
type entry struct {
	// generatedFor is the subscription that may have switched such records off;
	// "": nobody may.
	generatedFor string
	// heartbeat: it says that something still is as it was, and is not stored.
	heartbeat bool
}

// streamOf says what a topic carries, nil for topics that ingest does not read.
func (in *ingest) streamOf(name string) *stream {
	switch {
	case name == audit.APICallsTopic:
		return in.calls
	case topic.IsEvents(name):
		return in.events
	}
	return nil
}
