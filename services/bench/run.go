package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// suite is a package with benchmarks, and which of its to run.
type suite struct {
	pkg        string
	benchmarks []string
}

var suites = []suite{
	{"github.com/auditrail/auditrail/services/bench", []string{"Decode", "Emit", "APICall", "APICallRedis"}},
	{"github.com/auditrail/auditrail/services/ingest", []string{"Block"}},
}

// noRedis says why a benchmark is left out.
const noRedis = "API calls with counters in Redis: skipped, for redis-server is not installed (Debian's package redis-server)"

// benchmarks lists those to run, and says on status what is left out.
func (o options) benchmarks(status io.Writer) []string {
	var out []string
	for _, s := range suites {
		for _, b := range s.benchmarks {
			if o.Only == "" || strings.HasPrefix(b, o.Only) {
				out = append(out, b)
			}
		}
	}
	if i := slices.Index(out, "APICallRedis"); i >= 0 {
		if _, err := exec.LookPath("redis-server"); err != nil {
			_, _ = fmt.Fprintln(status, noRedis)
			out = slices.Delete(out, i, i+1)
		}
	}
	return out
}

// run builds the benchmarks, runs them round by round and prints the table.
// Progress goes to status.
func run(ctx context.Context, o options, out, status io.Writer) error {
	if err := o.Validate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "auditrail-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	began := time.Now()
	all := o.benchmarks(status)
	var binaries, selected []string
	for i, s := range suites {
		mine := slices.DeleteFunc(slices.Clone(s.benchmarks), func(b string) bool { return !slices.Contains(all, b) })
		if len(mine) == 0 {
			continue
		}
		selected = append(selected, "^Benchmark("+strings.Join(mine, "|")+")$")
		_, _ = fmt.Fprintf(status, "building %s\n", s.pkg)
		binary := filepath.Join(dir, strconv.Itoa(i)+".test")
		if _, err := output(ctx, "go", "test", "-c", "-o", binary, s.pkg); err != nil {
			return err
		}
		binaries = append(binaries, binary)
	}
	found := results{}
	for round := range o.Rounds {
		_, _ = fmt.Fprintf(status, "round %d of %d\n", round+1, o.Rounds)
		for i := range binaries {
			text, err := output(ctx, binaries[i], "-test.run=^$", "-test.bench="+selected[i],
				"-test.benchtime="+o.Time, "-test.short="+strconv.FormatBool(o.Short))
			if err != nil {
				return err
			}
			if o.Raw {
				_, _ = status.Write(text)
			}
			if round == 0 {
				continue // the first round warms the machine up
			}
			if err := found.read(text); err != nil {
				return err
			}
		}
	}
	_, _ = fmt.Fprintf(status, "took %s\n\n", time.Since(began).Round(time.Second))
	return found.print(out, all)
}

// output runs a program and returns what it prints.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // our own benchmarks
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, text, stderr.Bytes())
	}
	return text, nil
}

// procs is the number of processors that ends a benchmark's name.
var procs = regexp.MustCompile(`-\d+$`)

// read takes the metrics from the output of go test -bench: a line a
// benchmark, its name, the number of passes, then values and their units.
func (r results) read(text []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := procs.ReplaceAllString(strings.TrimPrefix(words[0], "Benchmark"), "")
		for i := 2; i+1 < len(words); i += 2 {
			value, err := strconv.ParseFloat(words[i], 64)
			if err != nil {
				return fmt.Errorf("output of benchmark %s: %w", name, err)
			}
			r.add(name, words[i+1], value)
		}
	}
	return lines.Err()
}

// firstPart of a benchmark's name is that of its function.
func firstPart(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

// lastPart of a benchmark's name says what it measured.
func lastPart(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
