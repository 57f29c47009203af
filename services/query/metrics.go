package query

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the query service. Labels are bounded: endpoints are those of
// the route table, codes the reasons of engine.explain.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	waiting  prometheus.Gauge
	engine   *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	exports  *prometheus.CounterVec
	exported prometheus.Counter
	audits   *prometheus.CounterVec

	downloads  *prometheus.CounterVec
	downloaded prometheus.Counter
	streams    prometheus.Gauge
}

// buckets reach from an indexed page to the default time limit.
var buckets = []float64{.002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditrail_query_requests_total",
			Help: "HTTP requests answered, by endpoint and status (499: the client hung up).",
		}, []string{"endpoint", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "auditrail_query_request_seconds",
			Help:    "Time from request to answer.",
			Buckets: buckets,
		}, []string{"endpoint"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditrail_query_requests_in_flight",
			Help: "HTTP requests being answered.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditrail_query_requests_waiting",
			Help: "Requests waiting for their turn to use ClickHouse (--query-concurrency) or to send a large answer.",
		}),
		engine: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "auditrail_query_statement_seconds",
			Help:    "Time of statements in ClickHouse, first byte to last row.",
			Buckets: buckets,
		}, []string{"statement"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditrail_query_engine_errors_total",
			Help: "Statements that ClickHouse refused or could not be asked, by reason.",
		}, []string{"code"}),
		exports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditrail_query_exports_total",
			Help: "Exports that began, by how they ended: complete, incomplete (the client was told), gone (the client hung up or read too slowly).",
		}, []string{"end"}),
		exported: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditrail_query_exported_rows_total",
			Help: "Events written to exports.",
		}),
		audits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditrail_query_audit_events_total",
			Help: "The product's own audit events, by result: Kafka has it (ok), or the request was refused (failed).",
		}, []string{"result"}),
	}
	m.downloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "auditrail_report_downloads_total",
		Help: "Downloads of reports that began, by how they ended: complete, broken (the store gave other bytes than the manifest has, or none), gone (the client hung up or read too slowly, the service stopped, or the report was deleted or expired).",
	}, []string{"end"})
	m.downloaded = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "auditrail_report_downloaded_bytes_total",
		Help: "Bytes of reports that were sent.",
	})
	m.streams = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "auditrail_report_streams",
		Help: "Clients that watch the progress of a report.",
	})
	m.audits.WithLabelValues("ok")
	m.audits.WithLabelValues("failed")
	reg.MustRegister(m.requests, m.seconds, m.inFlight, m.waiting, m.engine, m.errors, m.audits, m.exports, m.exported,
		m.downloads, m.downloaded, m.streams)
	return m
}

func (m *metrics) answered(endpoint string, status int, seconds float64) {
	m.requests.WithLabelValues(endpoint, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(endpoint).Observe(seconds)
}
