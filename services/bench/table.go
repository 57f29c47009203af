package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/auditrail/auditrail/services/bench/measure"
)

// pair is one line of the table: a benchmark of ours, the yardstick's, and what
// we want to stay below: a ratio of the two, or a difference.
type pair struct {
	what      string
	ours      string // name of the benchmark, without "Benchmark"
	yardstick string
	metric    string
	goal      goal
}

// goal has one member that is set; none where a line only informs.
type goal struct {
	ratio float64 // ours to the yardstick's
	more  float64 // ours less the yardstick's, in the metric's unit
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
	// goalDecision is less than a second round trip would cost.
	goalDecision = 2.0
)

// goalCall is what a call may cost more than a bare handler, in nanoseconds,
// with its two records.
const goalCall = 5000

// pairs lists the lines of the table about these benchmarks.
func pairs(benchmarks []string) []pair {
	var out []pair
	add := func(what, benchmark, ours, yardstick, metric string, goal goal) {
		if slices.Contains(benchmarks, firstPart(benchmark)) {
			out = append(out, pair{what, benchmark + "/" + ours, benchmark + "/" + yardstick, metric, goal})
		}
	}
	for _, w := range measure.Workloads {
		add("decode and validate, "+w.Name, "Decode/"+w.Name, "ours", "segmentio", measure.CPU, goal{ratio: goalFaster})
		add("decode and validate, "+w.Name, "Decode/"+w.Name, "ours", "limit", measure.CPU, goal{ratio: goalLimit})
	}
	for _, w := range measure.Workloads {
		add("events to block, "+w.Name, "Block/events/"+w.Name, "ours", "limit", measure.CPU, goal{ratio: goalLimit})
		add("records to block, "+w.Name, "Block/records/"+w.Name, "ours", "limit", measure.CPU, goal{ratio: goalLimit})
	}
	for _, w := range measure.Workloads {
		add("emit, caller's CPU, "+w.Name, "Emit/"+w.Name, "ours", "zap", measure.Caller, goal{ratio: goalEmit})
		add("emit, caller's time, "+w.Name, "Emit/"+w.Name, "ours", "zap", measure.Wall, goal{ratio: goalEmit})
	}
	add("API call, caller's CPU", "APICall", "ours", "bare", measure.Caller, goal{more: goalCall})
	add("API call, caller's time", "APICall", "ours", "bare", measure.Wall, goal{more: goalCall})
	add("API call, allocations", "APICall", "ours", "bare", measure.Allocs, goal{})
	add("API call, records discarded, caller's CPU", "APICall", "discarded", "bare", measure.Caller, goal{more: goalCall})
	add("API call, Redis: the decision, time", "APICallRedis", "decision", "script", measure.Wall, goal{ratio: goalDecision})
	add("API call, Redis: the whole call, time", "APICallRedis", "ours", "script", measure.Wall, goal{})
	return out
}

// yardsticks says in the table what each name stands for.
var yardsticks = map[string]string{
	"segmentio": "segmentio Parse, ZeroCopy",
	"limit":     "limit",
	"zap":       "zap.Info to discard",
	"bare":      "bare handler",
	"script":    "EVALSHA that only answers",
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

// print writes the lines of the table about these benchmarks.
func (r results) print(out io.Writer, benchmarks []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "what\tours\tyardstick\tratio\tgoal\tmet")
	for _, p := range pairs(benchmarks) {
		ours, err := r.of(p.ours, p.metric)
		if err != nil {
			return err
		}
		theirs, err := r.of(p.yardstick, p.metric)
		if err != nil {
			return err
		}
		ratio, met := p.goal.judge(median(ours), median(theirs))
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s: %s\t%s\t%s\t%s\n",
			p.what, spread(ours, p.metric), yardsticks[lastPart(p.yardstick)], spread(theirs, p.metric), ratio, p.goal, met)
	}
	return w.Flush()
}

// judge compares ours with the yardstick's, and with the goal.
func (g goal) judge(ours, theirs float64) (compared, met string) {
	compared, met = fmt.Sprintf("%.2f", ours/theirs), "no"
	if g.more > 0 {
		compared += fmt.Sprintf(", %+.0f ns", ours-theirs)
	}
	switch {
	case g == goal{}:
		met = "-"
	case g.more > 0 && ours-theirs <= g.more, g.ratio > 0 && ours/theirs <= g.ratio:
		met = "yes"
	}
	return compared, met
}

func (g goal) String() string {
	switch {
	case g.more > 0:
		return fmt.Sprintf("<= %+.0f ns", g.more)
	case g.ratio > 0:
		return fmt.Sprintf("<= %.2f", g.ratio)
	}
	return "-"
}

// spread shows a median and the range of the values behind it.
func spread(values []float64, metric string) string {
	digits, unit := 0, " ns"
	if metric == measure.Allocs {
		digits, unit = 1, ""
	}
	text := func(v float64) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	return fmt.Sprintf("%s%s (%s-%s)", text(median(values)), unit, text(slices.Min(values)), text(slices.Max(values)))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
