package ingest

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ages knows how old the records are that a lane holds. Safe for concurrent
// use.
type ages struct {
	mu      sync.Mutex
	fetched []fetched // oldest first; guarded by mu
	stored  time.Time // append time of the last record that is stored; zero: none yet; guarded by mu
}

// fetched is a run of records that came together.
type fetched struct {
	last       int64     // offset of the last record
	appendedAt time.Time // of the first record
	at         time.Time // when they came
}

func (a *ages) add(rs []*kgo.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetched = append(a.fetched, fetched{last: rs[len(rs)-1].Offset, appendedAt: rs[0].Timestamp, at: time.Now()})
}

// done takes the records of a stored batch away.
func (a *ages) done(b *batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for n < len(a.fetched) && a.fetched[n].last <= b.last {
		n++
	}
	a.fetched = append(a.fetched[:0], a.fetched[n:]...)
	a.stored = time.UnixMilli(b.appendedAt)
}

// oldest returns when the oldest record that is not stored was appended, and
// since when it has been held; zero times when there is none. more says that
// the partition holds records that were not fetched yet: they are younger than
// the last that is stored.
func (a *ages) oldest(more bool) (appendedAt, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(a.fetched) > 0:
		first := a.fetched[0]
		if a.stored.After(first.appendedAt) { // the run is stored in part
			return a.stored, first.at
		}
		return first.appendedAt, first.at
	case more:
		return a.stored, time.Time{}
	}
	return time.Time{}, time.Time{}
}

var (
	lagSecondsDesc = prometheus.NewDesc("auditrail_ingest_lag_seconds", "Age, by the append time, of the oldest record of the partition that is known and not stored; 0: none.", []string{"topic", "partition"}, nil)
	oldestDesc     = prometheus.NewDesc("auditrail_ingest_oldest_pending_seconds", "How long the oldest record held in memory has been held; 0: none is.", nil, nil)
)

var _ prometheus.Collector = (*ingest)(nil)

// Describe is that of prometheus.Collector: ages are told when they are asked
// for, since they grow while nothing happens.
func (in *ingest) Describe(ch chan<- *prometheus.Desc) {
	ch <- lagSecondsDesc
	ch <- oldestDesc
}

// Collect is that of prometheus.Collector.
func (in *ingest) Collect(ch chan<- prometheus.Metric) {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := time.Now()
	var longest time.Duration
	tell := func(at partitionID, appendedAt time.Time) {
		var lag time.Duration
		if !appendedAt.IsZero() {
			lag = max(0, now.Sub(appendedAt))
		}
		ch <- prometheus.MustNewConstMetric(lagSecondsDesc, prometheus.GaugeValue, lag.Seconds(), at.topic, strconv.Itoa(int(at.partition)))
	}
	for at, l := range in.lanes {
		next := max(l.next.Load(), l.first.Load())
		appendedAt, since := l.ages.oldest(l.high.Load() > next)
		tell(at, appendedAt)
		if !since.IsZero() {
			longest = max(longest, now.Sub(since))
		}
	}
	for at, p := range in.stood { // their records were given back
		appendedAt, _ := p.oldest(true)
		tell(at, appendedAt)
	}
	ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, longest.Seconds())
}
