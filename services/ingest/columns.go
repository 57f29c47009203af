package ingest

import (
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// columns builds the native block of a batch column by column, without a row
// in between. Buffers and dictionaries live on from batch to batch. What each
// table has is here; the others are the filler's. Owned by whoever owns the
// batch.
type columns struct {
	id        proto.ColUUID
	customer  dictionary
	date      proto.ColDateTime64 // retention counts from it
	topicID   proto.ColUUID
	partition proto.ColUInt32
	offset    proto.ColInt64
	appended  proto.ColDateTime64
	retention proto.ColUInt16

	months       months // that the rows are of: partitions of tables
	dictionaries []*dictionary
	roomUntil    int // no dictionary is full before there are so many rows

	block proto.Input     // the columns under their names, made once
	blank func() *columns // makes empty ones of the same table
}

// build makes the block: the filler's columns, which name id, customer and date
// where they belong, and those of the position.
func (c *columns) build(own proto.Input) {
	c.block = append(own, proto.Input{
		{Name: "topic_id", Data: &c.topicID},
		{Name: "kafka_partition", Data: &c.partition},
		{Name: "kafka_offset", Data: &c.offset},
		{Name: "appended_at", Data: &c.appended},
		{Name: "retention_days", Data: &c.retention},
	}...)
	for _, column := range c.block {
		switch data := column.Data.(type) {
		case *dictionary:
			c.dictionaries = append(c.dictionaries, data)
		case *proto.ColDateTime64:
			data.WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
		}
	}
}

// stood ends a row: it tells where its record stood, and when that was
// appended, in epoch ms by the broker's clock.
func (c *columns) stood(at topic.Position, appended int64) {
	c.topicID.Append(at.TopicID)
	c.partition.Append(uint32(at.Partition))
	c.offset.Append(at.Offset)
	c.appended.AppendRaw(proto.DateTime64(appended))
	c.retention.Append(0) // see retain
}

// rows in the block.
func (c *columns) rows() int { return len(c.id) }

// only copies the rows that keep says yes to.
func (c *columns) only(keep func(row int) bool) *columns {
	out := c.blank()
	var rows []int
	for row := range c.id {
		if keep(row) {
			rows = append(rows, row)
		}
	}
	for k, column := range c.block {
		copyRows(out.block[k].Data, column.Data, rows)
	}
	return out
}

func copyRows(to, from proto.ColInput, rows []int) {
	switch from := from.(type) {
	case *dictionary:
		for _, row := range rows {
			to.(*dictionary).append(from.at(row))
		}
	case *proto.ColStr:
		for _, row := range rows {
			to.(*proto.ColStr).AppendBytes(from.RowBytes(row))
		}
	case *proto.ColDateTime64:
		for _, row := range rows {
			to.(*proto.ColDateTime64).AppendRaw(from.Data[row])
		}
	case *proto.ColUUID:
		pick(to.(*proto.ColUUID), *from, rows)
	case *proto.ColIPv6:
		pick(to.(*proto.ColIPv6), *from, rows)
	case *proto.ColUInt8:
		pick(to.(*proto.ColUInt8), *from, rows)
	case *proto.ColUInt16:
		pick(to.(*proto.ColUInt16), *from, rows)
	case *proto.ColUInt32:
		pick(to.(*proto.ColUInt32), *from, rows)
	case *proto.ColInt64:
		pick(to.(*proto.ColInt64), *from, rows)
	default:
		panic(fmt.Sprintf("no copy of a column of type %T", from)) // a column that nobody taught us
	}
}

func pick[S ~[]E, E any](to *S, from S, rows []int) {
	for _, row := range rows {
		*to = append(*to, from[row])
	}
}

// full says that a dictionary has no room for another row's value. A row adds
// one value at the most, so that the dictionaries need not be asked each time.
func (c *columns) full() bool {
	if c.rows() < c.roomUntil {
		return false
	}
	most := 0
	for _, d := range c.dictionaries {
		most = max(most, len(d.keys))
	}
	c.roomUntil = c.rows() + maxKeys - most
	return most >= maxKeys
}

// spareBytes is the size from which a text buffer that a batch left mostly
// empty is given back.
const spareBytes = 1 << 20

func (c *columns) reset() {
	rows := c.rows()
	c.roomUntil = 0
	c.months = months{seen: c.months.seen[:0]}
	for _, column := range c.block {
		switch data := column.Data.(type) {
		case *dictionary:
			data.reset(rows)
		case *proto.ColStr:
			if cap(data.Buf) > spareBytes && len(data.Buf) < cap(data.Buf)/4 {
				*data = proto.ColStr{}
				continue
			}
			data.Reset()
		case proto.Resettable:
			data.Reset()
		default:
			panic(fmt.Sprintf("column %s of type %T cannot be used again", column.Name, data)) // a column that nobody taught us
		}
	}
}
