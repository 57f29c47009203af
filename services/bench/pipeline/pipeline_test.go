package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
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

func TestAChildThatCannotStartSaysWhy(t *testing.T) {
	_, err := startChild(childSpec{})
	if err == nil || !strings.Contains(err.Error(), "nothing to be") {
		t.Fatalf("got %v", err)
	}
}
