package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// A record that passes the contract may still be one that the engine does not
// take. The engine refuses its whole batch then, for ever. To find it, parts of
// the batch are inserted into an empty copy of the table: what the copy refuses
// alone, while it takes a harmless row right before and after, is guilty and
// becomes a dead letter. The others go on under the batch's own token.

const (
	// refusalsToSearch is how many times in a row the engine must refuse a
	// batch before the search begins, and refusalsToSearchAgain how many more
	// before one that found nothing is repeated: about five minutes.
	refusalsToSearch      = 5
	refusalsToSearchAgain = 60
)

// errRefused tells that the engine keeps refusing a batch, and that its rows
// may be why.
var errRefused = errors.New("the engine keeps refusing the batch")

// passing are answers of the engine that are about itself, not about the rows.
var passing = []proto.Error{
	proto.ErrAborted, proto.ErrAccessDenied, proto.ErrAuthenticationFailed, proto.ErrCannotAllocateMemory, proto.ErrCannotOpenFile,
	proto.ErrCannotScheduleTask, proto.ErrCannotWriteToFile, proto.ErrCannotWriteToFileDescriptor, proto.ErrCannotWriteToSocket,
	proto.ErrDatabaseAccessDenied, proto.ErrKeeperException, proto.ErrMemoryLimitExceeded, proto.ErrNetworkError, proto.ErrNotEnoughSpace,
	proto.ErrNoZookeeper, proto.ErrPocoException, proto.ErrQueryWasCancelled, proto.ErrQueryWasCancelledByClient, proto.ErrQuotaExpired,
	proto.ErrReadonly, proto.ErrSocketTimeout, proto.ErrTableIsReadOnly, proto.ErrTimeoutExceeded, proto.ErrTooFewLiveReplicas,
	proto.ErrTooManyParts, proto.ErrTooManySimultaneousQueries, proto.ErrUnexpectedZookeeperError, proto.ErrUnknownDatabase,
	proto.ErrUnknownStatusOfInsert, proto.ErrUnknownTable, proto.ErrUnsatisfiedQuorumForPreviousWrite,
}

// blamesRows says that the engine has answered, and that its answer may be
// about the rows.
func blamesRows(err error) bool {
	e, ok := ch.AsException(err)
	return ok && !slices.Contains(passing, e.Code)
}

// withoutValues is an answer of the engine about rows, without its words: they
// quote the rows.
func withoutValues(err error) error {
	if e, ok := ch.AsException(err); ok && blamesRows(err) {
		return fmt.Errorf("the engine refuses it: code %d, %s", int(e.Code), e.Code.String())
	}
	return err
}

// withoutRefused moves rows that the engine refuses alone from the batch to the
// dead letters, and returns the others. All of them when none is found: then
// the cause is elsewhere, and the insert goes on being repeated.
func (l *lane) withoutRefused(ctx context.Context, b *batch, rows *columns) (*columns, error) {
	began := time.Now()
	refused, why, err := l.search(ctx, rows)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil { // what was found before holds all the same
		l.log.Warn("the search for records that the engine refuses broke off", zap.Error(withoutValues(err)))
	}
	if len(refused) == 0 {
		if err == nil {
			l.log.Error("the engine keeps refusing a batch, and no record of it alone is the cause", zap.Int64("offset", b.first), zap.Int("rows", rows.rows()))
		}
		return rows, nil
	}
	l.log.Error("the engine refuses records; they become dead letters", zap.Int("records", len(refused)), zap.Int64("offset", refused[0]), zap.Duration("took", time.Since(began)), zap.Error(why))
	if err := l.condemn(ctx, b, refused, topic.ReasonRefused, why); err != nil {
		return nil, err
	}
	others := func(c *columns) *columns {
		return c.only(func(row int) bool { _, found := slices.BinarySearch(refused, c.offset[row]); return !found })
	}
	b.rows, rows = others(b.rows), others(rows)
	b.refusals = refusalsToSearch - 1 // if there are more, the next refusal has them searched for
	return rows, nil
}

const (
	// maxRefused is how many refused rows one search looks for.
	maxRefused = 1000
	// dropTimeout bounds the removal of the copy: a lane that is cut off waits
	// for it.
	dropTimeout = 2 * time.Second
)

// search finds the offsets of rows that the engine refuses alone, in order, and
// what it says of the last of them. An error does not take away what was found.
func (l *lane) search(ctx context.Context, rows *columns) (refused []int64, why error, err error) {
	p := probe{in: l.in, stream: l.stream, table: fmt.Sprintf("%s%s_%d", l.stream.probePrefix(), strings.ReplaceAll(l.topicID.String(), "-", ""), l.at.partition)}
	// One that a crash left behind is replaced.
	if err := l.in.store.Exec(ctx, "CREATE OR REPLACE TABLE "+p.table+" AS "+l.stream.table); err != nil {
		return nil, nil, fmt.Errorf("make the table %s: %w", p.table, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
		defer cancel()
		if err := l.in.store.Exec(ctx, "DROP TABLE IF EXISTS "+p.table); err != nil {
			l.log.Warn("drop the table "+p.table, zap.Error(err))
		}
	}()
	err = p.search(ctx, rows)
	return p.refused, p.why, err
}

// probePrefix begins the names of the copies of its table.
func (s *stream) probePrefix() string { return s.table + "_probe_" }

// dropProbes removes copies that crashes left behind: they hold customers' rows.
// A search under way elsewhere breaks off and is repeated.
func (s *stream) dropProbes(ctx context.Context, conn driver.Conn) error {
	var names []string
	if err := conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND startsWith(name, '"+s.probePrefix()+"')").Scan(&names); err != nil {
		return fmt.Errorf("look for copies of %s: %w", s.table, err)
	}
	for _, name := range names {
		if err := conn.Exec(ctx, "DROP TABLE IF EXISTS `"+name+"`"); err != nil {
			return fmt.Errorf("drop the table %s: %w", name, err)
		}
	}
	return nil
}

// probe inserts rows into an empty copy of the table.
type probe struct {
	in      *ingest
	stream  *stream
	table   string
	refused []int64
	why     error
}

// search looks for refused rows, by halves.
func (p *probe) search(ctx context.Context, rows *columns) error {
	if len(p.refused) == maxRefused {
		return nil
	}
	why, err := p.insert(ctx, rows)
	if why == nil || err != nil {
		return err
	}
	if n := rows.rows(); n > 1 {
		if err := p.search(ctx, rows.only(func(row int) bool { return row < n/2 })); err != nil {
			return err
		}
		return p.search(ctx, rows.only(func(row int) bool { return row >= n/2 }))
	}
	return p.confirm(ctx, rows, why)
}

// confirm inserts a refused row once more, between two of its month that the
// engine must take.
func (p *probe) confirm(ctx context.Context, row *columns, why error) error {
	filler := p.stream.fill()
	filler.probe(int64(row.date.Data[0]))
	harmless := filler.base()
	harmless.retention[0] = row.retention[0]
	for _, try := range []struct {
		rows *columns
		fine bool
	}{{harmless, true}, {row, false}, {harmless, true}} {
		why, err := p.insert(ctx, try.rows)
		if err != nil {
			return err
		}
		if fine := why == nil; fine != try.fine {
			return fmt.Errorf("the engine does not always say the same: %w", errRefused)
		}
	}
	p.refused, p.why = append(p.refused, row.offset[0]), why
	return nil
}

// insert returns why the engine refuses the rows, nil if it takes them. An
// error leaves that open.
func (p *probe) insert(ctx context.Context, rows *columns) (why, err error) {
	err = p.in.inserter.once(ctx, target{table: p.table}, rows.block, func(context.Context) error { return nil })
	if blamesRows(err) {
		return withoutValues(err), nil
	}
	return nil, err
}
