package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEveryPairRuns runs each benchmark once with a few events. Times mean
// nothing here and are not looked at.
func TestEveryPairRuns(t *testing.T) {
	var out, status bytes.Buffer
	if err := run(t.Context(), options{Rounds: 2, Time: "1x", Short: true}, &out, &status); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if got, want := len(lines), 1+len(pairs((options{}).benchmarks(&status))); got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, out.String())
	}
}

// everything is all benchmarks, whether or not this machine can run them.
var everything = []string{"Decode", "Emit", "APICall", "APICallRedis", "Block"}

func TestReadAndPrint(t *testing.T) {
	r := results{}
	for _, p := range pairs(everything) {
		for _, ours := range []string{"30", "10", "20"} {
			text := "goos: linux\nBenchmark" + p.ours + "-8 \t 100\t 7 ns/op\t " + ours + " " + p.metric + "\n" +
				"Benchmark" + p.yardstick + "\t 3\t 40.0 " + p.metric + "\nPASS\n"
			if err := r.read([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out bytes.Buffer
	if err := r.print(&out, everything); err != nil {
		t.Fatal(err)
	}
	want := []string{"decode and validate, base", "20 ns (10-30)", "segmentio Parse, ZeroCopy: 40 ns (40-40)", "0.50", "<= 1.00", "yes"}
	line := strings.Split(out.String(), "\n")[1]
	var got []string
	for _, cell := range strings.Split(line, "   ") {
		if cell = strings.TrimSpace(cell); cell != "" {
			got = append(got, cell)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first line (-want +got):\n%s", diff)
	}
}

func TestGoals(t *testing.T) {
	for _, test := range []struct {
		goal          goal
		ours, theirs  float64
		compared, met string
	}{
		{goal{ratio: 1.25}, 50, 40, "1.25", "yes"},
		{goal{ratio: 1.25}, 51, 40, "1.27", "no"},
		{goal{more: 5000}, 5200, 200, "26.00, +5000 ns", "yes"},
		{goal{more: 5000}, 5201, 200, "26.00, +5001 ns", "no"},
		{goal{}, 9, 3, "3.00", "-"},
	} {
		if compared, met := test.goal.judge(test.ours, test.theirs); compared != test.compared || met != test.met {
			t.Errorf("%v of %g and %g: got %q and %q, want %q and %q", test.goal, test.ours, test.theirs, compared, met, test.compared, test.met)
		}
	}
}

func TestPrintNamesWhatIsMissing(t *testing.T) {
	err := results{}.print(new(bytes.Buffer), everything)
	if err == nil || !strings.Contains(err.Error(), "Decode/base/ours reported no cpu-ns/event") {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	if err := (options{Rounds: 1}).Validate(); err == nil {
		t.Error("a single round passes, which would be dropped")
	}
	if err := (options{Rounds: 2, Only: "Apicall"}).Validate(); err == nil || !strings.Contains(err.Error(), "Apicall") {
		t.Errorf("a name that no benchmark has: %v", err)
	}
	var status bytes.Buffer
	got := (options{Only: "APICall"}).benchmarks(&status)
	want := []string{"APICall", "APICallRedis"}
	if _, err := exec.LookPath("redis-server"); err != nil {
		want = want[:1]
	}
	if diff := cmp.Diff(want, got); diff != "" || (len(got) == 1) != strings.Contains(status.String(), "skipped") {
		t.Errorf("benchmarks of API calls (-want +got):\n%s\nstatus %q", diff, status.String())
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v: got %g, want %g", test.values, got, test.want)
		}
	}
}
