package qql

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

// blocks returns the lines of the fenced blocks of a kind in
// docs/query-language.md.
func blocks(t *testing.T, kind string) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/query-language.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i, part := range strings.Split(string(page), "\n```"+kind+"\n") {
		if i > 0 {
			block, _, _ := strings.Cut(part, "\n```")
			lines = append(lines, strings.Split(block, "\n")...)
		}
	}
	return lines
}

// TestExamplesOfTheDocs runs each query of the page against its events.
func TestExamplesOfTheDocs(t *testing.T) {
	now := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	var events []audit.Event
	for _, line := range blocks(t, "events") {
		var e audit.Event
		if err := audit.Decode([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if err := e.Validate(now, 400*24*time.Hour); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, e)
	}
	examples := blocks(t, "qql")
	if len(events) < 4 || len(examples) < 50 {
		t.Fatalf("%d events, %d examples", len(events), len(examples))
	}
	for _, line := range examples {
		example(t, field.Events, line, func(x Expr) (found []string) {
			holds := Compile(x, now)
			for i := range events {
				if holds(&events[i]) {
					found = append(found, strconv.Itoa(i+1))
				}
			}
			return found
		})
	}
}

// example compares what a query finds with the numbers behind it.
func example(t *testing.T, of *field.Table, line string, find func(Expr) []string) {
	t.Helper()
	query, numbers, _ := strings.Cut(line, "  // ")
	x, err := Parse(of, query)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return
	}
	if got, want := find(x), strings.Fields(numbers); !slices.Equal(got, want) {
		t.Errorf("%s finds %v, the page says %v", query, got, want)
	}
}

// TestCallExamplesOfTheDocs runs each query about API calls against the calls of
// the page.
func TestCallExamplesOfTheDocs(t *testing.T) {
	now := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	var calls []audit.APICall
	for _, line := range blocks(t, "calls") {
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		var c audit.APICall
		if err := d.Decode(&c); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		calls = append(calls, c)
	}
	examples := blocks(t, "qql-calls")
	if len(calls) < 4 || len(examples) < 12 {
		t.Fatalf("%d calls, %d examples", len(calls), len(examples))
	}
	for _, line := range examples {
		example(t, field.Calls, line, func(x Expr) (found []string) {
			holds := CompileCall(x, now)
			for i := range calls {
				if holds(&calls[i]) {
					found = append(found, strconv.Itoa(i+1))
				}
			}
			return found
		})
	}
}

// TestErrorsOfTheDocs compares the errors that the page shows.
func TestErrorsOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/query-language.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Errors\n")
	n := 0
	for line := range strings.Lines(section) {
		row, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		query, want, _ := strings.Cut(row, "` | ")
		got, _, _ := strings.Cut(said(t, query), "\n")
		if want = strings.TrimSuffix(want, " |\n"); got != want {
			t.Errorf("%s\nsays           %s\nthe page says  %s", query, got, want)
		}
		n++
	}
	if n < 5 {
		t.Errorf("%d errors on the page", n)
	}
}
