package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if isChild() {
		os.Exit(childMain())
	}
	os.Exit(m.Run())
}

// events are few, to see that everything works. Times mean nothing here and
// are not looked at.
const events = 3000

// TestIngestAgainstLimit fails when a row is missing or comes twice.
func TestIngestAgainstLimit(t *testing.T) {
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			var out, status bytes.Buffer
			if err := (ingestCmd{Events: events, Rounds: 2, Layout: l.name}).run(t.Context(), &out, &status); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"limit ", "ingest ", "rate of ingest to the limit's", "CPU profile of ingest"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the table lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

// TestFreshness fails when a probe is never found.
func TestFreshness(t *testing.T) {
	t.Parallel()
	var out, status bytes.Buffer
	cmd := freshnessCmd{Rates: []float64{500}, Warm: 100 * time.Millisecond, For: time.Second, Backlog: events, Layout: "1 topic"}
	if err := cmd.run(t.Context(), &out, &status); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 topic, 500/s", "1 topic, 3000 waiting and 1000/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

// TestBackpressure fails when an event of before or of while the engine was away
// is missing or comes twice.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	cmd, err := defaults[backpressureCmd]()
	if err != nil {
		t.Fatal(err)
	}
	cmd.For, cmd.Rate, cmd.Every = time.Second, events, 100*time.Millisecond
	var out bytes.Buffer
	if err := cmd.run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "all 13000 events are stored once") {
		t.Error(out.String())
	}
}

func TestIngestIntoTheEngine(t *testing.T) {
	t.Parallel()
	var out, status bytes.Buffer
	if err := (ingestCmd{Events: events, Rounds: 2, Layout: "1 topic", Engine: true}).run(t.Context(), &out, &status); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "events/s stored") {
		t.Error(out.String())
	}
}

// TestSearch fails when the API and the engine find different numbers of
// events, or when a search is refused for any reason but its turn.
func TestSearch(t *testing.T) {
	t.Parallel()
	var out, status bytes.Buffer
	cmd := searchCmd{Events: 20 * events, Rounds: 2, Searchers: 4, Rate: 500, For: time.Second}
	if err := cmd.run(t.Context(), &out, &status); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"action + user", "rare word of a field", "histogram", "bytes an event, all in all", "searches/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(i+1))
	}
	for share, want := range map[float64]time.Duration{0.5: 100, 0.99: 198, 1: 200} {
		if got := quantile(times, share); got != want {
			t.Errorf("%g of 1 to 200: got %d, want %d", share, got, want)
		}
	}
}

func TestAChildThatCannotStartSaysWhy(t *testing.T) {
	_, err := startChild(childSpec{})
	if err == nil || !strings.Contains(err.Error(), "nothing to be") {
		t.Fatalf("got %v", err)
	}
}

// TestReport fails when a report lacks a row or is not finished.
func TestReport(t *testing.T) {
	t.Parallel()
	var out, status bytes.Buffer
	if err := (reportCmd{Events: 2 * events, Sample: events, Few: events, Rounds: 2}).run(t.Context(), &out, &status); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CSV, gzip ", "Parquet ", "of the engine's rate", "peak memory of the reporter", "6000 "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
