package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/auditrail/auditrail/services/bench/measure"
)

// pair is one line of the table: a benchmark of ours, the yardstick's, and the
// ratio of the two that we want to stay below.
type pair struct {
	what      string
	ours      string // name of the benchmark, without "Benchmark"
	yardstick string
	metric    string
	goal      float64
}

// Goals, as ratios of time: ours to the yardstick's.
const (
	// goalFaster: with validation no slower than a good library without.
	goalFaster = 1.0
	// goalLimit is 80% of the limit's rate. The whole of ingest has to keep it;
	// fetching, compressing and sending cost both sides the same, so a part
	// may miss it where the whole does not.
	goalLimit = 1 / 0.8
	// goalEmit leaves emitting cheaper than logging the same.
	goalEmit = 0.6
)

// pairs lists the lines of the table.
func pairs() []pair {
	var out []pair
	add := func(what, benchmark, yardstick, metric string, goal float64) {
		out = append(out, pair{what, benchmark + "/ours", benchmark + "/" + yardstick, metric, goal})
	}
	for _, w := range measure.Workloads {
		add("decode and validate, "+w.Name, "Decode/"+w.Name, "segmentio", measure.CPU, goalFaster)
		add("decode and validate, "+w.Name, "Decode/"+w.Name, "limit", measure.CPU, goalLimit)
	}
	for _, w := range measure.Workloads {
		add("events to block, "+w.Name, "Block/events/"+w.Name, "limit", measure.CPU, goalLimit)
		add("records to block, "+w.Name, "Block/records/"+w.Name, "limit", measure.CPU, goalLimit)
	}
	for _, w := range measure.Workloads {
		add("emit, caller's CPU, "+w.Name, "Emit/"+w.Name, "zap", measure.Caller, goalEmit)
		add("emit, caller's time, "+w.Name, "Emit/"+w.Name, "zap", measure.Wall, goalEmit)
	}
	return out
}

// yardsticks says in the table what each name stands for.
var yardsticks = map[string]string{
	"segmentio": "segmentio Parse, ZeroCopy",
	"limit":     "limit",
	"zap":       "zap.Info to discard",
}

// results hold the values of each benchmark's metrics, one a round.
type results map[string]map[string][]float64

func (r results) add(benchmark, metric string, value float64) {
	if r[benchmark] == nil {
		r[benchmark] = map[string][]float64{}
	}
	r[benchmark][metric] = append(r[benchmark][metric], value)
}

// of gives the values of a metric, and an error when there are none.
func (r results) of(benchmark, metric string) ([]float64, error) {
	values := r[benchmark][metric]
	if len(values) == 0 {
		return nil, fmt.Errorf("benchmark %s reported no %s", benchmark, metric)
	}
	return values, nil
}

// print writes the table.
func (r results) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "what\tours\tyardstick\tratio\tgoal\tmet")
	for _, p := range pairs() {
		ours, err := r.of(p.ours, p.metric)
		if err != nil {
			return err
		}
		theirs, err := r.of(p.yardstick, p.metric)
		if err != nil {
			return err
		}
		ratio := median(ours) / median(theirs)
		met := "no"
		if ratio <= p.goal {
			met = "yes"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s: %s\t%.2f\t<= %.2f\t%s\n",
			p.what, spread(ours), yardsticks[lastPart(p.yardstick)], spread(theirs), ratio, p.goal, met)
	}
	return w.Flush()
}

// spread shows a median and the range of the values behind it.
func spread(values []float64) string {
	digits := func(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }
	return fmt.Sprintf("%s ns (%s-%s)", digits(median(values)), digits(slices.Min(values)), digits(slices.Max(values)))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
