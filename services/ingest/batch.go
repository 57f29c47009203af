package ingest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
)

// maxMonths bounds the table partitions one insert touches. ClickHouse refuses
// an insert over 100.
const maxMonths = 50

// batch is a contiguous run of records of one partition: rows for the table
// and dead letters. Its range names it, in the insert token and in the commit.
// Owned by the lane's accumulator until handed over, then by its writer.
type batch struct {
	first, last int64     // offsets of the first and last record
	count       int       // records, dead letters included
	bytes       int64     // bytes of the records' values
	held        int64     // bytes taken from the memory budget
	appendedAt  int64     // append time of the last record, epoch ms
	named       time.Time // when its range was last committed
	filler      filler    // of records into columns
	rows        *columns  // those of the filler, or what is left of them
	doubted     []int     // rows that their producer or an operator sends again
	duplicates  int       // records left out because they are stored already
	skipped     int       // records left out because their subscription chose so
	heartbeats  int       // records left out because they are signs of life
	turn        int64     // of its judgement in this process; 0: not judged
	refusals    int       // of the engine, one after the other
	dead        []deadLetter
	sealed      bool // takes no more, whatever its size
	remade      bool // somebody may have tried to insert it before
}

func newBatch(s *stream) *batch {
	f := s.fill()
	return &batch{filler: f, rows: f.base()}
}

func (b *batch) empty() bool { return b.count == 0 }

// take counts a record in.
func (b *batch) take(offset int64, size int, held int64) {
	if b.count == 0 {
		b.first = offset
	}
	b.last = offset
	b.count++
	b.bytes += int64(size)
	b.held += held
}

// span is the range that names the batch.
func (b *batch) span() pendingRange {
	return pendingRange{first: b.first, last: b.last, count: b.count, bytes: b.bytes}
}

// full says that the batch must be written before it takes another record.
func (b *batch) full(limits Limits) bool {
	return b.sealed || b.count >= limits.BatchRows || b.bytes >= int64(limits.BatchBytes) || b.rows.months.count() >= maxMonths || b.rows.full()
}

// token is the insert deduplication token: the same records give the same
// token in every attempt, on every replica, and no other records ever do.
func (b *batch) token(topicID uuid.UUID, partition int32) string {
	return fmt.Sprintf("%s/%d/%d-%d", topicID, partition, b.first, b.last)
}

func (b *batch) reset() {
	clear(b.dead)
	*b = batch{filler: b.filler, rows: b.filler.base(), doubted: b.doubted[:0], dead: b.dead[:0]}
	b.rows.reset()
	b.filler.forget()
}

// months collects the distinct calendar months (UTC) of rows.
type months struct {
	from, to int64   // bounds of the month of the row before, epoch ms
	seen     []int64 // first ms of each
}

func (m *months) add(ms int64) {
	if ms >= m.from && ms < m.to {
		return
	}
	t := time.UnixMilli(ms).UTC()
	first := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	m.from, m.to = first.UnixMilli(), first.AddDate(0, 1, 0).UnixMilli()
	for _, s := range m.seen {
		if s == m.from {
			return
		}
	}
	m.seen = append(m.seen, m.from)
}

func (m *months) count() int { return len(m.seen) }

// sentAgain says that a record may be stored already, as its producer or an
// operator knows.
func sentAgain(headers []kgo.RecordHeader) bool {
	return slices.ContainsFunc(headers, func(h kgo.RecordHeader) bool {
		return h.Key == audit.HeaderResent || h.Key == audit.HeaderRedriven
	})
}
