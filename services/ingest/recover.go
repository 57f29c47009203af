package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/stored"
)

// marker is the metadata of every commit: which incarnation of the topic the
// offset belongs to and, before an insert, which records that insert may store.
type marker struct {
	topicID uuid.UUID
	pending *pendingRange // nil: everything before the offset is stored
}

// pendingRange names the records of one batch.
type pendingRange struct {
	first, last int64
	count       int
	bytes       int64
}

// String is the metadata form: what stored.Marker writes and, when a range is
// pending, its first and last offset, count and bytes.
func (m marker) String() string {
	var pending string
	if p := m.pending; p != nil {
		pending = fmt.Sprintf("%d %d %d %d", p.first, p.last, p.count, p.bytes)
	}
	return stored.Marker(m.topicID, pending)
}

// parseMarker reads the metadata form.
func parseMarker(s string) (marker, error) {
	topicID, f, err := stored.ParseMarker(s)
	if err != nil || len(f) == 0 {
		return marker{topicID: topicID}, err
	}
	if len(f) != 4 {
		return marker{}, fmt.Errorf("commit metadata %q was not written by this service", s)
	}
	var errs [4]error
	p := &pendingRange{}
	p.first, errs[0] = strconv.ParseInt(f[0], 10, 64)
	p.last, errs[1] = strconv.ParseInt(f[1], 10, 64)
	p.count, errs[2] = strconv.Atoi(f[2])
	p.bytes, errs[3] = strconv.ParseInt(f[3], 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return marker{}, fmt.Errorf("commit metadata %q: %w", s, err)
	}
	return marker{topicID: topicID, pending: p}, nil
}

// recovery is what a lane does first when its partition's last owner may have
// died in the middle of an insert: it makes the same batch again, less the
// rows that are stored, under the same token.
type recovery struct {
	want pendingRange
	// unnamed: nobody has named the range, it only spans what may have been
	// tried; its count and bytes are not known.
	unnamed bool
	stored  map[int64]struct{} // offsets of the range that the table holds
}

// storedOffsets asks the table which records of a range it holds. Another
// attempt at the same insert may still be under way and land after we looked:
// the token then makes either ours or that one a no-op.
func (l *lane) storedOffsets(ctx context.Context, r pendingRange) (map[int64]struct{}, error) {
	stored := map[int64]struct{}{}
	err := l.in.retry(ctx, "recovery", l.at.String(), func(ctx context.Context) error {
		clear(stored)
		rows, err := l.in.store.Query(ctx, `SELECT kafka_offset FROM `+l.stream.table+`
			WHERE kafka_offset BETWEEN {first:Int64} AND {last:Int64} AND kafka_partition = {partition:UInt32} AND topic_id = {topic:UUID}`,
			clickhouse.Named("first", strconv.FormatInt(r.first, 10)), clickhouse.Named("last", strconv.FormatInt(r.last, 10)),
			clickhouse.Named("partition", strconv.Itoa(int(l.at.partition))), clickhouse.Named("topic", l.topicID.String()))
		if err != nil {
			return fmt.Errorf("look for the rows of %s %d-%d: %w", l.at, r.first, r.last, err)
		}
		defer func() { _ = rows.Close() }() // Err tells what matters
		for rows.Next() {
			var offset int64
			if err := rows.Scan(&offset); err != nil {
				return err
			}
			stored[offset] = struct{}{}
		}
		return rows.Err()
	})
	return stored, err
}

// has says that the table holds the record already. A nil recovery has none.
func (r *recovery) has(offset int64) bool {
	if r == nil {
		return false
	}
	_, ok := r.stored[offset]
	return ok
}

// errMismatch tells that Kafka no longer has the records that a pending insert
// was made of, so that nobody can say what was stored.
var errMismatch = errors.New("the records of the pending range are not those that were named")

// check compares the batch that was made again with the range that was named.
func (r *recovery) check(b *batch) error {
	if got := b.span(); got != r.want && !r.unnamed {
		return fmt.Errorf("%w: named %+v, found %+v; compare the table with Kafka and commit the right offset by hand", errMismatch, r.want, got)
	}
	return nil
}
