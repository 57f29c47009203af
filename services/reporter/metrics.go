package reporter

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/auditrail/auditrail/services/internal/report"
)

// metrics of the reporter; docs/operations.md says what each means.
type metrics struct {
	queued, running     prometheus.Gauge
	busy                prometheus.Gauge
	turns, takeovers    prometheus.Counter
	chunks, rows, bytes prometheus.Counter
	ends                *prometheus.CounterVec
	failures            *prometheus.CounterVec
	orphans, expired    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "auditrail_report_" + name, Help: help})
	}
	m := &metrics{
		queued:    f.NewGauge(prometheus.GaugeOpts{Name: "auditrail_report_queued", Help: "Reports that wait, of all replicas."}),
		running:   f.NewGauge(prometheus.GaugeOpts{Name: "auditrail_report_running", Help: "Reports that run, of all replicas."}),
		busy:      f.NewGauge(prometheus.GaugeOpts{Name: "auditrail_report_workers_busy", Help: "Turns under way, of --report-workers."}),
		turns:     counter("turns_total", "Turns that reports had."),
		takeovers: counter("takeovers_total", "Reports that were gone on with after another owner."),
		chunks:    counter("chunks_total", "Parts of reports that were completed."),
		rows:      counter("rows_total", "Rows of reports that were completed."),
		bytes:     counter("bytes_total", "Bytes of reports that were completed."),
		ends:      f.NewCounterVec(prometheus.CounterOpts{Name: "auditrail_report_ended_total", Help: "Reports by how they ended."}, []string{"state"}),
		failures:  f.NewCounterVec(prometheus.CounterOpts{Name: "auditrail_report_failures_total", Help: "Steps of reports that failed, by what failed; they are repeated."}, []string{"what"}),
		orphans:   counter("orphans_total", "Objects that nobody wanted and that were deleted."),
		expired:   counter("expired_total", "Reports that were expired by this replica."),
	}
	for _, s := range []report.State{report.StateFinished, report.StateFailed} { // known from the start, so that an alert sees the first
		m.ends.WithLabelValues(string(s))
	}
	for _, what := range whats {
		m.failures.WithLabelValues(what)
	}
	return m
}

// count sets how many jobs are alive.
func (m *metrics) count(alive []*report.Job) {
	queued := 0
	for _, j := range alive {
		if j.State == report.StateQueued {
			queued++
		}
	}
	m.queued.Set(float64(queued))
	m.running.Set(float64(len(alive) - queued))
}
