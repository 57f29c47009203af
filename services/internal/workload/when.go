package workload

import (
	"math"
	"sort"
)

const (
	msPerHour = 3600 * 1000
	msPerDay  = 24 * msPerHour
	msPerWeek = 7 * msPerDay
	// jitter is how far events may be out of order, in milliseconds.
	jitter = 30_000
)

// rhythm holds the cumulative share of events of each hour of a week.
type rhythm [168]float64

// newRhythm peaks at 13 o'clock and calms down for the last two days of a week.
func newRhythm() rhythm {
	var weights [len(rhythm{})]float64
	for h := range weights {
		hour, day := h%24, h/24
		weights[h] = 0.25 + math.Exp(-math.Pow(float64(hour-13)/4.5, 2))
		if day >= 5 {
			weights[h] *= 0.35
		}
	}
	return rhythm(cumulative(weights[:]))
}

// at maps a share of the week's events, 0 to 1, to milliseconds into the week.
func (w *rhythm) at(share float64) int64 {
	h := min(sort.SearchFloat64s(w[:], share), len(w)-1)
	before := 0.0
	if h > 0 {
		before = w[h-1]
	}
	within := (share - before) / (w[h] - before)
	return int64((float64(h) + within) * msPerHour)
}

// when gives the createdDate of the next event.
func (g *Generator) when() int64 {
	span := int64(g.cfg.Days) * msPerDay
	passed := (float64(g.made) + g.base.Float64()) / float64(g.cfg.Events)
	position := passed * float64(span)
	week := math.Floor(position / msPerWeek)
	ms := int64(week)*msPerWeek + g.week.at(position/msPerWeek-week) - int64(g.base.IntN(jitter))
	if ms >= span {
		ms = span - 1 - int64(g.base.IntN(jitter))
	}
	return g.cfg.End - span + max(ms, 0)
}
