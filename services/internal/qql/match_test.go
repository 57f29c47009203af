package qql

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

func TestTokens(t *testing.T) {
	for text, want := range map[string][]string{
		"":                          nil,
		" -?! \x00":                 nil,
		"web-01.Example.com":        {"web", "01", "example", "com"},
		"user_name, Größe 日本語 ΟΔΟΣ": {"user", "name", "größe", "日本語", "οδοσ"},
		"a\xff\xfeB":                {"a\uFFFDb"},
		"İK":                        {"i\u0307k"},
	} {
		if d := cmp.Diff(Tokens(text), want); d != "" && len(want)+len(Tokens(text)) > 0 {
			t.Errorf("%q (-got +want)\n%s", text, d)
		}
	}
}

var sample = audit.Event{
	ID: "EAA0A5B2-1E46-4F43-9DFE-578A88AE01C9", UserName: "Jack", Action: "Add", SourceIP: "::ffff:10.1.2.3", CreatedDate: 1_774_958_400_000,
	AuditComment: "New user added to web-01.example.com by policy, see the report of the day: the quick brown fox",
	Changes:      json.RawMessage(`[{"field":"role","before":"Reader","after":"Manager"},{"field":"limit","before":1.50,"after":{"x": [1]}}]`),
}

func at(name string) *field.Field { return field.Find(field.Events.Fields, name) }

func TestCompile(t *testing.T) {
	addr := func(s string) Value { return Addr(netip.MustParseAddr(s)) }
	change := func(name string, c Cond) Expr { return Test{field.Find(field.ChangeFields, name), c} }
	for name, c := range map[string]struct {
		x    Expr
		want bool
	}{
		"nil":                            {nil, true},
		"each word begins a token":       {Test{at("auditComment"), Words{{"add"}, {"us"}}}, true},
		"a word is not within a token":   {Test{at("auditComment"), Words{{"dded"}}}, false},
		"words in several texts":         {Test{nil, Words{{"jack"}, {"report"}}}, true},
		"tokens in sequence":             {Test{at("auditComment"), Words{{"web", "01", "exam"}}}, true},
		"all but the last are whole":     {Test{at("auditComment"), Words{{"web", "0", "example"}}}, false},
		"phrase":                         {Test{nil, Phrase{"user", "added"}}, true},
		"phrase of whole tokens":         {Test{nil, Phrase{"user", "add"}}, false},
		"phrase within one text":         {Test{nil, Phrase{"jack", "new"}}, false},
		"equal":                          {Test{at("userName"), Equal{"Jack"}}, true},
		"equal knows case":               {Test{at("userName"), Equal{"jack"}}, false},
		"pattern":                        {Test{at("userName"), Like{"J", "K"}}, true},
		"parts do not overlap":           {Test{at("userName"), Like{"jac", "ack"}}, false},
		"list":                           {Test{at("userName"), In{{Text: "x"}, {Text: "JACK"}}}, true},
		"exact member":                   {Test{at("userName"), In{{Text: "JACK", Exact: true}}}, false},
		"list of whole values":           {Test{at("userName"), In{{Text: "jac"}}}, false},
		"null":                           {Test{at("status"), Null{}}, true},
		"not":                            {Not{Test{at("status"), Null{}}}, false},
		"an IPv4 address in IPv6 form":   {Test{at("sourceIp"), In{{Value: Network(netip.MustParsePrefix("10.0.0.0/8"))}}}, true},
		"above an address":               {Test{at("sourceIp"), Range{Low: &Bound{Value: addr("10.1.2.3"), Open: true}}}, false},
		"IPv4 is not above IPv6":         {Test{at("sourceIp"), Range{Low: &Bound{Value: addr("::1")}}}, false},
		"one entry satisfies all":        {Nested{at("changes"), And{change("field", Words{{"role"}}), change("after", Equal{"Manager"})}}, true},
		"not one entry and another":      {Nested{at("changes"), And{change("field", Words{{"role"}}), change("after", Words{{"x"}})}}, false},
		"numbers as they were written":   {Nested{at("changes"), change("before", Equal{"1.50"})}, true},
		"JSON without white space":       {Nested{at("changes"), change("after", Equal{`{"x":[1]}`})}, true},
		"the last moment of a whole day": {Test{at("createdDate"), Range{High: &Bound{Value: Date{From: 1_774_900_000_000, To: 1_774_958_400_000}}}}, true},
		"an open end has none of a day":  {Test{at("createdDate"), Range{High: &Bound{Value: Date{From: 1_774_900_000_000, To: 1_774_958_400_000}, Open: true}}}, false},
		"a minute ago":                   {Test{at("createdDate"), Range{Low: &Bound{Value: Date{Now: true, Move: []Step{{-1, 'm'}}}}}}, true},
	} {
		if got := Compile(c.x, time.UnixMilli(sample.CreatedDate+1000))(&sample); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnEventWithoutAnAddressIsInNoRange(t *testing.T) {
	all := netip.MustParsePrefix("::/0")
	x := Test{at("sourceIp"), Range{Low: &Bound{Value: Network(all)}, High: &Bound{Value: Network(all)}}}
	if Compile(x, time.Time{})(&audit.Event{}) {
		t.Error("no address lies in ::/0")
	}
	if !Compile(x, time.Time{})(&audit.Event{SourceIP: "2001:db8::1"}) {
		t.Error("an address does not lie in ::/0")
	}
}

func TestWhatIsNotGoodJSONHasEntries(t *testing.T) {
	for raw, want := range map[string][]change{
		"":                               nil,
		`{"field":"a"}`:                  nil,
		`[{"field":"a"`:                  {{"a", "", ""}},
		`[{"field":"a","field":"b"}]`:    {{"a", "", ""}},
		`[{"f\u0069eld":"\u00e4"},{}]`:   {{"ä", "", ""}, {}},
		`[{"before":null,"after":"x]"}]`: {{"", "", "x]"}},
	} {
		if d := cmp.Diff(changes(raw), want); d != "" {
			t.Errorf("%s (-got +want)\n%s", raw, d)
		}
	}
}

var matchers = []struct {
	name string
	x    Expr
}{
	{"word", Test{at("auditComment"), Words{{"quick"}}}},
	{"bare", Test{nil, Words{{"nowhere"}}}},
	{"pattern", Test{at("auditComment"), Like{"", "brown", ""}}},
	{"list", Test{at("action"), In{{Text: "delete"}, {Text: "add"}}}},
	{"network", Test{at("sourceIp"), In{{Value: Network(netip.MustParsePrefix("10.0.0.0/8"))}}}},
	{"and", And{Test{at("action"), Words{{"add"}}}, Test{at("createdDate"), Range{Low: &Bound{Value: Date{Now: true, Move: []Step{{-7, 'd'}}}}}}}},
	{"changes", Nested{at("changes"), Test{field.Find(field.ChangeFields, "after"), Words{{"manager"}}}}},
}

// TestMatchersDoNotAllocate holds for events of usual size; changes are parsed.
func TestMatchersDoNotAllocate(t *testing.T) {
	for _, m := range matchers {
		holds := Compile(m.x, time.UnixMilli(sample.CreatedDate))
		if n := testing.AllocsPerRun(100, func() { holds(&sample) }); n > 0 && m.name != "changes" {
			t.Errorf("%s: %v allocations an event", m.name, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	events := slices.Repeat([]audit.Event{sample}, 64)
	for _, m := range matchers {
		b.Run(m.name, func(b *testing.B) {
			holds := Compile(m.x, time.UnixMilli(sample.CreatedDate))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				holds(&events[i%len(events)])
			}
		})
	}
}
