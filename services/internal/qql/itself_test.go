package qql

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

// odd says that a text has what only quotes can hold: white space beyond ASCII,
// which separates words of a query and belongs to those of an event, and
// look-alikes.
func odd(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool {
		return c >= 0x80 && unicode.IsSpace(c) || lookAlikes[c] != "" || c == '\u200b' || c == '\u2060' || c == '\ufeff'
	})
}

// TestAValueFindsItself checks that a value, quoted in any way, finds the event
// that has it, and that what is exact finds no other.
func TestAValueFindsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := drawText(t)
		event := audit.Event{UserName: value}
		other := audit.Event{UserName: value + "x"}
		finds := func(query string, e *audit.Event) bool {
			x, err := Reparse(field.Events, query)
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			return Compile(x, time.Now())(e)
		}
		exact := []string{
			"userName: " + quote(value, '`'),
			"userName = " + quote(value, '"'),
			"userName: [" + quote(value, '`') + "]",
			"userName: [" + quote(value, '"') + "]",
		}
		partly := []string{
			"userName: *" + quote(value, '"') + "*",
			"userName: " + quote(value, '"') + "*",
		}
		if len(Tokens(value)) > 0 && !odd(value) {
			partly = append(partly, "userName: "+wordsOf(value).text(false))
			exact = append(exact, "userName: "+quote(value, '"')+" AND userName = "+quote(value, '"'))
		}
		for _, query := range exact {
			if !finds(query, &event) || finds(query, &other) {
				t.Errorf("%s: finds its value: %v, another: %v", query, finds(query, &event), finds(query, &other))
			}
		}
		for _, query := range partly {
			if !finds(query, &event) || !finds(query, &other) {
				t.Errorf("%s: finds its value: %v, a longer one: %v", query, finds(query, &event), finds(query, &other))
			}
		}
	})
}

// TestUnquotedTextFindsItself does so for texts without quotes, where the
// parser takes them.
func TestUnquotedTextFindsItself(t *testing.T) {
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		value := drawText(t)
		if strings.ContainsAny(value, `*"`) || odd(value) {
			t.Skip("a pattern, a phrase, or what only quotes can hold")
		}
		x, err := Reparse(field.Events, "targetName: "+value)
		test, ok := x.(Test)
		if err != nil || !ok || test.Field.Name != "targetName" {
			return
		}
		if _, ok := test.Cond.(Words); !ok {
			return
		}
		taken++
		if !Compile(x, time.Now())(&audit.Event{TargetName: value}) {
			t.Errorf("targetName: %s does not find %q; it is %s", value, value, x)
		}
	})
	if taken < 5 {
		t.Errorf("%d texts were taken", taken)
	}
}
