package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestKill9LosesNothing kills the engine in the middle of inserts, again and
// again, while writers repeat under the same token what was not acknowledged.
// In the end every row is there once.
//
// ClickHouse writes a token down before the part is in place. A kill in between
// burns the token: the repetition is acknowledged and stores nothing. A writer
// that repeats must therefore look whether the rows are there, and so do these.
func TestKill9LosesNothing(t *testing.T) {
	t.Parallel()
	const writers, rounds, rows = 3, 4, 3000
	e := testenv.NewEngine(t)
	conn := connect(t, e.Config().Options())
	exec(t, conn, events)
	var acked [writers]atomic.Uint64 // batches
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			conn, err := clickhouse.Open(e.Config().Options())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			repeated := false
			for batch := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				from := uint64(w)*1e9 + batch*rows
				token := fmt.Sprintf("%d/%d", w, batch)
				if send(background(), conn, token, from, from+rows) != nil || repeated && mend(conn, token, from, from+rows) != nil {
					repeated = true
					continue
				}
				repeated = false
				batch++
				acked[w].Store(batch)
			}
		})
	}
	total := func() (n uint64) {
		for w := range acked {
			n += acked[w].Load()
		}
		return n
	}
	for range rounds {
		before := total()
		waitFor(t, 20*time.Second, "batches are acknowledged", func() bool { return total() >= before+writers*2 })
		select { // anywhere in an insert
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		case <-t.Context().Done():
		}
		e.Kill()
		e.Start()
	}
	close(stop)
	wg.Wait()
	conn = connect(t, e.Config().Options())
	want := total() * rows
	if n, distinct := number(t, conn, "SELECT count() FROM events"), number(t, conn, "SELECT uniqExact(id) FROM events"); n != want || distinct != want {
		t.Errorf("%d rows, %d distinct, %d acknowledged", n, distinct, want)
	}
}

// mend inserts the rows of a range that the table does not have.
func mend(conn clickhouse.Conn, token string, from, to uint64) error {
	var have []uint64
	if err := conn.QueryRow(background(), "SELECT groupArray(id) FROM events WHERE id >= ? AND id < ?", from, to).Scan(&have); err != nil {
		return err
	}
	there := map[uint64]bool{}
	for _, id := range have {
		there[id] = true
	}
	for id := from; id < to; id++ {
		if there[id] {
			continue
		}
		// A month is a part, and a part is there or not: one row at a time is
		// slow and never needed for long.
		if err := send(background(), conn, fmt.Sprintf("%s#%d", token, id), id, id+1); err != nil {
			return err
		}
	}
	return nil
}

// TestStopLetsTheInsertEnd: an insert that runs when the engine is told to end
// is acknowledged and stored; a SELECT is not waited for.
func TestStopLetsTheInsertEnd(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t)
	conn := connect(t, e.Config().Options())
	exec(t, conn, events)
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO events (id)")
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Append(uint64(1)); err != nil {
		t.Fatal(err)
	}
	if err := batch.Flush(); err != nil {
		t.Fatal(err)
	}
	selected := make(chan error, 1)
	go func() { selected <- conn.Exec(background(), heavy("stop_select")) }()
	waitFor(t, 10*time.Second, "the query runs", func() bool { return running(t, conn, "stop_select") == 1 })
	stopped := make(chan struct{})
	go func() { e.Stop(); close(stopped) }()
	if err := <-selected; err == nil {
		t.Error("the SELECT was waited for")
	}
	if err := batch.Append(uint64(2)); err != nil {
		t.Fatal(err)
	}
	if err := batch.Send(); err != nil {
		t.Errorf("the running insert: %v", err)
	}
	<-stopped
	e.Start()
	if n := number(t, connect(t, e.Config().Options()), "SELECT count() FROM events"); n != 2 {
		t.Errorf("%d rows after the restart, want 2", n)
	}
}

// TestReadersAndWriters: every reader sees whole batches, whatever runs beside it.
func TestReadersAndWriters(t *testing.T) {
	t.Parallel()
	const writers, batches, readers = 4, 5, 4
	opt := options(t)
	opt.MaxOpenConns = writers + readers
	conn := connect(t, opt)
	exec(t, conn, "CREATE TABLE n (id UInt64) ENGINE = MergeTree ORDER BY id")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reading, writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for b := range batches {
				batch, err := conn.PrepareBatch(ctx, "INSERT INTO n")
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 10_000 {
					_ = batch.Append(uint64((w*batches+b)*10_000 + i))
				}
				if err := batch.Send(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range readers {
		reading.Go(func() {
			for ctx.Err() == nil {
				var n uint64
				if err := conn.QueryRow(ctx, "SELECT count() FROM n").Scan(&n); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				if n%10_000 != 0 {
					t.Errorf("a reader saw %d rows, part of a batch", n)
				}
			}
		})
	}
	writing.Wait()
	cancel()
	reading.Wait()
	if n := number(t, conn, "SELECT uniqExact(id) FROM n"); n != writers*batches*10_000 {
		t.Errorf("%d rows", n)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	e := testenv.NewEngine(t, func(c *engine.Config) { c.User, c.Password = "ann", "secret" })
	if err := connect(t, e.Config().Options()).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	opt := e.Config().Options()
	opt.Auth.Password = ""
	if err := connect(t, opt).Ping(t.Context()); code(err) != 516 {
		t.Errorf("without the password: %v, want code 516", err)
	}
}
