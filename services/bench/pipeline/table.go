package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

const (
	// goalRate is the share of the limit's rate that ingest keeps.
	goalRate = 0.80
	// goalPeak is the memory that ingest stays within.
	goalPeak = 400 << 20
)

// table compares the runs of ingest with those of the limit.
func (c ingestCmd) table(out io.Writer, l layout, ours, theirs []run) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "\n%s of %d partitions\tCPU us/event\tevents/s\tobjects/event\tbytes/event\tGCs\tpeak memory\n", l.name, l.partitions)
	c.line(w, "limit", theirs)
	c.line(w, "ingest", ours)
	cpu := func(r run) float64 { return c.cpu(r.usage) }
	ratio := median(theirs, cpu) / median(ours, cpu)
	fmt.Fprintf(w, "\nrate of ingest to the limit's, by CPU\t%.2f\tgoal >= %.2f: %s\n", ratio, goalRate, met(ratio >= goalRate))
	most := median(ours, func(r run) float64 { return float64(r.usage.Peak) })
	fmt.Fprintf(w, "peak memory of ingest\t%.0f MiB\tgoal <= %d MiB: %s\n", most/(1<<20), goalPeak>>20, met(most <= goalPeak))
	return w.Flush()
}

func (c ingestCmd) line(w io.Writer, name string, runs []run) {
	n := float64(c.Events)
	cpus := make([]float64, len(runs))
	for i, r := range runs {
		cpus[i] = c.cpu(r.usage)
	}
	fmt.Fprintf(w, "%s\t%.2f (%.2f-%.2f)\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f MiB\n", name,
		median(runs, func(r run) float64 { return c.cpu(r.usage) }), slices.Min(cpus), slices.Max(cpus),
		median(runs, func(r run) float64 { return n / r.wall.Seconds() }),
		median(runs, func(r run) float64 { return float64(r.usage.Mallocs) / n }),
		median(runs, func(r run) float64 { return float64(r.usage.Allocated) / n }),
		median(runs, func(r run) float64 { return float64(r.usage.GCs) }),
		median(runs, func(r run) float64 { return float64(r.usage.Peak) / (1 << 20) }))
}

// cpu is microseconds an event.
func (c ingestCmd) cpu(u usage) float64 {
	return float64(u.CPU.Nanoseconds()) / 1e3 / float64(c.Events)
}

func met(yes bool) string {
	if yes {
		return "met"
	}
	return "missed"
}

// median of one figure of the runs.
func median(runs []run, figure func(run) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = figure(r)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
