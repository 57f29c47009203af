package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/bytesize"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/store"
)

const (
	// timeoutGrace is how much longer than its limit a statement is waited
	// for: ClickHouse looks at the clock between blocks.
	timeoutGrace = 2 * time.Second
	// retryAfter is when a client should try again while ClickHouse is away.
	retryAfter = 5 * time.Second
	// maxResult bounds a statement's result, in bytes: 200 records of the
	// largest size, and room.
	maxResult = 128 << 20
	// maxAnswers bounds the answers that are being sent, in bytes: clients
	// that read slowly must not fill the memory. A subscription may have half.
	// Answers that wait for it keep their place, so that there are no more of
	// them than --query-concurrency.
	maxAnswers = 256 << 20
)

var (
	// errClientGone says that the client hung up: nobody is left to answer.
	errClientGone = errors.New("client gone")
	// errSlow cancels a statement that outlived its limit and the grace.
	errSlow = errors.New("statement outlived its time limit")
	// errScan marks a result that does not fit its destination: our fault.
	errScan = errors.New("scan")
)

// engine runs statements on ClickHouse within the configured limits. Safe for
// concurrent use.
type engine struct {
	conn    driver.Conn
	cfg     Config
	places  *share // of requests that use ClickHouse
	answers *share // bytes of answers being sent
	metrics *metrics

	what, many string              // what it runs, for people
	flag       string              // how the flags of its limits begin
	own        clickhouse.Settings // over those of settings
}

func openEngine(cfg Config, m *metrics) (*engine, error) {
	opts := cfg.Store.Options()
	// Two statements a search, one an export, and one connection for readiness.
	opts.MaxOpenConns = 2*cfg.Concurrency + cfg.ExportConcurrency + 1
	opts.MaxIdleConns = opts.MaxOpenConns
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("clickhouse %v: %w", cfg.Store.Addr, err)
	}
	return &engine{
		conn: conn, cfg: cfg, places: newShare(int64(cfg.Concurrency)), answers: newShare(maxAnswers), metrics: m,
		what: "search", many: "Searches", flag: "--query",
		// Not 0, which would not count against the exports' priority.
		own: clickhouse.Settings{"priority": 1},
	}, nil
}

// exportBlock is how many rows of an export ClickHouse sends at once: what the
// process holds of it.
const exportBlock = 1024

// forExports is the same connection with the limits of exports and places of
// their own, so that searches do not wait for them. In ClickHouse they stand
// back behind searches, and their results have no size.
func (e *engine) forExports() *engine {
	x := *e
	x.cfg.Timeout, x.cfg.Concurrency = e.cfg.ExportTimeout, e.cfg.ExportConcurrency
	x.places = newShare(int64(x.cfg.Concurrency))
	x.what, x.many, x.flag = "export", "Exports", "--export"
	x.own = clickhouse.Settings{"priority": 2, "max_threads": 2, "max_block_size": exportBlock, "max_result_bytes": 0, "max_rows_to_read": 0}
	return &x
}

func (e *engine) close() error { return e.conn.Close() }

// ready is the readiness check: ClickHouse answers and has our tables.
func (e *engine) ready(ctx context.Context) error {
	if err := e.conn.Ping(ctx); err != nil {
		return err
	}
	return store.CheckSchema(ctx, e.conn)
}

// enter waits for the turn of tenant's request to use ClickHouse. The caller
// calls leave once its statements have ended. The error is a problem that
// names the limit, or errClientGone.
func (e *engine) enter(ctx context.Context, tenant string) (leave func(), err error) {
	return e.wait(ctx, e.places, tenant, 1, fmt.Sprintf("%s-concurrency %d", e.flag, e.cfg.Concurrency), func(most int64) string {
		return fmt.Sprintf("%s running at a time are limited to %d", e.many, most)
	})
}

// hold waits until tenant's answer of n bytes may be sent. The caller calls
// release once it has been. Errors are as with enter.
func (e *engine) hold(ctx context.Context, tenant string, n int64) (release func(), err error) {
	return e.wait(ctx, e.answers, tenant, n, fmt.Sprintf("answer of %s", bytesize.Bytes(n)), func(most int64) string {
		return fmt.Sprintf("Answers being sent at a time are limited to %s", bytesize.Bytes(most))
	})
}

// wait takes n of s for tenant. operator says more, for the log; told says
// what is limited, for the caller.
func (e *engine) wait(ctx context.Context, s *share, tenant string, n int64, operator string, told func(most int64) string) (give func(), err error) {
	e.metrics.waiting.Inc()
	defer e.metrics.waiting.Dec()
	give, err = s.take(ctx, tenant, n, e.cfg.QueueWait)
	detail := ""
	switch {
	case errors.Is(err, errOwnTaken):
		detail = told(s.each) + " for one subscription, and too few of yours"
	case errors.Is(err, errTaken):
		detail = told(s.total) + ", and too few"
	default:
		return give, err
	}
	return nil, &problem.Error{
		Kind:       problem.KindUnavailable,
		Detail:     fmt.Sprintf("%s ended within %s. Try again shortly.", detail, e.cfg.QueueWait),
		RetryAfter: retryAfter,
		Cause:      fmt.Errorf("%s, --query-queue-wait %s: %w", operator, e.cfg.QueueWait, err),
	}
}

// query runs a statement and hands every row to each, in order. name is the
// metric label. Errors are problems, or errClientGone when ctx ended; the
// statement is then killed in ClickHouse.
func (e *engine) query(ctx context.Context, name string, stmt sqlgen.Statement, each func(driver.Rows) error) error {
	start := time.Now()
	defer func() { e.metrics.engine.WithLabelValues(name).Observe(time.Since(start).Seconds()) }()
	// Not a deadline: clickhouse-go would turn it into a looser
	// max_execution_time than ours.
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(e.cfg.Timeout+timeoutGrace, func() { cancel(errSlow) })
	defer timer.Stop()
	err := e.stream(run, stmt, func(rows driver.Rows) error {
		err := each(rows)
		if err != nil {
			cancel(err) // closing rows would read the others
		}
		return err
	})
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, errClientGone) {
			return errClientGone
		}
		if errors.Is(context.Cause(run), errSlow) {
			err = fmt.Errorf("%w: %w", errSlow, err)
		}
		return e.explain(err)
	}
	return nil
}

func (e *engine) stream(ctx context.Context, stmt sqlgen.Statement, each func(driver.Rows) error) error {
	settings := e.settings(ctx, stmt.Lazy())
	maps.Copy(settings, e.own)
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(stmt.Params()), clickhouse.WithSettings(settings))
	rows, err := e.conn.Query(ctx, stmt.SQL())
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := each(rows); err != nil {
			_ = rows.Close() // the row's error is the one to tell
			return fmt.Errorf("%w: %w", errScan, err)
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// settings are the limits of one statement. Overflow throws: a part of an
// answer must never pass for the whole. Read-only but for these settings; the
// comment ties ClickHouse's query log to ours. A lazy statement is refused by no
// number of rows: ClickHouse counts those that it would read without a LIMIT.
func (e *engine) settings(ctx context.Context, lazy bool) clickhouse.Settings {
	rows := e.cfg.Rows
	if lazy {
		rows = 0
	}
	settings := clickhouse.Settings{
		"readonly":              2,
		"log_comment":           "auditrail query " + requestIDOf(ctx),
		"max_execution_time":    strconv.FormatFloat(e.cfg.Timeout.Seconds(), 'f', -1, 64),
		"timeout_overflow_mode": "throw",
		"max_memory_usage":      int64(e.cfg.Memory),
		"max_rows_to_read":      rows,
		"read_overflow_mode":    "throw",
		"max_result_bytes":      maxResult,
		"result_overflow_mode":  "throw",
	}
	maps.Copy(settings, sqlgen.Settings)
	return settings
}

// ClickHouse's error codes that we tell apart.
const (
	codeTooManyRows    = 158
	codeTimeout        = 159
	codeTooManyQueries = 202
	codeTooSlow        = 160
	codeMemory         = 241
	codeTooManyBytes   = 307
	codeCancelled      = 394
	codeTooLargeResult = 396
)

// ofTheQuery tells the limit of one query from that of the server or the user
// by ClickHouse's words, today's and older ones: the code is the same.
func ofTheQuery(message string) bool {
	return strings.Contains(message, "Query memory limit exceeded") || strings.Contains(message, "(for query)")
}

// explain turns a failure into a problem and counts it by reason.
func (e *engine) explain(err error) error {
	var label string
	var p *problem.Error
	ex, isException := errors.AsType[*clickhouse.Exception](err)
	switch {
	case errors.Is(err, errScan):
		label, p = "scan", problem.From(err)
	case errors.Is(err, errSlow), isException && (ex.Code == codeTimeout || ex.Code == codeTooSlow):
		label, p = "timeout", e.tooBroad("took longer than the limit of "+e.cfg.Timeout.String()+" ("+e.flag+"-timeout)")
	case isException && ex.Code == codeMemory && ofTheQuery(ex.Message):
		label, p = "memory", e.tooBroad("needed more memory than the limit of "+e.cfg.Memory.String()+" (--query-memory)")
	case isException && ex.Code == codeTooManyRows:
		label, p = "rows", e.tooBroad(fmt.Sprintf("would read more rows than the limit of %d (--query-rows)", e.cfg.Rows))
	case isException && (ex.Code == codeTooLargeResult || ex.Code == codeTooManyBytes):
		label, p = "size", e.tooBroad("found more data than fits one answer ("+bytesize.Bytes(maxResult).String()+"); ask for a smaller page too")
	case isException && (ex.Code == codeTooManyQueries || ex.Code == codeCancelled || ex.Code == codeMemory):
		label, p = "busy", problem.New(problem.KindUnavailable, "The store is busy. Try again shortly.")
		p.RetryAfter = retryAfter
	case isException:
		label, p = "other", problem.From(err)
	default:
		label, p = "away", problem.New(problem.KindUnavailable, "The store cannot be reached. Try again shortly.")
		p.RetryAfter = retryAfter
	}
	p.Cause = err
	e.metrics.errors.WithLabelValues(label).Inc()
	return p
}

// tooBroad is the problem of a request that a limit stopped: the same request
// would be stopped again, so it is not "try again".
func (e *engine) tooBroad(what string) *problem.Error {
	return &problem.Error{
		Kind:   problem.KindInvalid,
		Status: http.StatusUnprocessableEntity,
		Detail: "The " + e.what + " " + what + ". Narrow it: a shorter time range (startDate, endDate) or a more exact query.",
	}
}
