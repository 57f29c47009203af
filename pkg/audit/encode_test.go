package audit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// anyEvent draws events of any content that has the right form; most are not
// valid.
func anyEvent(t *rapid.T) *Event {
	e := &Event{
		AuditEnabledAppID: rapid.Uint32().Draw(t, "app"),
		CreatedDate:       rapid.Int64().Draw(t, "created"),
	}
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[ -~]{0,40}`), rapid.StringMatching(`["\\\x00-\x1f\x7fé€🙂]{0,12}`))
	for f := range fieldCount {
		if s := e.text(f); s != nil {
			*s = text.Draw(t, fieldNames[f])
		}
	}
	var changes []Change
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		changes = append(changes, Change{
			Field:  "f" + text.Draw(t, "field"),
			Before: rapid.OneOf(rapid.Just[any](nil), rapid.Map(text, func(s string) any { return s })).Draw(t, "before"),
			After:  rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return []any{f, map[string]any{"x": f}} }).Draw(t, "after"),
		})
	}
	if err := e.SetChanges(changes); err != nil {
		t.Fatal(err)
	}
	extra := map[string]any{}
	for key, value := range rapid.MapOfN(rapid.StringMatching(`[A-Za-zé"\\ ]{0,8}`), rapid.Bool(), 0, 5).Draw(t, "extra") {
		if fieldOf(key) < 0 {
			extra[key] = map[string]any{"v": value}
		}
	}
	if err := e.SetExtra(extra); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		data, err := e.AppendJSON([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		data = data[len("before"):]
		if value := jsontext.Value(data); !value.IsValid() {
			t.Fatalf("not strict JSON: %s", data)
		}
		var got Event
		if err := Decode(data, &got); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if diff := cmp.Diff(e, &got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// The known fields come out as encoding/json would write them, so the struct
// tags and the encoder's own names agree.
func TestAppendJSONAgreesWithTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		e.Extra = nil
		got, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := marshal((*plainEvent)(e))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(canonical(t, want), canonical(t, got)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// canonical keeps the order of members and evens out how strings are escaped.
func canonical(t *rapid.T, data []byte) string {
	value := jsontext.Value(data)
	if err := value.Format(jsontext.CanonicalizeRawFloats(false), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false), jsontext.PreserveRawStrings(false)); err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func TestAppendJSONRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		event       Event
		field, rule string
	}{
		"not UTF-8":                {Event{Action: "caf\xe9"}, "action", RuleUTF8},
		"not UTF-8 after escape":   {Event{TargetName: "\"\xe9"}, "targetName", RuleUTF8},
		"cut UTF-8":                {Event{UserName: "12345678\xf0\x9f\x99"}, "userName", RuleUTF8},
		"changes no JSON":          {Event{Changes: []byte(`[{"field":"x"}`)}, "changes", RuleJSON},
		"changes and more":         {Event{Changes: []byte(`[],"action":"x"`)}, "changes", RuleJSON},
		"changes of other shape":   {Event{Changes: []byte(`[1]`)}, "changes", RuleType},
		"extra no object":          {Event{Extra: []byte(`[]`)}, "extra", RuleType},
		"extra no JSON":            {Event{Extra: []byte(`{"a":}`)}, "extra", RuleJSON},
		"extra and more":           {Event{Extra: []byte(`{"a":1},{}`)}, "extra", RuleJSON},
		"extra twice":              {Event{Extra: []byte(`{"a":1,"a":2}`)}, "extra", RuleDuplicate},
		"extra known":              {Event{Extra: []byte(`{"a":1,"action":"x"}`)}, "extra", RuleCollision},
		"extra known when escaped": {Event{Extra: []byte(`{"\u0061ction":"x"}`)}, "extra", RuleCollision},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := test.event.AppendJSON([]byte("as it was"))
			var ps Problems
			if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Field != test.field || ps[0].Rule != test.rule {
				t.Errorf("got %v, want one problem: %s %s", err, test.field, test.rule)
			}
			if string(out) != "as it was" {
				t.Errorf("dst is %q", out)
			}
		})
	}
}

func TestAppendJSONOfNothing(t *testing.T) {
	for _, e := range []Event{{}, {Changes: []byte("null"), Extra: []byte("null")}, {Extra: []byte(" { } ")}} {
		if got, err := e.AppendJSON(nil); err != nil || string(got) != "{}" {
			t.Errorf("got %s, %v; want {}", got, err)
		}
	}
}

func TestSetters(t *testing.T) {
	var e Event
	if err := e.SetChanges([]Change{{Field: "a<b>", Before: 1}, {Field: "b", After: []string{"x"}}}); err != nil {
		t.Fatal(err)
	}
	if want := `[{"field":"a<b>","before":1},{"field":"b","after":["x"]}]`; string(e.Changes) != want {
		t.Errorf("changes are %s, want %s", e.Changes, want)
	}
	if err := e.SetExtra(map[string]any{"region": "eu", "n": 1}); err != nil {
		t.Fatal(err)
	}
	if want := `{"n":1,"region":"eu"}`; string(e.Extra) != want {
		t.Errorf("extra is %s, want %s", e.Extra, want)
	}
	kept := e
	for name, err := range map[string]error{
		"change without field": e.SetChanges([]Change{{Before: 1}}),
		"change JSON can't":    e.SetChanges([]Change{{Field: "x", After: func() {}}}),
		"too many changes":     e.SetChanges(make([]Change, MaxChanges+1)),
		"extra known":          e.SetExtra(map[string]any{"moduleCode": "PM"}),
		"extra JSON can't":     e.SetExtra(map[string]any{"x": make(chan int)}),
		"extra name too long":  e.SetExtra(map[string]any{strings.Repeat("x", MaxExtraNameBytes+1): 1}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if diff := cmp.Diff(kept, e); diff != "" {
		t.Errorf("a refused value changed the event (-want +got):\n%s", diff)
	}
	if err := errors.Join(e.SetChanges(nil), e.SetExtra(nil)); err != nil || e.Changes != nil || e.Extra != nil {
		t.Errorf("not cleared: %s, %s, %v", e.Changes, e.Extra, err)
	}
}

func TestStandardJSON(t *testing.T) {
	var list []Event
	data := []byte(`[{"action":"Add","region":"eu"},{"action":"Del","changes":[{"field":"x"}]}]`)
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	clear(data[1:])
	got, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"action":"Add","region":"eu"},{"action":"Del","changes":[{"field":"x"}]}]`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := json.Unmarshal([]byte(`{"action":"a","action":"b"}`), &list[0]); err == nil {
		t.Error("a duplicate name was accepted")
	}
}

func TestFieldTableIsOne(t *testing.T) {
	var e Event
	seen := map[*string]bool{}
	for f := range fieldCount {
		if got := fieldOf(fieldNames[f]); got != f {
			t.Errorf("fieldOf(%q) = %d, want %d", fieldNames[f], got, f)
		}
		s := e.text(f)
		if s == nil {
			continue
		}
		if seen[s] {
			t.Errorf("%s shares its place", fieldNames[f])
		}
		seen[s] = true
	}
	if len(seen) != int(fieldCount)-3 {
		t.Errorf("%d string fields, want all but createdDate, auditEnabledAppId and changes", len(seen))
	}
	if !utf8.ValidString(strings.Join(fieldNames[:], "")) {
		t.Error("a name is not UTF-8")
	}
}
