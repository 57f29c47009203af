package expiry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the expirer; docs/operations.md says what each means.
type metrics struct {
	expired  prometheus.Counter
	failures *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, e *expirer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		expired:  f.NewCounter(prometheus.CounterOpts{Name: "auditrail_expiry_expired_total", Help: "API calls that became Expired: nothing was heard of them for too long."}),
		failures: f.NewCounterVec(prometheus.CounterOpts{Name: "auditrail_expiry_failures_total", Help: "Attempts that failed and were repeated: contact, to ask Kafka where partitions end; expire, to write Expired records."}, []string{"what"}),
	}
	for _, what := range []string{"contact", "expire"} { // known from the start, so that an alert sees the first
		m.failures.WithLabelValues(what)
	}
	reg.MustRegister(e)
	return m
}

var (
	openDesc = prometheus.NewDesc("auditrail_expiry_open_calls", "API calls of the partition that go on as far as is known.", []string{"partition"}, nil)
	lagDesc  = prometheus.NewDesc("auditrail_expiry_lag_records", "Records of the partition that were not read yet, as of the last look; while there are any, no call of it expires.", []string{"partition"}, nil)
)

var _ prometheus.Collector = (*expirer)(nil)

// Describe is that of prometheus.Collector.
func (e *expirer) Describe(ch chan<- *prometheus.Desc) {
	ch <- openDesc
	ch <- lagDesc
}

// Collect is that of prometheus.Collector.
func (e *expirer) Collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, s := range e.partitions {
		open := 0
		for _, c := range s.calls {
			if !c.expired {
				open++
			}
		}
		name := strconv.Itoa(int(p))
		ch <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(open), name)
		ch <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, float64(max(0, s.end-s.next)), name)
	}
}
