package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

const (
	// probeEvery is the time between two probes.
	probeEvery = 10 * time.Millisecond
	// probeCustomers spread the probes over a topic's partitions.
	probeCustomers = 8
	// lookEvery is the pause between two looks at the least.
	lookEvery = 10 * time.Millisecond
	// lookShare of the time at the most is spent on looking.
	lookShare = 5
	// probeTimeout is how long the last probes may take.
	probeTimeout = time.Minute
)

// probes emits probes and finds them, in two goroutines, until it is stopped.
type probes struct {
	modules []string
	emitter *emit.Emitter
	conn    driver.Conn
	cancel  context.CancelFunc // ends the emission
	broken  chan error
	looks   sync.WaitGroup

	mu       sync.Mutex
	sent     []time.Time     // guarded by mu
	found    []time.Duration // by probe; 0: not found yet; guarded by mu
	missing  int             // guarded by mu
	from, to int             // the probes that count; guarded by mu
	every    []time.Duration // between the ends of two looks; guarded by mu
}

// startProbes begins to emit and to look.
func startProbes(ctx context.Context, broker string, modules []string, conn driver.Conn) (*probes, error) {
	p := &probes{modules: modules, conn: conn, broken: make(chan error, 2)}
	var err error
	p.emitter, err = emit.New(emit.Config{Brokers: []string{broker}, OnError: func(_ audit.Event, err error) { p.failed(err) }})
	if err != nil {
		return nil, err
	}
	emitting, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	var emission sync.WaitGroup
	emission.Go(func() { p.emit(emitting) })
	p.looks.Go(func() {
		emission.Wait()
		_ = p.emitter.Flush(ctx) // what is lost is missed
	})
	p.looks.Go(func() {
		if err := p.look(ctx, emitting); err != nil {
			p.failed(err)
		}
	})
	return p, nil
}

// failed notes an error; of many the first ones count.
func (p *probes) failed(err error) {
	select {
	case p.broken <- err:
	default:
	}
}

// emit sends a probe each time one is due.
func (p *probes) emit(ctx context.Context) {
	ticks := time.NewTicker(probeEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		p.mu.Lock()
		n := len(p.sent)
		now := time.Now()
		p.sent, p.found = append(p.sent, now), append(p.found, 0)
		p.missing++
		p.mu.Unlock()
		err := p.emitter.Emit(audit.Event{ //nolint:contextcheck // an event outlives its caller's context
			ID: uuid.NewString(), ModuleCode: p.modules[n%len(p.modules)], CustomerUUID: "probe-" + strconv.Itoa(n/len(p.modules)%probeCustomers),
			UserName: "probe", Action: "Probe", CreatedDate: now.UnixMilli(), RequestID: strconv.Itoa(n),
		})
		if err != nil {
			p.broken <- err
			return
		}
	}
}

// look finds probes until the emission has ended and all of them are found.
func (p *probes) look(ctx, emitting context.Context) error {
	first := 0 // all before are found
	var last time.Time
	deadline := time.Duration(0)
	for {
		over := emitting.Err() != nil
		p.mu.Lock()
		for first < len(p.found) && p.found[first] > 0 {
			first++
		}
		missing := p.missing
		since := time.Now()
		if first < len(p.sent) {
			since = p.sent[first]
		}
		p.mu.Unlock()
		if over && missing == 0 {
			return nil
		}
		began := time.Now()
		if missing > 0 {
			if err := p.query(ctx, since); err != nil {
				return err
			}
		}
		took := time.Since(began)
		if !last.IsZero() {
			p.mu.Lock()
			p.every = append(p.every, time.Since(last))
			p.mu.Unlock()
		}
		last = time.Now()
		wait := max(lookEvery, (lookShare-1)*took)
		if over {
			if deadline += wait + took; deadline > probeTimeout {
				return fmt.Errorf("%d probes were not found within %s", missing, probeTimeout)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// query finds probes that were emitted since then.
func (p *probes) query(ctx context.Context, since time.Time) error {
	rows, err := p.conn.Query(ctx, `SELECT request_id FROM audit_events
		WHERE startsWith(customer_uuid, 'probe-') AND created_date >= fromUnixTimestamp64Milli({since:Int64})`,
		clickhouse.Named("since", strconv.FormatInt(since.UnixMilli(), 10)))
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var found []int
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		n, err := strconv.Atoi(id)
		if err != nil {
			return err
		}
		found = append(found, n)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range found {
		if p.found[n] == 0 {
			p.found[n] = max(1, now.Sub(p.sent[n]))
			p.missing--
		}
	}
	return nil
}

// begin has the probes count from now on, end until now.
func (p *probes) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.every = len(p.sent), nil
}

func (p *probes) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = len(p.sent)
}

// pass waits, unless something breaks.
func (p *probes) pass(ctx context.Context, d time.Duration) error {
	select {
	case err := <-p.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// stop ends the emission and waits until every probe is found.
func (p *probes) stop(ctx context.Context) error {
	p.cancel()
	p.looks.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	err := p.emitter.Close(closing)
	select {
	case broken := <-p.broken:
		return errors.Join(err, broken)
	default:
		return err
	}
}

// answer is what the probes that count have shown.
type answer struct {
	p50, p99, slowest time.Duration
	probes            int
	every             time.Duration // the 99th percentile of the time between two looks
}

// answer is to be called after stop.
func (p *probes) answer() answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	times := slices.Sorted(slices.Values(p.found[p.from:p.to]))
	return answer{p50: quantile(times, 0.50), p99: quantile(times, 0.99), slowest: quantile(times, 1), probes: len(times), every: quantile(slices.Sorted(slices.Values(p.every)), 0.99)}
}

// quantile of sorted times: the smallest that at least that share reaches.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	n := int(share*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(n, 0), len(sorted)-1)]
}
