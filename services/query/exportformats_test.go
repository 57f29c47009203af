package query

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

func TestCells(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"plain":                      "plain",
		"é\u0301":                    "é\u0301",
		"a,b":                        `"a,b"`,
		"a;=1+1":                     `"a;=1+1"`,
		"a\"b":                       `"a""b"`,
		"a\r\nb":                     "\"a\r\nb\"",
		" a":                         `" a"`,
		"# incomplete":               `"# incomplete"`,
		"a\xff":                      "a\uFFFD",
		`=cmd|'/C calc'!A0`:          `"'=cmd|'/C calc'!A0"`,
		`=HYPERLINK("http://x","y")`: `"'=HYPERLINK(""http://x"",""y"")"`,
		"+1":                         `"'+1"`,
		"-1":                         `"'-1"`,
		"@SUM(A1)":                   `"'@SUM(A1)"`,
		"\t=1":                       "\"'\t=1\"",
		"\tx":                        "\"'\tx\"",
		"\rx":                        "\"'\rx\"",
		"\nx":                        "\"'\nx\"",
		"  =1":                       `"'  =1"`,
		"\uFEFF=1":                   "\"'\uFEFF=1\"",
		"\u200B\x00=1":               "\"'\u200B\x00=1\"",
		"\uFF1D1":                    "\"'\uFF1D1\"",
		"\uFF0B1":                    "\"'\uFF0B1\"",
		"\uFF0D1":                    "\"'\uFF0D1\"",
		"\uFF20a":                    "\"'\uFF20a\"",
		"\uFE661":                    "\"'\uFE661\"",
		"'=1":                        `"''=1"`,
		"'t Hooft":                   "'t Hooft",
		`"=1`:                        `"""=1"`,
		"a=1":                        "a=1",
	} {
		if got := string(appendCell(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// unguard takes back what appendCell did to a text that could be a formula.
func unguard(cell string) string {
	if formula(cell) {
		return strings.TrimPrefix(cell, "'")
	}
	return cell
}

// TestCellsComeBack reads rows with Go's CSV reader: every text comes back, and
// none begins like a formula.
func TestCellsComeBack(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("=+-@'\",;#\t\r\n a\uFF1D\u200B"))))
	f := csvFormat{columns: []column{{Field: &field.Field{Type: field.Text}}, {Field: &field.Field{Type: field.Keyword}}}, zone: time.UTC}
	rapid.Check(t, func(rt *rapid.T) {
		one, two := text.Draw(rt, "one"), text.Draw(rt, "two")
		row := f.row(nil, []any{&one, &two})
		if !utf8.Valid(row) || bytes.HasPrefix(row, []byte("# incomplete")) {
			rt.Fatalf("%q", row)
		}
		r := csv.NewReader(bytes.NewReader(row))
		got, err := r.Read()
		if one == "" && two == "" {
			return // Go's reader takes "," for two cells, as it should
		}
		if err != nil {
			rt.Fatalf("%q: %v", row, err)
		}
		// Go's reader makes \n of \r\n.
		want := []string{strings.ReplaceAll(one, "\r\n", "\n"), strings.ReplaceAll(two, "\r\n", "\n")}
		if d := cmp.Diff([]string{unguard(got[0]), unguard(got[1])}, want); d != "" {
			rt.Fatalf("%q (-got +want)\n%s", row, d)
		}
		for _, cell := range got {
			if cell != visibility.Hidden && strings.ContainsAny(cell[:min(1, len(cell))], "=+-@\t\r\n") {
				rt.Fatalf("a formula: %q", cell)
			}
		}
	})
}

func TestValuesThatAreNotTextAreNotGuarded(t *testing.T) {
	date, number := int64(1750000000001), uint32(5)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	f := csvFormat{columns: []column{{Field: &field.Field{Type: field.Instant}}, {Field: &field.Field{Type: field.Number}}}, zone: berlin}
	if got, want := string(f.row(nil, []any{&date, &number})), "2025-06-15T17:06:40.001+02:00,5\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	before := int64(-1)
	f.zone = time.UTC
	if got, want := string(f.row(nil, []any{&before, &number})), "1969-12-31T23:59:59.999Z,5\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOneLineAnEvent holds that JSON which came with line ends stays on its
// event's line: the lines of extra would else be events of their own.
func TestOneLineAnEvent(t *testing.T) {
	changes, extra := "[\n{\"field\":\"a\\n\"}\r\n]", "{\"x\":\n{\"id\":\"forged\"}\n}"
	f := jsonLines{columns: []column{{Field: field.Find(field.Events.Fields, "changes")}, {Field: field.Find(field.Events.Fields, "extra")}}}
	want := `{"changes":[ {"field":"a\n"}  ],"extra":{"x": {"id":"forged"} }}` + "\n"
	if d := cmp.Diff(string(f.row(nil, []any{&changes, &extra})), want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

// TestAnEmptyCellIsALine holds that an event whose only column is empty is a
// row to readers that pass over empty lines.
func TestAnEmptyCellIsALine(t *testing.T) {
	f := csvFormat{columns: []column{{Field: &field.Field{Type: field.Keyword}}}, zone: time.UTC}
	var dest []any
	for _, c := range f.columns {
		dest = append(dest, newDest(c.Type))
	}
	file := f.row(nil, dest)
	rows, err := csv.NewReader(bytes.NewReader(f.row(file, dest))).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Errorf("got %q, %v; want two rows", rows, err)
	}
}
