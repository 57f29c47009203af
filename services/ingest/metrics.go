package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the ingest service; docs/operations.md says what each means and
// what to do.
type metrics struct {
	records     *prometheus.CounterVec
	rows        prometheus.Counter
	deadLetters *prometheus.CounterVec
	batchRows   prometheus.Histogram
	batchBytes  prometheus.Histogram
	latency     *prometheus.HistogramVec
	retries     *prometheus.CounterVec
	lag         *prometheus.GaugeVec
	fetchErrors *prometheus.CounterVec
	laneStops   *prometheus.CounterVec
	lanes       prometheus.Gauge
	repaired    prometheus.Counter
	duplicates  *prometheus.CounterVec
	skipped     *prometheus.CounterVec
	heartbeats  prometheus.Counter
	mutations   *prometheus.CounterVec

	retentionFailing prometheus.Gauge
	unannounced      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, b *budget) *metrics {
	f := promauto.With(reg)
	name := func(s string) string { return "auditrail_ingest_" + s }
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: name("memory_bytes"), Help: "Bytes of records held, from fetch to insert."}, func() float64 { return float64(b.inUse()) })
	m := &metrics{
		records:     f.NewCounterVec(prometheus.CounterOpts{Name: name("records_total"), Help: "Records settled: stored, left out as duplicates, skipped or dead-lettered."}, []string{"topic"}),
		rows:        f.NewCounter(prometheus.CounterOpts{Name: name("rows_total"), Help: "Rows that ClickHouse acknowledged."}),
		deadLetters: f.NewCounterVec(prometheus.CounterOpts{Name: name("dead_letters_total"), Help: "Records sent to the dead-letter topic."}, []string{"topic", "reason"}),
		batchRows: f.NewHistogram(prometheus.HistogramOpts{Name: name("batch_rows"), Help: "Rows of an inserted batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10)}),
		batchBytes: f.NewHistogram(prometheus.HistogramOpts{Name: name("batch_bytes"), Help: "Bytes of the records of a settled batch, dead letters included.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 10)}),
		latency: f.NewHistogramVec(prometheus.HistogramOpts{Name: name("insert_duration_seconds"), Help: "Time of one attempt to insert.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}, []string{"result"}),
		retries:          f.NewCounterVec(prometheus.CounterOpts{Name: name("retries_total"), Help: "Attempts that failed and were repeated."}, []string{"what"}),
		lag:              f.NewGaugeVec(prometheus.GaugeOpts{Name: name("lag_records"), Help: "Records in the partition that are not stored yet; its end is as of the last fetch."}, []string{"topic", "partition"}),
		fetchErrors:      f.NewCounterVec(prometheus.CounterOpts{Name: name("fetch_errors_total"), Help: "Errors of fetches by kind; out-of-range means that Kafka dropped records before they were stored."}, []string{"kind"}),
		laneStops:        f.NewCounterVec(prometheus.CounterOpts{Name: name("lane_stops_total"), Help: "Lanes that stopped by themselves: moved, their partition has another owner; mismatch, an operator is needed."}, []string{"reason"}),
		repaired:         f.NewCounter(prometheus.CounterOpts{Name: name("repaired_rows_total"), Help: "Rows that the engine had acknowledged as a repetition and did not have; they were inserted again."}),
		duplicates:       f.NewCounterVec(prometheus.CounterOpts{Name: name("duplicates_total"), Help: "Records left out because an event with their customer, id and content is stored already."}, []string{"topic"}),
		skipped:          f.NewCounterVec(prometheus.CounterOpts{Name: name("skipped_total"), Help: "Records not stored because their subscription chose so."}, []string{"topic", "reason"}),
		heartbeats:       f.NewCounter(prometheus.CounterOpts{Name: name("heartbeats_total"), Help: "Records not stored because they only say that an API call goes on."}),
		mutations:        f.NewCounterVec(prometheus.CounterOpts{Name: name("retention_mutations_total"), Help: "Mutations that bring stored rows to the retention their subscription chose: started, or failed to start."}, []string{"result"}),
		retentionFailing: f.NewGauge(prometheus.GaugeOpts{Name: name("retention_failing_seconds"), Help: "For how long this process has failed to bring stored rows to the retention their subscription chose; 0: it does not fail."}),
		unannounced:      f.NewCounter(prometheus.CounterOpts{Name: name("announcement_failures_total"), Help: "Announcements of what is stored that Kafka did not take."}),
		lanes:            f.NewGauge(prometheus.GaugeOpts{Name: name("lanes"), Help: "Partitions this process carries."}),
	}
	// Known from the start, so that an alert sees the first of each.
	for of, labels := range map[*prometheus.CounterVec][]string{
		m.fetchErrors: {"out-of-range", "topic-anew", "other"},
		m.laneStops:   {"moved", "mismatch"},
		m.mutations:   {"started", "failed"},
	} {
		for _, l := range labels {
			of.WithLabelValues(l)
		}
	}
	return m
}

func (m *metrics) inserted(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.latency.WithLabelValues(result).Observe(took.Seconds())
}

// lagOf sets a lane's lag: what the partition holds beyond what is stored.
func (m *metrics) lagOf(l *lane) {
	next := max(l.next.Load(), l.first.Load())
	m.lag.WithLabelValues(l.at.topic, strconv.Itoa(int(l.at.partition))).Set(float64(max(0, l.high.Load()-next)))
}

func (m *metrics) stored(l *lane, b *batch) {
	m.lagOf(l)
	m.records.WithLabelValues(l.at.topic).Add(float64(b.count))
	if b.duplicates > 0 {
		m.duplicates.WithLabelValues(l.at.topic).Add(float64(b.duplicates))
	}
	if b.skipped > 0 {
		m.skipped.WithLabelValues(l.at.topic, skippedAutoUpdate).Add(float64(b.skipped))
	}
	m.heartbeats.Add(float64(b.heartbeats))
	m.batchBytes.Observe(float64(b.bytes))
	for _, d := range b.dead {
		m.deadLetters.WithLabelValues(l.at.topic, d.reason).Inc()
	}
	if n := b.rows.rows(); n > 0 {
		m.rows.Add(float64(n))
		m.batchRows.Observe(float64(n))
	}
}

// health remembers what has been failing, for /readyz. Safe for concurrent use.
type health struct {
	mu      sync.Mutex
	failing map[failure]state // guarded by mu
}

// failure is what fails and where: a partition, or "" for the process.
type failure struct{ what, at string }

type state struct {
	since time.Time
	err   error
}

// maxShown is how many failures /readyz lists; the rest are counted.
const maxShown = 10

func newHealth() *health { return &health{failing: map[failure]state{}} }

func (h *health) ok(what, at string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, failure{what, at})
}

// clear forgets all that fails at a partition.
func (h *health) clear(at string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.failing, func(f failure, _ state) bool { return f.at == at })
}

func (h *health) failed(what, at string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.failing[failure{what, at}]
	if !ok {
		s.since = time.Now()
	}
	s.err = err
	h.failing[failure{what, at}] = s
}

// check reports all that is failing and since when.
func (h *health) check(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.failing) == 0 {
		return nil
	}
	lines := make([]string, 0, len(h.failing))
	for f, s := range h.failing {
		lines = append(lines, fmt.Sprintf("%s has been failing for %s: %v", strings.TrimSpace(f.what+" "+f.at), time.Since(s.since).Round(time.Second), s.err))
	}
	slices.Sort(lines)
	if more := len(lines) - maxShown; more > 0 {
		lines = append(lines[:maxShown], fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(lines, "\n"))
}
