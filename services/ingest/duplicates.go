package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// A producer may send an event twice: the same id of the same customer. A
// record is compared with the table when something raises a suspicion:
//
//   - its id is among the last few million that this process has seen;
//   - its producer, or an operator, says that it is sent again;
//   - it is among the first records of a lane, whose process has not seen what
//     came before;
//   - its batch is made again after a crash: whoever judged it before us may
//     have left it out as a duplicate, so we must not take it for missing.
//
// The same content is left out and counted, other content becomes a dead letter.

const (
	// recentBuckets times the places of a bucket is how many ids are
	// remembered: 4 million in 16 MiB, a few minutes of full speed.
	recentBuckets = 1 << 18
	// lookupKeys bounds the keys of one query.
	lookupKeys = 5_000
)

// recent remembers which ids were seen lately: 31 bits of each, so that about
// one new id in a hundred million is looked up in vain. It also knows which
// batches of this process were judged and are not stored yet. Safe for
// concurrent use.
type recent struct {
	seed [2]uint64 // so that nobody can aim at a bucket

	mu      sync.Mutex
	buckets [][16]uint32            // each a cache line; guarded by mu
	oldest  []uint8                 // the place in a bucket to use next; guarded by mu
	turn    int64                   // of the batch judged last; guarded by mu
	pending map[int64]chan struct{} // closed when the batch with that turn is over; guarded by mu
}

func newRecent() *recent {
	return &recent{
		seed:    [2]uint64{rand.Uint64(), rand.Uint64()}, //nolint:gosec // unknown to producers is enough
		buckets: make([][16]uint32, recentBuckets), oldest: make([]uint8, recentBuckets),
		pending: map[int64]chan struct{}{},
	}
}

// add remembers the ids of a batch and returns the indexes of those that it
// knew, and the batch's turn, which over ends.
func (r *recent) add(ids []uuid.UUID) (known []int, turn int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, id := range ids {
		hi, lo := bits.Mul64(binary.LittleEndian.Uint64(id[:8])^r.seed[0], binary.LittleEndian.Uint64(id[8:])^r.seed[1])
		h := hi ^ lo
		at, print := h%recentBuckets, uint32(h>>32)|1 // 0 is an empty place
		bucket := &r.buckets[at]
		if slices.Contains(bucket[:], print) {
			known = append(known, i)
			continue
		}
		bucket[r.oldest[at]%16] = print
		r.oldest[at]++
	}
	r.turn++
	r.pending[r.turn] = make(chan struct{})
	return known, r.turn
}

// over says that the batch with that turn is stored, or that its lane has ended.
func (r *recent) over(turn int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ended, ok := r.pending[turn]; ok {
		close(ended)
		delete(r.pending, turn)
	}
}

// wait returns once every batch with an earlier turn is over. As each waits for
// earlier ones only, none waits for itself.
func (r *recent) wait(ctx context.Context, turn int64) error {
	r.mu.Lock()
	var earlier []chan struct{}
	for other, ended := range r.pending {
		if other < turn {
			earlier = append(earlier, ended)
		}
	}
	r.mu.Unlock()
	for _, ended := range earlier {
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// eventKey is what an event is known by.
type eventKey struct {
	customer string
	id       uuid.UUID
}

// digest is of an event's content: equal content, equal digest.
type digest [sha256.Size]byte

func (c *columns) key(row int) eventKey {
	return eventKey{customer: c.customer.at(row), id: c.id[row]}
}

// suspicion says how far an event is looked for.
type suspicion struct {
	// anyTime: among the events of any time, not only among those of its own.
	// A record that is sent again has its old time; a conflict may have another.
	anyTime bool
	// seen: this process has seen the id. If the table does not have it, another
	// lane may be about to store it.
	seen bool
}

// verdict says why a row is left out.
type verdict int

const (
	duplicate verdict = iota // its event is stored
	conflict                 // its key is, with other content
	itself                   // it is, by a late insert of another attempt
)

// storedEvent is an event that the table has.
type storedEvent struct {
	content digest
	at      topic.Position
}

// judge finds the batch's duplicates. Afterwards its rows are those to be
// stored, each with a key that no other record has had as far as we can tell.
func (l *lane) judge(ctx context.Context, b *batch) error {
	suspects := l.suspects(b)
	if len(suspects) == 0 {
		return nil
	}
	known, err := l.lookup(ctx, b, suspects)
	if err != nil {
		return err
	}
	verdicts := judgeRows(b.rows, suspects, known)
	var conflicts []int64
	for row, v := range verdicts {
		switch v {
		case duplicate:
			b.duplicates++
		case conflict:
			conflicts = append(conflicts, b.rows.offset[row])
		case itself:
			b.remade = true // whoever inserted it may have died before its view had it
		}
	}
	if len(verdicts) > 0 {
		b.rows = b.rows.only(func(row int) bool { _, ok := verdicts[row]; return !ok })
	}
	slices.Sort(conflicts)
	return l.condemn(ctx, b, conflicts, topic.ReasonConflict, l.stream.conflict)
}

// judgeRows compares rows with what is known, in order, so that of two in this
// batch the first stays. Rows that nobody suspected take part when they share
// their id with one that was.
func judgeRows(rows *columns, suspects map[int]suspicion, known map[eventKey]storedEvent) map[int]verdict {
	ids := map[uuid.UUID]struct{}{}
	for row := range suspects {
		ids[rows.id[row]] = struct{}{}
	}
	verdicts := map[int]verdict{}
	firsts := map[eventKey]int{}
	for row, id := range rows.id {
		if _, ok := ids[id]; !ok {
			continue
		}
		key := rows.key(row)
		was, ok := known[key]
		if !ok {
			first, again := firsts[key]
			if !again {
				firsts[key] = row
				continue
			}
			was = storedEvent{content: rows.digest(first), at: rows.position(first)}
		}
		switch {
		case was.at == rows.position(row):
			verdicts[row] = itself
		case was.content == rows.digest(row):
			verdicts[row] = duplicate
		default:
			verdicts[row] = conflict
		}
	}
	return verdicts
}

// position of a row's record.
func (c *columns) position(row int) topic.Position {
	return topic.Position{TopicID: c.topicID[row], Partition: int32(c.partition[row]), Offset: c.offset[row]}
}

// suspects are the rows to look up. The batch takes its turn.
func (l *lane) suspects(b *batch) map[int]suspicion {
	rows := map[int]suspicion{}
	first := min(l.unseen, len(b.rows.id))
	l.unseen -= first
	for row := range first {
		rows[row] = suspicion{}
	}
	for _, row := range b.doubted {
		rows[row] = suspicion{anyTime: l.stream.redated}
	}
	if b.remade {
		for row := range b.rows.id {
			rows[row] = suspicion{anyTime: true}
		}
	}
	var known []int
	known, b.turn = l.in.recent.add(b.rows.id)
	for _, row := range known {
		rows[row] = suspicion{anyTime: true, seen: true}
	}
	return rows
}

// lookup asks the table for events with the keys of the rows.
func (l *lane) lookup(ctx context.Context, b *batch, rows map[int]suspicion) (map[eventKey]storedEvent, error) {
	known := map[eventKey]storedEvent{}
	rest := slices.Sorted(maps.Keys(rows))
	// unknown leaves those of rest that are not known yet and that which wants.
	unknown := func(which func(suspicion) bool) {
		rest = slices.DeleteFunc(rest, func(row int) bool {
			_, found := known[b.rows.key(row)]
			return found || !which(rows[row])
		})
	}
	// By primary key, which is cheap; then by the filter on ids.
	if err := l.lookupAll(ctx, b, rest, l.stream.lookupExact, known); err != nil {
		return nil, err
	}
	unknown(func(s suspicion) bool { return s.anyTime })
	if err := l.lookupAll(ctx, b, rest, l.stream.lookupAnyTime, known); err != nil {
		return nil, err
	}
	unknown(func(s suspicion) bool { return s.seen })
	if len(rest) == 0 {
		return known, nil
	}
	// Most of these are twins within this batch. Others may be in a batch that
	// another lane is storing at this moment.
	if err := l.in.recent.wait(ctx, b.turn); err != nil {
		return nil, err
	}
	return known, l.lookupAll(ctx, b, rest, l.stream.lookupAnyTime, known)
}

func (l *lane) lookupAll(ctx context.Context, b *batch, rows []int, query string, known map[eventKey]storedEvent) error {
	for some := range slices.Chunk(rows, lookupKeys) {
		if err := l.lookupSome(ctx, b, some, query, known); err != nil {
			return err
		}
	}
	return nil
}

// lookupQuery gives stored rows by keys that come as three arrays.
func (s *stream) lookupQuery(block proto.Input, columns, keys string) string {
	return `SELECT customer_uuid, id, topic_id, kafka_partition, kafka_offset, ` + digestExpression(block) + `
		FROM ` + s.table + ` WHERE ` + columns + ` IN (SELECT ` + keys + ` FROM (SELECT 1)
			ARRAY JOIN {customers:Array(String)} AS customer, {dates:Array(String)} AS date, {ids:Array(String)} AS id)`
}

func (l *lane) lookupSome(ctx context.Context, b *batch, rows []int, query string, known map[eventKey]storedEvent) error {
	customers, dates, ids := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		key := b.rows.key(row)
		customers[i], ids[i] = key.customer, key.id.String()
		dates[i] = strconv.FormatInt(int64(b.rows.date.Data[row]), 10)
	}
	keys := param.Set{}
	keys.Texts("customers", customers)
	keys.Texts("dates", dates)
	keys.Texts("ids", ids)
	return l.in.retry(ctx, "duplicate check", l.at.String(), func(ctx context.Context) error {
		found, err := l.in.store.Query(clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters(keys))), query)
		if err != nil {
			return fmt.Errorf("look for duplicates of %s: %w", l.at, err)
		}
		defer func() { _ = found.Close() }() // Err tells what matters
		for found.Next() {
			var (
				key       eventKey
				event     storedEvent
				partition uint32
				content   string
			)
			if err := found.Scan(&key.customer, &key.id, &event.at.TopicID, &partition, &event.at.Offset, &content); err != nil {
				return err
			}
			event.at.Partition, event.content = int32(partition), digest([]byte(content))
			known[key] = event
		}
		return found.Err()
	})
}

// notContent are the columns that tell where a record stood, not what it says.
var notContent = []string{"topic_id", "kafka_partition", "kafka_offset", "appended_at", "retention_days"}

// digestExpression is digest in SQL: SHA-256 of the columns, each as its
// length, a colon and its text.
func digestExpression(block proto.Input) string {
	var parts []string
	for _, c := range block {
		if slices.Contains(notContent, c.Name) {
			continue
		}
		text := c.Name
		switch c.Data.(type) {
		case *dictionary, *proto.ColStr:
		case *proto.ColDateTime64:
			text = "toString(toUnixTimestamp64Milli(" + c.Name + "))"
		case *proto.ColIPv6:
			text = "lower(hex(" + c.Name + "))"
		default:
			text = "toString(" + c.Name + ")"
		}
		parts = append(parts, "toString(length("+text+"))", "':'", text)
	}
	return "SHA256(concat(" + strings.Join(parts, ", ") + "))"
}

func (c *columns) digest(row int) digest {
	h := sha256.New()
	for _, column := range c.block {
		if slices.Contains(notContent, column.Name) {
			continue
		}
		var text string
		switch data := column.Data.(type) {
		case *dictionary:
			text = data.at(row)
		case *proto.ColStr:
			text = data.Row(row)
		case *proto.ColDateTime64:
			text = strconv.FormatInt(int64(data.Data[row]), 10)
		case *proto.ColIPv6:
			text = hex.EncodeToString((*data)[row][:])
		case *proto.ColUInt8:
			text = strconv.FormatUint(uint64((*data)[row]), 10)
		case *proto.ColUInt32:
			text = strconv.FormatUint(uint64((*data)[row]), 10)
		case *proto.ColUUID:
			text = (*data)[row].String()
		default:
			panic(fmt.Sprintf("no text for column %s of type %T", column.Name, data)) // a column that nobody taught us
		}
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	return digest(h.Sum(nil))
}
