package qql

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/auditrail/auditrail/services/internal/field"
)

var update = flag.Bool("update", false, "write the golden files")

// testdata/errors.golden has a wrong query and below it what is said of it:
// > query
// line:column message
// for example: example
//
// A query of several lines has > before each of them. {n:text} in a query is
// text n times.
func TestErrors(t *testing.T) {
	const path = "testdata/errors.golden"
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	var query []string
	n := 0
	for line := range strings.Lines(string(golden)) {
		line = strings.TrimSuffix(line, "\n")
		if q, ok := strings.CutPrefix(line, "> "); ok {
			query = append(query, q)
			fmt.Fprintln(&got, line)
			continue
		}
		if strings.HasPrefix(line, "#") {
			fmt.Fprintln(&got, line)
		}
		if len(query) > 0 {
			got.WriteString(said(t, strings.Join(query, "\n")))
			query = nil
			n++
		}
	}
	if n < 100 {
		t.Errorf("%d wrong queries, want 100 or more", n)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(golden) {
		t.Errorf("%s differs (write it with -update); got:\n%s", path, got.String())
	}
}

// said returns what is said about a wrong query.
func said(t *testing.T, query string) string {
	for strings.Contains(query, "{") {
		before, rest, _ := strings.Cut(query, "{")
		what, after, _ := strings.Cut(rest, "}")
		var n int
		count, text, _ := strings.Cut(what, ":")
		if _, err := fmt.Sscan(count, &n); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		query = before + strings.Repeat(text, n) + after
	}
	query = strings.ReplaceAll(query, `<zwsp>`, "\u200b")
	x, err := Parse(field.Events, query)
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: parsed as %v", query, x)
		return "no error\n\n"
	}
	s := fmt.Sprintf("%d:%d %s\n", e.Line, e.Column, e.Message)
	if e.Example != "" {
		if _, err := Parse(field.Events, e.Example); err != nil {
			if _, err := Parse(field.Events, "changes:("+e.Example+")"); err != nil {
				t.Errorf("%s: the example %s is wrong: %v", query, e.Example, err)
			}
		}
		s += "for example: " + e.Example + "\n"
	}
	return s + "\n"
}
