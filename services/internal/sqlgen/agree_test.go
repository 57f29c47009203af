package sqlgen_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

var now = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

// Values are few, so that they meet, and nasty, so that quoting, folding and
// splitting are tried.
var (
	nastyTexts = []string{
		"", "a", "A", "add", "Added", "user added", "New User added to web-01.example.com", "web 01 example", "WEB_01.EXAMPLE.com",
		"it's", `back\slash`, `\N`, "50%", "50", "a_b", "a%b", "tab\tnew\nline\rnul\x00end", "a\x00b", `"quoted"`, "(a|b).*[c]",
		"\xff", "a\xffb", "\xff\xfea", "\xe2\x82", "\xed\xa0\x80x", "\xf0\x9f\x98 a", "\uFFFD", "\uFFFDa",
		"Straße", "STRASSE", "İstanbul", "istanbul", "i\u0307stanbul", "ıI", "K", "k", "ſ", "s", "ΟΔΟΣ", "οδος", "οδοσ", "ΑΣ a", "Ä", "ä", "a\u0308",
		"日本語 text", "日本", "😀", "naïve", "NAÏVE", "{w1:String}", "a' OR 1=1 --", "null", "ǅ", "ǆ", "ﬁ",
		strings.Repeat("long text ", 300) + "end", strings.Repeat("x", 600),
	}
	nastyJSON = []string{
		"", "null", "[]", "{}", "[ ]", "[", `{"field":"a"}`, `"[{"`, "]]]}{", `[{"field":"role","before":"Reader","after":"Manager"}]`,
		`[{"field":"role","before":"Manager","after":"Reader"},{"field":"limit","before":1.50,"after":1.5}]`,
		`[ { "after" : { "b" : [ 1.0, "x y" ], "a":{"before":"a"} } , "field":"deep" } ]`,
		`[{"field":"a","before":null,"after":""},{"field":"A","before":true,"after":12345678901234567890123}]`,
		`[{"field":"it's \"q\" \u00e4\ud83d\ude00\u0000\\ \/","before":"tab\t","after":"\n"}]`,
		`[{"field":"a","field":"b","before":1,"before":2}]`, `[{"f\u0069eld":"a","after":1e5}]`, `[{"field":"a","after":"unclosed}]`,
		`[{"field":"a" "after" "b"}]`, `[{"field":"a","after":}]`, `[{"field","after":1}]`, `[[{"field":"a"}]]`, `[{"field":"a"},["before","a"],{"field":"b"}]`,
		`[{"field":"lone \ud800","before":"bad \q","after":"raw` + "\n\x01" + `"}]`, "[{\"field\":\"\xff\",\"before\":\"a\xff\"}]", `[{"field":"ΟΔΟΣ","after":["ΟΔΟΣ"]}]`,
		`[{"field":"a}]","before":"{[","after":"a,b"}]`, `[{"field":"a","after":-0.0},{"field":"x","after":1E400}]`, `{"custom":"a","n":1}`,
	}
	addresses = []string{"", "10.0.0.0", "10.1.2.3", "10.255.255.255", "192.168.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1", "2001:DB8::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:10.1.2.3", "::fffe:ffff:ffff"}
	instants  = []int64{0, 1, now.UnixMilli(), now.UnixMilli() - 1, now.UnixMilli() + 1, now.Add(-time.Hour).UnixMilli(), time.Date(2026, 3, 30, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(2026, 3, 30, 23, 59, 59, 999e6, time.UTC).UnixMilli(), time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC).UnixMilli()}
	numbers   = []uint32{0, 1, 21, 1<<32 - 1}
)

// eventID is the id of the event at an index; they sort as the indexes do.
func eventID(i int) uuid.UUID {
	return uuid.UUID{4: byte(i >> 8), 5: byte(i), 15: byte(i)}
}

func pick[T any](t *rapid.T, of []T) T { return rapid.SampledFrom(of).Draw(t, "pick") }

// someEvents draws events of customer c1.
func someEvents(n int) []audit.Event {
	return rapid.Custom(func(t *rapid.T) []audit.Event {
		text := func() string {
			s := pick(t, nastyTexts)
			if rapid.Bool().Draw(t, "two") {
				s += pick(t, []string{" ", "", "-", "\x00", "ä"}) + pick(t, nastyTexts)
			}
			return s
		}
		events := make([]audit.Event, n)
		for i := range events {
			events[i] = audit.Event{
				ID: strings.ToUpper(eventID(i).String()), AuditEnabledAppID: pick(t, numbers), ApplicationName: text(), ModuleCode: text(), ModuleName: text(),
				UserName: text(), UserRole: text(), UserUUID: text(), CustomerUUID: "c1", Client: text(), SourceIP: pick(t, addresses),
				CreatedDate: pick(t, instants), TargetType: text(), TargetName: text(), Action: text(), Status: text(),
				AuditComment: text(), ExternalChangeLink: text(), EndpointType: text(), BusinessUnit: text(), Origin: text(),
				Changes: json.RawMessage(pick(t, nastyJSON)), RequestID: text(), Extra: json.RawMessage(pick(t, nastyJSON)),
			}
		}
		return events
	}).Example(1)
}

// insert stores events as ingest does, without indexes until parts are merged;
// kafka_offset is the index.
func insert(t testing.TB, conn driver.Conn, events []audit.Event) {
	t.Helper()
	names := make([]string, len(field.Events.Fields))
	for i, f := range field.Events.Fields {
		names[i] = f.Column
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"materialize_skip_indexes_on_insert": 0}))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO audit_events ("+strings.Join(names, ", ")+", kafka_offset, retention_days)")
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		ip := netip.IPv6Unspecified()
		if e.SourceIP != "" {
			ip = netip.AddrFrom16(netip.MustParseAddr(e.SourceIP).As16())
		}
		if err := batch.Append(uuid.MustParse(e.ID), e.AuditEnabledAppID, e.ApplicationName, e.ModuleCode, e.ModuleName, e.UserName,
			e.UserRole, e.UserUUID, e.CustomerUUID, e.Client, ip, time.UnixMilli(e.CreatedDate), e.TargetType, e.TargetName,
			e.Action, e.Status, e.AuditComment, e.ExternalChangeLink, e.EndpointType, e.BusinessUnit, e.Origin,
			string(e.Changes), e.RequestID, string(e.Extra), int64(i), uint16(25000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}

// trees draws conditions of every construct.
type trees struct {
	*rapid.T
	of     *field.Table
	marked bool // all values are the mark
}

// mark occurs in no SQL.
const mark = "7777777"

func (t trees) expr(depth int) qql.Expr {
	if depth == 0 {
		return t.test()
	}
	some := func() []qql.Expr {
		xs := make([]qql.Expr, rapid.IntRange(2, 3).Draw(t.T, "parts"))
		for i := range xs {
			xs[i] = t.expr(rapid.IntRange(0, depth-1).Draw(t.T, "depth"))
		}
		return xs
	}
	switch construct := rapid.IntRange(0, 4).Draw(t.T, "construct"); {
	case construct == 0:
		return qql.And(some())
	case construct == 1:
		return qql.Or(some())
	case construct == 2:
		return qql.Not{X: t.expr(depth - 1)}
	case construct == 3 && t.of.List != nil:
		return qql.Nested{Field: t.of.List, X: t.change(depth - 1)}
	}
	return t.test()
}

// change draws a condition on an entry of changes.
func (t trees) change(depth int) qql.Expr {
	if depth > 0 && rapid.Bool().Draw(t.T, "and") {
		return qql.And{t.change(depth - 1), qql.Not{X: t.change(depth - 1)}}
	}
	f := &field.ChangeFields[rapid.IntRange(0, 2).Draw(t.T, "field")]
	return qql.Test{Field: f, Cond: t.textCond(f)}
}

func (t trees) test() qql.Test {
	if rapid.IntRange(0, 5).Draw(t.T, "bare") == 0 {
		if rapid.Bool().Draw(t.T, "phrase") {
			return qql.Test{Cond: qql.Phrase(t.tokens())}
		}
		return qql.Test{Cond: t.words()}
	}
	f := &t.of.Fields[rapid.IntRange(0, len(t.of.Fields)-1).Draw(t.T, "field")]
	if f == t.of.List && rapid.Bool().Draw(t.T, "nested") {
		return qql.Test{Field: f, Cond: qql.Null{}}
	}
	return qql.Test{Field: f, Cond: t.cond(f)}
}

func (t trees) cond(f *field.Field) qql.Cond {
	var value func() qql.Value
	network := false
	switch f.Type {
	case field.UUID:
		value = func() qql.Value { return qql.ID(eventID(rapid.IntRange(0, 700).Draw(t.T, "id"))) }
	case field.Number:
		value = func() qql.Value { return qql.Number(pick(t.T, []uint64{0, 1, 5, 21, 1<<32 - 1, 1 << 32, 1<<64 - 1})) }
	case field.Address:
		value = func() qql.Value {
			a := netip.MustParseAddr(pick(t.T, addresses[1:])).Unmap()
			if network {
				return qql.Network(netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t.T, "bits")).Masked())
			}
			return qql.Addr(a)
		}
	case field.Instant:
		value = func() qql.Value {
			from := pick(t.T, instants)
			switch rapid.IntRange(0, 2).Draw(t.T, "date") {
			case 0:
				return qql.Date{From: from, To: from}
			case 1:
				return qql.Date{From: from, To: from + 86_399_999}
			}
			return qql.Date{Now: true, Move: []qql.Step{{N: rapid.IntRange(-2, 1).Draw(t.T, "n"), Unit: pick(t.T, []byte("smhdwMy"))}}}
		}
	case field.Keyword, field.Text, field.Opaque, field.JSON:
		return t.textCond(f)
	}
	if t.marked {
		value = func() qql.Value { return marks[f.Type] }
	}
	switch rapid.IntRange(0, 3).Draw(t.T, "cond") {
	case 0:
		return qql.Null{}
	case 1:
		in := make(qql.In, rapid.IntRange(1, 4).Draw(t.T, "members"))
		for i := range in {
			network = f.Type == field.Address && rapid.Bool().Draw(t.T, "network")
			in[i].Value = value()
		}
		return in
	}
	network = f.Type == field.Address && rapid.Bool().Draw(t.T, "network")
	if v := value(); network || f.Type == field.UUID || rapid.Bool().Draw(t.T, "equal") {
		return qql.Range{Low: &qql.Bound{Value: v}, High: &qql.Bound{Value: v}}
	}
	network = false
	var r qql.Range
	ends := rapid.IntRange(1, 3).Draw(t.T, "ends")
	if ends&1 != 0 {
		r.Low = &qql.Bound{Value: value(), Open: rapid.Bool().Draw(t.T, "open")}
	}
	if ends&2 != 0 {
		r.High = &qql.Bound{Value: value(), Open: rapid.Bool().Draw(t.T, "open")}
	}
	return r
}

// changeTexts are values of changes.
var changeTexts = []string{"role", "Reader", "reader", "1.50", "1.5", `{"b":[1.0,"x y"],"a":{"before":"a"}}`, "x y", "true", "12345678901234567890123", "1e5", "it's \"q\" ä😀\x00\\ /", "-0.0", `["ΟΔΟΣ"]`, "{["}

// part draws a piece of a text that occurs, as a query has it: UTF-8.
func (t trees) part() string {
	if t.marked {
		return mark + "' --"
	}
	s := []rune(pick(t.T, slices.Concat(nastyTexts, nastyJSON, changeTexts)))
	from := rapid.IntRange(0, min(len(s), 30)).Draw(t.T, "from")
	to := rapid.IntRange(from, min(len(s), from+20)).Draw(t.T, "to")
	return string(s[from:to])
}

// whole draws a text that occurs, as a query has it.
func (t trees) whole() string {
	if t.marked {
		return mark + "' --"
	}
	return string([]rune(pick(t.T, slices.Concat(nastyTexts, nastyJSON, changeTexts))))
}

func (t trees) tokens() []string {
	for range 20 {
		if tokens := qql.Tokens(t.part()); len(tokens) > 0 {
			return tokens
		}
	}
	return []string{"a"}
}

func (t trees) words() qql.Words {
	words := make(qql.Words, rapid.IntRange(1, 3).Draw(t.T, "words"))
	for i := range words {
		words[i] = t.tokens()
	}
	return words
}

func (t trees) textCond(f *field.Field) qql.Cond {
	kinds := 6
	if f.Type == field.Opaque {
		kinds = 3
	}
	switch rapid.IntRange(0, kinds-1).Draw(t.T, "text") {
	case 0:
		return qql.Null{}
	case 1:
		return qql.Equal{Text: t.whole()}
	case 2:
		in := make(qql.In, rapid.IntRange(1, 4).Draw(t.T, "members"))
		for i := range in {
			in[i] = qql.Member{Text: t.whole(), Exact: f.Type == field.Opaque || rapid.Bool().Draw(t.T, "exact")}
		}
		return in
	case 3:
		like := make(qql.Like, rapid.IntRange(2, 4).Draw(t.T, "parts"))
		for i := range like {
			like[i] = t.part()
		}
		return like
	case 4:
		return qql.Phrase(t.tokens())
	}
	return t.words()
}

// TestSQLAndCompileMeanTheSame holds the two meanings of a query together on the
// engine: over one set of events, any condition finds the same ones in both.
func TestSQLAndCompileMeanTheSame(t *testing.T) {
	conn := open(t)
	events := someEvents(600)
	insert(t, conn, events[:300])
	if err := conn.Exec(t.Context(), "OPTIMIZE TABLE audit_events FINAL"); err != nil { // these have indexes
		t.Fatal(err)
	}
	insert(t, conn, events[300:])
	found, trials := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		x := trees{T: rt, of: field.Events}.expr(rapid.IntRange(0, 3).Draw(rt, "depth"))
		holds := qql.Compile(x, now)
		var want []string
		for i := range events {
			if holds(&events[i]) {
				want = append(want, eventID(i).String())
			}
		}
		var got []string
		stmt := sqlgen.Rows(manager, sqlgen.Filter{Where: x, Now: now}, sqlgen.Page{Limit: 1000})
		query(t, conn, stmt, func(r driver.Rows) error {
			id, err := scanID(r)
			got = append(got, id)
			return err
		})
		slices.Sort(got)
		if d := cmp.Diff(got, want); d != "" {
			rt.Fatalf("%s\n%v\nevents (-SQL +Compile)\n%s%s", stmt.SQL(), stmt.Params(), d, differs(events, got, want))
		}
		trials++
		found += len(got)
	})
	t.Logf("%d trees, %d events found", trials, found)
}

// marks are the mark as a value of each type that has values of its own.
var marks = map[field.Type]qql.Value{
	field.UUID:    qql.ID(uuid.MustParse("77777777-7777-7777-7777-777777777777")),
	field.Number:  qql.Number(77777777777),
	field.Address: qql.Addr(netip.MustParseAddr("7777:7777::7777:7777")),
	field.Instant: qql.Date{From: 7777777777777, To: 7777777777777, Text: mark},
}

// TestNoValueOfAQueryInSQL holds that the values of a condition travel beside
// the SQL, whatever it is made of.
func TestNoValueOfAQueryInSQL(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		for of, see := range map[*field.Table]visibility.View{field.Events: manager, field.Calls: visibility.ForCalls(reader, true)} {
			x := trees{T: rt, of: of, marked: true}.expr(rapid.IntRange(0, 3).Draw(rt, "depth"))
			if sql := sqlgen.Count(see, sqlgen.Filter{Where: x, Now: now}).SQL(); strings.Contains(sql, "777") {
				rt.Fatal(sql)
			}
		}
	})
}

// differs shows an event that only one of the two has.
func differs(events []audit.Event, got, want []string) string {
	for i := range events {
		if id := eventID(i).String(); slices.Contains(got, id) != slices.Contains(want, id) {
			return fmt.Sprintf("%+v\n%q", events[i], events[i].Changes)
		}
	}
	return ""
}
