package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
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

// recent remembers which ids were seen lately: 32 bits of each, so that one
// event in half a billion is looked up in vain. Safe for concurrent use.
type recent struct {
	seed [2]uint64 // so that nobody can aim at a bucket

	mu      sync.Mutex
	buckets [][16]uint32 // each a cache line; guarded by mu
	oldest  []uint8      // the place in a bucket to use next; guarded by mu
}

func newRecent() *recent {
	return &recent{
		seed:    [2]uint64{rand.Uint64(), rand.Uint64()}, //nolint:gosec // unknown to producers is enough
		buckets: make([][16]uint32, recentBuckets), oldest: make([]uint8, recentBuckets),
	}
}

// add remembers ids and returns the indexes of those that it knew.
func (r *recent) add(ids []uuid.UUID) (known []int) {
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
	return known
}

// eventKey is what an event is known by.
type eventKey struct {
	customer string
	id       uuid.UUID
}

// digest is of an event's content: equal content, equal digest.
type digest [sha256.Size]byte

func (c *columns) key(row int) eventKey {
	return eventKey{customer: c.customerUUID.at(row), id: c.id[row]}
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
	// In order, so that of two in this batch the first stays. Rows that nobody
	// suspected take part when they share their id with one that was.
	ids := map[uuid.UUID]struct{}{}
	for row := range suspects {
		ids[b.rows.id[row]] = struct{}{}
	}
	drop := map[int]bool{} // true: other content
	for row, id := range b.rows.id {
		if _, ok := ids[id]; !ok {
			continue
		}
		key, content := b.rows.key(row), b.rows.digest(row)
		if before, ok := known[key]; ok {
			drop[row] = before != content
			continue
		}
		known[key] = content
	}
	if len(drop) == 0 {
		return nil
	}
	var conflicts []int64
	for row, conflict := range drop {
		if conflict {
			conflicts = append(conflicts, b.rows.offset[row])
		}
	}
	if err := l.condemn(ctx, b, conflicts, reasonConflict, errConflict); err != nil {
		return err
	}
	b.duplicates = len(drop) - len(conflicts)
	b.rows = b.rows.only(func(row int) bool { _, ok := drop[row]; return !ok })
	return nil
}

// suspects are the rows to look up; true for those whose id this process has
// seen, which are looked for at any time of creation, not at their own alone.
func (l *lane) suspects(b *batch) map[int]bool {
	rows := map[int]bool{}
	if b.remade {
		for row := range b.rows.id {
			rows[row] = false
		}
	}
	first := min(l.unseen, len(b.rows.id))
	l.unseen -= first
	for row := range first {
		rows[row] = false
	}
	for _, row := range b.doubted {
		rows[row] = false
	}
	for _, row := range l.in.recent.add(b.rows.id) {
		rows[row] = true
	}
	return rows
}

// lookup asks the table for events with the keys of the rows and returns the
// digests of their contents. It may find a row itself, which a late insert of
// another attempt has just stored: leaving it out is right then, too.
func (l *lane) lookup(ctx context.Context, b *batch, rows map[int]bool) (map[eventKey]digest, error) {
	known := map[eventKey]digest{}
	order := make([]int, 0, len(rows))
	for row := range rows {
		order = append(order, row)
	}
	slices.Sort(order)
	for part := range slices.Chunk(order, lookupKeys) {
		// By primary key: a record that is sent again has its old time.
		if err := l.lookupPart(ctx, b, part, lookupExact, known); err != nil {
			return nil, err
		}
	}
	// A known id that is not there with this time may be there with another:
	// by the filter on ids, which is only for few.
	rest := slices.DeleteFunc(order, func(row int) bool {
		_, found := known[b.rows.key(row)]
		return found || !rows[row]
	})
	for part := range slices.Chunk(rest, lookupKeys) {
		if err := l.lookupPart(ctx, b, part, lookupAnyTime, known); err != nil {
			return nil, err
		}
	}
	return known, nil
}

var (
	lookupExact   = lookupQuery("(customer_uuid, created_date, id)", "customer, fromUnixTimestamp64Milli(toInt64(created), 'UTC'), toUUID(id)")
	lookupAnyTime = lookupQuery("(customer_uuid, id)", "customer, toUUID(id)")
)

// lookupQuery gives the digests of stored events by keys that come as three
// arrays.
func lookupQuery(columns, keys string) string {
	return `SELECT customer_uuid, id, ` + digestExpression(newColumns().block) + `
		FROM audit_events WHERE ` + columns + ` IN (SELECT ` + keys + ` FROM (SELECT 1)
			ARRAY JOIN {customers:Array(String)} AS customer, {created:Array(String)} AS created, {ids:Array(String)} AS id)`
}

func (l *lane) lookupPart(ctx context.Context, b *batch, rows []int, query string, known map[eventKey]digest) error {
	customers, created, ids := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		key := b.rows.key(row)
		customers[i], ids[i] = key.customer, key.id.String()
		created[i] = strconv.FormatInt(int64(b.rows.created.Data[row]), 10)
	}
	keys := param.Set{}
	keys.Texts("customers", customers)
	keys.Texts("created", created)
	keys.Texts("ids", ids)
	return l.in.retry(ctx, "duplicate check", l.at.String(), func(ctx context.Context) error {
		found, err := l.in.store.Query(clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters(keys))), query)
		if err != nil {
			return fmt.Errorf("look for duplicates of %s: %w", l.at, err)
		}
		defer func() { _ = found.Close() }() // Err tells what matters
		for found.Next() {
			var (
				key     eventKey
				content string
			)
			if err := found.Scan(&key.customer, &key.id, &content); err != nil {
				return err
			}
			known[key] = digest([]byte(content))
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
