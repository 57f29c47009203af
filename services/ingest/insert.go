package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/store"
)

const (
	// attemptTimeout bounds one attempt to insert, so that an engine that
	// hangs with the connection open is not waited for for ever. A batch
	// takes well under a second; the rest is for an engine that is merging.
	attemptTimeout = 60 * time.Second
	dialTimeout    = 5 * time.Second
	retryFirst     = 100 * time.Millisecond
	retryMost      = 5 * time.Second
)

// inserter sends blocks over a few connections. Safe for concurrent use.
type inserter struct {
	store store.Config
	slots chan *ch.Client // one slot a connection; nil: not connected
	next  atomic.Uint32   // rotates over the addresses
}

func newInserter(cfg store.Config, connections int) *inserter {
	i := &inserter{store: cfg, slots: make(chan *ch.Client, connections)}
	for range connections {
		i.slots <- nil
	}
	return i
}

// target is what rows are inserted into.
type target struct {
	table string
	token string // "": every insert stores its rows
}

// statement names the columns, so that the order of the table does not matter
// and columns with defaults may be left out.
func (t target) statement(block proto.Input) string {
	names := make([]string, len(block))
	for i, c := range block {
		names[i] = c.Name
	}
	return "INSERT INTO " + t.table + " (" + strings.Join(names, ", ") + ") VALUES"
}

// settings of the insert.
func (t target) settings() []ch.Setting {
	deduplicate := "1"
	if t.token == "" {
		deduplicate = "0"
	}
	return []ch.Setting{
		{Key: "insert_deduplication_token", Value: t.token, Important: true},
		{Key: "insert_deduplicate", Value: deduplicate, Important: true},
		// Asynchronous inserts merge blocks of several clients: a token
		// would no longer name one block.
		{Key: "async_insert", Value: "0", Important: true},
		// One insert is one block, however the engine is configured: the
		// token is checked a block.
		{Key: "max_insert_block_size", Value: "1048576", Important: true},
		{Key: "max_insert_threads", Value: "1", Important: true},
		// Merges build the indexes: searches read new parts, which are small,
		// without them. It saves the engine a third of an insert.
		{Key: "materialize_skip_indexes_on_insert", Value: "0"},
		// An insert is acknowledged only with the rows that views make of it,
		// which are not deduplicated themselves.
		{Key: "materialized_views_ignore_errors", Value: "0", Important: true},
		{Key: "deduplicate_blocks_in_dependent_materialized_views", Value: "0", Important: true},
	}
}

// once sends a block to its target, one attempt. It calls before when it has
// a connection, right before it sends. It returns nil only when the engine has
// acknowledged the rows. Any error leaves open whether they landed; the
// repetition under the same token is safe.
func (i *inserter) once(ctx context.Context, to target, block proto.Input, before func(context.Context) error) error {
	var c *ch.Client
	select {
	case c = <-i.slots:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { i.slots <- c }()
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	var err error
	if c == nil || c.IsClosed() {
		if c, err = i.dial(ctx); err != nil {
			c = nil
			return err
		}
	}
	if err = before(ctx); err != nil {
		return err
	}
	err = c.Do(ctx, ch.Query{Body: to.statement(block), Input: block, Settings: to.settings()})
	if err != nil {
		_ = c.Close() // its state is unknown
		c = nil
	}
	return err
}

func (i *inserter) dial(ctx context.Context) (*ch.Client, error) {
	addr := i.store.Addr[int(i.next.Add(1))%len(i.store.Addr)]
	c, err := ch.Dial(ctx, ch.Options{
		Address: addr, Database: i.store.Database, User: i.store.User, Password: i.store.Password,
		Compression: ch.CompressionLZ4, DialTimeout: dialTimeout, HandshakeTimeout: dialTimeout, ReadTimeout: attemptTimeout,
		ClientName: "auditrail-ingest",
	})
	if err != nil {
		return nil, fmt.Errorf("connect to clickhouse %s: %w", addr, err)
	}
	return c, nil
}

// close ends all connections. No insert may be under way.
func (i *inserter) close() {
	for range cap(i.slots) {
		if c := <-i.slots; c != nil {
			_ = c.Close() // nothing is buffered in it
		}
	}
}

// insert stores the rows of a batch: it repeats the insert until the engine
// acknowledges it, ctx ends or the partition has another owner.
//
// An acknowledgement of a repetition does not say that the rows are there. The
// engine writes a token down before it puts the part in place; if it dies in
// between, the token is burnt: every repetition is a no-op, and the rows are
// nowhere. So whenever an earlier attempt may have got that far, the table is
// asked, and rows that it lacks are inserted under the next token. Nobody can
// insert them under the burnt one any more, a zombie neither. An insert that
// was in doubt leaves one about the view of its table, too: see refresh.
func (l *lane) insert(ctx context.Context, b *batch) error {
	b.rows.retain(l.in.retentionDays)
	doubt, err := l.insertRows(ctx, b)
	if err != nil || !doubt {
		return err
	}
	return l.refresh(ctx, b)
}

// insertRows returns once the table has the batch's rows. doubt says that an
// attempt before the one that was acknowledged may have stored some.
func (l *lane) insertRows(ctx context.Context, b *batch) (doubt bool, err error) {
	rows, doubt := b.rows, b.remade
	for n := 0; rows.rows() > 0; n++ {
		to := target{table: l.stream.table, token: b.token(l.topicID, l.at.partition)}
		if n > 0 {
			to.token = fmt.Sprintf("%s#%d", to.token, n)
		}
		attempts, err := l.insertUnder(ctx, to, rows, b)
		if err != nil {
			return doubt, err
		}
		if attempts <= 1 && !doubt {
			return false, nil
		}
		missing, err := l.missing(ctx, b)
		if err != nil || len(missing) == 0 {
			return true, err
		}
		l.log.Warn("the engine said yes and does not have all rows; inserting the others under the next token", zap.String("token", to.token), zap.Int("missing", len(missing)))
		l.in.metrics.repaired.Add(float64(len(missing)))
		all := b.rows
		rows, doubt = all.only(func(row int) bool { _, ok := missing[all.offset[row]]; return ok }), true
	}
	return doubt, nil
}

// insertUnder inserts rows under one token, less those that the engine refuses
// alone, and returns how many attempts that took. The token stays the same:
// refused rows are in no part of it.
func (l *lane) insertUnder(ctx context.Context, to target, rows *columns, b *batch) (attempts int, err error) {
	for rows.rows() > 0 {
		more, err := l.attempt(ctx, to, rows, b)
		attempts += more
		if !errors.Is(err, errRefused) {
			return attempts, err
		}
		if rows, err = l.withoutRefused(ctx, b, rows); err != nil {
			return attempts, err
		}
	}
	return attempts, nil
}

// missing are the offsets of the batch's rows that the table does not hold and
// has not dropped for their age.
func (l *lane) missing(ctx context.Context, b *batch) (map[int64]struct{}, error) {
	stored, err := l.storedOffsets(ctx, b.span())
	if err != nil {
		return nil, err
	}
	missing, now := map[int64]struct{}{}, time.Now()
	for i, offset := range b.rows.offset {
		if _, ok := stored[offset]; !ok && !b.rows.expired(i, now) {
			missing[offset] = struct{}{}
		}
	}
	return missing, nil
}

// attempt repeats one insert until it is acknowledged, and returns how many
// attempts that took. It gives up with errRefused when the engine keeps
// refusing and the rows may be why.
func (l *lane) attempt(ctx context.Context, to target, rows *columns, b *batch) (attempts int, err error) {
	fresh := func(ctx context.Context) error {
		if time.Since(b.named) < renameAfter {
			return nil
		}
		return l.name(ctx, b)
	}
	err = l.in.retry(ctx, "insert", l.at.String(), func(ctx context.Context) error {
		attempts++
		began := time.Now()
		err := l.in.inserter.once(ctx, to, rows.block, fresh)
		l.in.metrics.inserted(time.Since(began), err)
		switch {
		case err == nil:
			return nil
		case !blamesRows(err):
			b.refusals = 0
		default:
			if b.refusals++; b.refusals == refusalsToSearch || b.refusals%refusalsToSearchAgain == 0 {
				return fmt.Errorf("insert batch %s: %w: %w", to.token, errRefused, withoutValues(err))
			}
		}
		return fmt.Errorf("insert batch %s: %w", to.token, withoutValues(err))
	})
	return attempts, err
}

// renameAfter is how old the commit that names a batch may be when an insert
// starts. An older one is repeated first: the partition may have moved
// meanwhile, and the broker then says so.
const renameAfter = 10 * time.Second

// retry repeats do, with growing pauses, until it returns nil, ctx ends or the
// partition turns out to have another owner. at names the partition, "" for
// none. It keeps the process's health: what fails is shown by /readyz until it
// works.
func (in *ingest) retry(ctx context.Context, what, at string, do func(context.Context) error) error {
	pause := retryFirst
	for {
		err := do(ctx)
		if err == nil {
			in.health.ok(what, at)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errNotOwner) || errors.Is(err, errRefused) {
			return err
		}
		in.health.failed(what, at, err)
		in.metrics.retries.WithLabelValues(what).Inc()
		in.repeats.Warn(what+" failed, will be repeated", zap.Duration("pause", pause), zap.Error(err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, retryMost)
	}
}
