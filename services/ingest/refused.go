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
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
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

// withoutRefused moves the rows that the engine refuses alone from the batch to
// the dead letters, and returns the others. All of them when none is found:
// then the cause is elsewhere, and the insert goes on being repeated.
func (l *lane) withoutRefused(ctx context.Context, b *batch, rows *columns) (*columns, error) {
	began := time.Now()
	refused, why, err := l.search(ctx, rows)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		l.log.Warn("could not find out which record the engine refuses", zap.Error(withoutValues(err)))
		return rows, nil
	case len(refused) == 0:
		l.log.Error("the engine keeps refusing a batch, and no record of it alone is the cause", zap.Int64("offset", b.first), zap.Int("rows", rows.rows()))
		return rows, nil
	}
	l.log.Error("the engine refuses records; they become dead letters", zap.Int("records", len(refused)), zap.Int64("offset", refused[0]), zap.Duration("took", time.Since(began)), zap.Error(why))
	before := len(b.dead)
	if err := l.condemn(ctx, b, refused, reasonRefused, why); err != nil {
		return nil, err
	}
	if err := l.bury(ctx, b.dead[before:]); err != nil {
		return nil, err
	}
	others := func(c *columns) *columns {
		return c.only(func(row int) bool { _, found := slices.BinarySearch(refused, c.offset[row]); return !found })
	}
	b.rows = others(b.rows)
	return others(rows), nil
}

// search finds the offsets of the rows that the engine refuses alone, in
// order, and what it says of them.
func (l *lane) search(ctx context.Context, rows *columns) (refused []int64, why error, err error) {
	p := probe{in: l.in, table: fmt.Sprintf("%s_probe_%s_%d", eventsTable, strings.ReplaceAll(l.topicID.String(), "-", ""), l.at.partition)}
	// One that a crash left behind is replaced.
	if err := l.in.store.Exec(ctx, "CREATE OR REPLACE TABLE "+p.table+" AS "+eventsTable); err != nil {
		return nil, nil, fmt.Errorf("make the table %s: %w", p.table, err)
	}
	defer func() {
		if err := l.in.store.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+p.table); err != nil {
			l.log.Warn("drop the table "+p.table, zap.Error(err))
		}
	}()
	p.harmless = newColumns()
	p.harmless.add(&audit.Event{CustomerUUID: "probe", CreatedDate: time.Now().UnixMilli()}, uuid.New(), position{}, 1)
	err = p.search(ctx, rows, 0, rows.rows())
	return p.refused, p.why, err
}

// probe inserts rows into an empty copy of the table.
type probe struct {
	in       *ingest
	table    string
	harmless *columns
	refused  []int64
	why      error
}

// search looks for refused rows among those from from up to before to.
func (p *probe) search(ctx context.Context, rows *columns, from, to int) error {
	part := rows.only(func(row int) bool { return row >= from && row < to })
	why, err := p.insert(ctx, part)
	if why == nil || err != nil {
		return err
	}
	if to-from > 1 {
		half := from + (to-from)/2
		if err := p.search(ctx, rows, from, half); err != nil {
			return err
		}
		return p.search(ctx, rows, half, to)
	}
	// Once more, between two rows that it must take.
	for _, try := range []struct {
		rows *columns
		fine bool
	}{{p.harmless, true}, {part, false}, {p.harmless, true}} {
		why, err := p.insert(ctx, try.rows)
		if err != nil {
			return err
		}
		if fine := why == nil; fine != try.fine {
			return fmt.Errorf("the engine does not always say the same: %w", errRefused)
		}
	}
	p.refused, p.why = append(p.refused, rows.offset[from]), why
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
