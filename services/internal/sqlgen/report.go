package sqlgen

import (
	"slices"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Pin is what was stored at some moment, so that a statement can be asked again
// later and read the same rows: those before Watermark, and those before the
// position of their partition.
type Pin struct {
	// Watermark is an append time in milliseconds since the Unix epoch: everything
	// that Kafka accepted before it was stored.
	Watermark  int64             `json:"watermark"`
	Partitions []PinnedPartition `json:"partitions"`
}

// PinnedPartition is up to where a partition was stored.
type PinnedPartition struct {
	Topic     string    `json:"topic"`
	TopicID   uuid.UUID `json:"topicId"`
	Partition int32     `json:"partition"`
	Next      int64     `json:"next"` // offset after the last record that was
}

// cond is the condition of the rows that were stored by then, and adds its
// values to params. A topic or a partition that is not in the pin was empty then:
// its rows count only when they came in before the watermark.
func (p Pin) cond(params param.Set) string {
	var topics []uuid.UUID
	next := [][]int64{{}} // of the topics that are not in it: no partition has a position
	for _, at := range p.Partitions {
		i := slices.Index(topics, at.TopicID)
		if i < 0 {
			i = len(topics)
			topics, next = append(topics, at.TopicID), append(next, nil)
		}
		for len(next[i+1]) <= int(at.Partition) {
			next[i+1] = append(next[i+1], 0)
		}
		next[i+1][at.Partition] = at.Next
	}
	// Both indexes are 1 or more; what is behind the end of an array is 0.
	return "if(appended_at < " + instant(params, "pin_watermark", p.Watermark) + ", 1, kafka_offset < " +
		params.IntLists("pin_next", next) + "[indexOf(" + params.UUIDs("pin_topics", topics) + ", topic_id) + 1][toUInt64(kafka_partition) + 1])"
}

// TimeSpan is a stretch of time: from From, inclusive, to To, exclusive, in
// milliseconds since the Unix epoch.
type TimeSpan struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// reported makes the FROM and WHERE of a report's statements: of what the caller
// may see what f asks for, but for its dates, in a span of time, as of the pin.
func reported(p visibility.Predicate, f Filter, pin Pin, span TimeSpan, params param.Set) string {
	f.Start, f.End = nil, nil
	_, from := source(p, f, params)
	return from + " AND created_date >= " + instant(params, "span_from", span.From) +
		" AND created_date < " + instant(params, "span_to", span.To) + " AND " + pin.cond(params)
}

// ReportCount makes the statement for how many rows a report has in a span: one
// UInt64.
func ReportCount(p visibility.Predicate, f Filter, pin Pin, span TimeSpan) Statement {
	params := param.Set{}
	return Statement{sql: "SELECT count()" + reported(p, f, pin, span, params), params: params}
}

// ReportHistogram makes the statement that counts a report's rows by time: rows
// of (start Int64, rows UInt64), newest first, without those that have none. The
// stretches are width milliseconds long, the first begins with the span.
func ReportHistogram(p visibility.Predicate, f Filter, pin Pin, span TimeSpan, width int64) Statement {
	params := param.Set{}
	first, w := params.Int("first", span.From), params.Int("width", width)
	return Statement{
		sql: "SELECT " + first + " + intDiv(toUnixTimestamp64Milli(created_date) - " + first + ", " + w + ") * " + w + " AS start, count()" +
			reported(p, f, pin, span, params) + " GROUP BY start ORDER BY start DESC",
		params: params,
	}
}
