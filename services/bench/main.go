// Bench measures the parts of Auditrail whose speed was promised, each against
// a yardstick in the same run, and prints their ratios:
//
//	go run ./services/bench
//
// Ours and the yardstick take turns in each round, the first round is dropped,
// and the figures are medians of the others, with the smallest and the largest.
// Compare ratios, not nanoseconds: those are the machine's. Read them on an
// idle machine with at least two cores.
//
//   - decode: a record's bytes to a validated event, against segmentio's JSON
//     parser (without copies, without validation) and against the limit, a
//     decoder by hand that checks next to nothing. CPU time of the process.
//   - block: events, and then records, to the encoded native block of an
//     insert, against the limit: hand-decoded events in fewer columns. CPU time
//     of the process.
//   - emit: what one event costs the module that emits it, against zap.Info of
//     the same fields to nowhere. CPU time of the calling thread (Linux; time
//     that passed elsewhere), and time that passed, in bursts of 1,000 events.
//   - API call: what pkg/apicall adds to a call of a handler that answers at
//     once, without a network: limits of 1,000 subscriptions counted in memory,
//     two records to a broker in the same process. As emit, in bursts; once more
//     with the records checked, encoded and discarded.
//   - API call, Redis: the time of the decision, and of a whole call, which
//     gives its place back in a second round trip, against a bare one: a script
//     that only answers. Redis runs on the same machine, so that the ratio is
//     far larger than over a network. Without a redis-server it is left out.
//
// The base workload is the one that quoted figures refer to; the full one adds
// endpoint type, business unit, changes and request id. The benchmarks are
// ordinary ones, in this package and in services/ingest, and run alone too:
// go test -bench Decode ./services/bench.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// options of the command.
type options struct {
	Rounds int    `help:"Rounds, the dropped first one included." default:"6"`
	Time   string `help:"Time for one benchmark in one round, or a number of passes such as 3x." default:"300ms"`
	Only   string `help:"Run only the benchmarks whose names begin so: Decode, Emit, APICall, APICallRedis or Block." placeholder:"NAME"`
	Short  bool   `help:"Use a few events only, to see that everything works."`
	Raw    bool   `help:"Also print the output of each benchmark."`
}

// Validate names the first wrong value.
func (o options) Validate() error {
	if o.Rounds < 2 {
		return fmt.Errorf("--rounds must be at least 2, not %d: the first is dropped", o.Rounds)
	}
	if o.Only != "" && !slices.ContainsFunc(suites, func(s suite) bool {
		return slices.ContainsFunc(s.benchmarks, func(b string) bool { return strings.HasPrefix(b, o.Only) })
	}) {
		return fmt.Errorf("--only %s: no benchmark's name begins so", o.Only)
	}
	return nil
}

func main() {
	var o options
	kong.Parse(&o, kong.Name("bench"),
		kong.Description("Ratios of Auditrail's speed against yardsticks measured in the same run. Takes about two minutes; see the package documentation."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
