package ingest

import (
	"context"
	"fmt"
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
	latency     *prometheus.HistogramVec
	retries     *prometheus.CounterVec
	lag         *prometheus.GaugeVec
	fetchErrors *prometheus.CounterVec
	laneStops   prometheus.Counter
	lanes       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, b *budget) *metrics {
	f := promauto.With(reg)
	name := func(s string) string { return "auditrail_ingest_" + s }
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: name("memory_bytes"), Help: "Bytes of records held, from fetch to insert."}, func() float64 { return float64(b.inUse()) })
	return &metrics{
		records:     f.NewCounterVec(prometheus.CounterOpts{Name: name("records_total"), Help: "Records settled: stored or dead-lettered."}, []string{"topic"}),
		rows:        f.NewCounter(prometheus.CounterOpts{Name: name("rows_total"), Help: "Rows that ClickHouse acknowledged."}),
		deadLetters: f.NewCounterVec(prometheus.CounterOpts{Name: name("dead_letters_total"), Help: "Records sent to the dead-letter topic."}, []string{"topic", "reason"}),
		batchRows: f.NewHistogram(prometheus.HistogramOpts{Name: name("batch_rows"), Help: "Rows of an inserted batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10)}),
		latency: f.NewHistogramVec(prometheus.HistogramOpts{Name: name("insert_duration_seconds"), Help: "Time of one attempt to insert.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}, []string{"result"}),
		retries:     f.NewCounterVec(prometheus.CounterOpts{Name: name("retries_total"), Help: "Attempts that failed and were repeated."}, []string{"what"}),
		lag:         f.NewGaugeVec(prometheus.GaugeOpts{Name: name("lag_records"), Help: "Records in the partition that are not stored yet, as of the last fetch."}, []string{"topic", "partition"}),
		fetchErrors: f.NewCounterVec(prometheus.CounterOpts{Name: name("fetch_errors_total"), Help: "Errors of fetches by kind; out-of-range means that Kafka dropped records before they were stored."}, []string{"kind"}),
		laneStops:   f.NewCounter(prometheus.CounterOpts{Name: name("lane_stops_total"), Help: "Lanes that stopped because their partition has another owner."}),
		lanes:       f.NewGauge(prometheus.GaugeOpts{Name: name("lanes"), Help: "Partitions this process carries."}),
	}
}

func (m *metrics) inserted(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.latency.WithLabelValues(result).Observe(took.Seconds())
}

func (m *metrics) stored(l *lane, b *batch) {
	m.records.WithLabelValues(l.topic).Add(float64(b.count))
	for _, d := range b.dead {
		m.deadLetters.WithLabelValues(l.topic, d.reason).Inc()
	}
	if n := b.rows.rows(); n > 0 {
		m.rows.Add(float64(n))
		m.batchRows.Observe(float64(n))
	}
}

// health remembers what has been failing, for /readyz. Safe for concurrent use.
type health struct {
	mu    sync.Mutex
	since map[string]failure // guarded by mu
}

type failure struct {
	at  time.Time
	err error
}

func newHealth() *health { return &health{since: map[string]failure{}} }

func (h *health) ok(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.since, what)
}

func (h *health) failed(what string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.since[what]
	if !ok {
		f.at = time.Now()
	}
	f.err = err
	h.since[what] = f
}

// check reports the first thing that is failing and since when.
func (h *health) check(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for what, f := range h.since {
		return fmt.Errorf("%s has been failing for %s: %w", what, time.Since(f.at).Round(time.Second), f.err)
	}
	return nil
}
