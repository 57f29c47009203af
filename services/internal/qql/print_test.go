package qql

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/field"
)

// printsBack checks that a tree prints as a query that parses to it.
func printsBack(t interface{ Fatalf(string, ...any) }, of *field.Table, x Expr) {
	again, err := Reparse(of, x.String())
	if err != nil {
		t.Fatalf("%#v\nprints %s\nwhich is wrong: %v", x, x, err)
	}
	if !reflect.DeepEqual(x, again) { // cmp takes its time with deep trees
		t.Fatalf("%s: -before +after\n%s", x, cmp.Diff(x, again, equal))
	}
	if again.String() != x.String() {
		t.Fatalf("%s\nprints again as %s", x, again)
	}
}

// tables are those that queries are about.
var tables = []*field.Table{field.Events, field.Calls}

func TestPrintThenParseIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, of := range tables {
			printsBack(t, of, drawExpr(t, of, of.Fields, 3))
		}
	})
}

// TestWhatPrintsNestsNoDeeper checks that the limit of nesting holds for what
// is printed whenever it held for what was read.
func TestWhatPrintsNestsNoDeeper(t *testing.T) {
	deep := strings.Repeat("NOT (", maxDepth/2)
	for _, query := range []string{
		deep + "a OR b" + strings.Repeat(")", maxDepth/2),
		"userName:" + strings.Repeat("(a AND (b OR ", maxDepth/2) + "c" + strings.Repeat("))", maxDepth/2),
		"changes.field:" + strings.Repeat("(", maxDepth) + "a" + strings.Repeat(")", maxDepth),
	} {
		x, err := Parse(field.Events, query)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		printsBack(t, field.Events, x)
	}
}

// drawExpr draws a condition on fields of a table that Parse or FromFilters can make.
func drawExpr(t *rapid.T, of *field.Table, fields []field.Field, depth int) Expr {
	kinds := 1
	if depth > 0 {
		kinds = 5
	}
	switch k := rapid.IntRange(0, kinds).Draw(t, "kind"); {
	case k == 2:
		return Not{drawExpr(t, of, fields, depth-1)}
	case k == 3:
		var and And
		for range rapid.IntRange(2, 3).Draw(t, "and") {
			x := drawExpr(t, of, fields, depth-1)
			if inner, ok := x.(And); ok {
				and = append(and, inner...)
			} else {
				and = append(and, x)
			}
		}
		return and
	case k == 4:
		var or Or
		for range rapid.IntRange(2, 3).Draw(t, "or") {
			x := drawExpr(t, of, fields, depth-1)
			if inner, ok := x.(Or); ok {
				or = append(or, inner...)
			} else {
				or = append(or, x)
			}
		}
		return or
	case k == 5 && of.List != nil && len(fields) == len(of.Fields):
		return Nested{of.List, drawExpr(t, of, of.Entries, depth-1)}
	case k == 0 && len(fields) == len(of.Fields):
		if rapid.Bool().Draw(t, "phrase") {
			return Test{nil, Phrase(drawTokens(t))}
		}
		return Test{nil, drawWords(t)}
	}
	f := &fields[rapid.IntRange(0, len(fields)-1).Draw(t, "field")]
	return Test{f, drawCond(t, f)}
}

func drawCond(t *rapid.T, f *field.Field) Cond {
	kind := rapid.IntRange(0, 5).Draw(t, "cond")
	switch {
	case kind == 0:
		return Null{}
	case kind == 1:
		in := make(In, rapid.IntRange(1, 3).Draw(t, "members"))
		for i := range in {
			if typed(f.Type) {
				in[i].Value = drawValue(t, f.Type, true)
			} else {
				in[i] = Member{Text: drawText(t), Exact: f.Type == field.Opaque || rapid.Bool().Draw(t, "exact")}
			}
		}
		return in
	case ranges(f.Type):
		return drawRange(t, f.Type, kind)
	case f.Type == field.UUID:
		v := drawValue(t, f.Type, true)
		return Range{&Bound{Value: v}, &Bound{Value: v}}
	case f.Type == field.Opaque || kind == 2:
		return Equal{drawText(t)}
	case kind == 3:
		return Phrase(drawTokens(t))
	case kind == 4:
		like := Like{rapid.SampledFrom([]string{"", drawText(t)}).Draw(t, "first")}
		for range rapid.IntRange(0, 2).Draw(t, "inner") {
			like = append(like, drawText(t))
		}
		last := rapid.SampledFrom([]string{"", drawText(t)}).Draw(t, "last")
		if len(like) == 1 && like[0] == "" {
			last = drawText(t)
		}
		return append(like, last)
	}
	return drawWords(t)
}

func drawRange(t *rapid.T, typ field.Type, kind int) Cond {
	low := &Bound{drawValue(t, typ, false), rapid.Bool().Draw(t, "open")}
	high := &Bound{drawValue(t, typ, false), rapid.Bool().Draw(t, "open")}
	switch kind {
	case 2:
		return Range{Low: low}
	case 3:
		return Range{High: high}
	case 4:
		r := Range{low, high}
		if inOrder(r) == nil {
			return r
		}
	}
	v := drawValue(t, typ, true)
	return Range{&Bound{Value: v}, &Bound{Value: v}}
}

func drawValue(t *rapid.T, typ field.Type, networks bool) Value {
	switch typ {
	case field.Number:
		return Number(rapid.Uint32().Draw(t, "number"))
	case field.UUID:
		return ID(uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")))
	case field.Instant:
		v, err := parseDate(f("createdDate"), rapid.SampledFrom([]string{
			"now", "NOW-7d", "now+1h-2m", "now-3M-2w+1y", "2026", "2026-01", "2026-01-31", "2026-01-31T10:00", "2026-01-31T10:00Z",
			"2026-01-31T10:00+02:00", "2026-01-31T10:00:05", "2026-01-31T10:00:05.123-07:00", "1650444199730", "0",
		}).Draw(t, "date"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	default:
		return drawAddress(t, networks)
	}
}

func drawAddress(t *rapid.T, networks bool) Value {
	size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
	b := rapid.SliceOfN(rapid.OneOf(rapid.Just(byte(0)), rapid.Byte()), size, size).Draw(t, "address")
	if size == 16 {
		b[9] |= 1 // neither :: nor an IPv4 address mapped into IPv6
	}
	a, _ := netip.AddrFromSlice(b)
	if networks && rapid.Bool().Draw(t, "network") {
		return Network(netip.PrefixFrom(a, rapid.IntRange(8, size*8).Draw(t, "bits")).Masked())
	}
	return Addr(a)
}

// drawText draws a text with a preference for what means something in a query.
func drawText(t *rapid.T) string {
	pieces := rapid.SampledFrom([]string{
		"a", "B", "jack", "and", "OR", "not", "is", "null", " ", " ", "*", `\`, `"`, "`", "'", "(", ")", "[", "]", ",", "..", ":", "=", "<", ">",
		"contains", "in", "status", " is ",
		"-", "_", ".", "@", "/", "é", "李", "“", "：", "\n", "\u200b", "\ufffd", "userName", "now",
	})
	if rapid.Bool().Draw(t, "any") {
		return rapid.StringN(1, 8, -1).Draw(t, "text")
	}
	return strings.Join(rapid.SliceOfN(pieces, 1, 6).Draw(t, "pieces"), "")
}

func drawTokens(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.SampledFrom([]string{
		"a", "jack", "and", "or", "not", "is", "null", "10", "é", "李", "username", "now", "eaa0a5b2", "1e46",
		"status", "state", "createddate", "changes", "before", "after", "contains", "equals", "like", "in", "between", "starts", "with",
	}), 1, 5).Draw(t, "tokens")
}

func drawWords(t *rapid.T) Words {
	w := make(Words, rapid.IntRange(1, 4).Draw(t, "words"))
	for i := range w {
		if w[i] = drawTokens(t); rapid.Bool().Draw(t, "single") {
			w[i] = w[i][:1]
		}
	}
	return w
}

// FuzzParse parses any text: it never panics, errors point into the text or
// right behind it, and what prints parses to the same.
func FuzzParse(f *testing.F) {
	for _, query := range []string{
		`action: delete AND sourceIp: 10.0.0.0/8 AND createdDate > now-7d`,
		`changes:(field: role AND after: "Manager") OR NOT changes.before is null`,
		"userName:(jack OR `Jill` OR [\"a\\\"b\", C]) AND NOT userName: *\"x y\"*z",
		`auditEnabledAppId: [1 .. 5) OR auditEnabledAppId: (1...5] and createdDate: ['2026-01' .. 1650444199730]`,
		`state: [Finished, "Blocked (Rate)"] AND updatedDate > now-1h AND NOT durationMs: [1 .. 5] OR client: curl`,
		`status \is success OR state \contains x \and changes.before \in a`, `status is a`, `createdDate between a and b`, `id == 5 or api in (a, b`,
		`user-is-null \and web-01.example.com eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9`,
		"a)", "“", "userName: [", "((((((((((((((((((((((a", "\xff",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, of := range tables {
			x, err := Parse(of, query)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Message == "" {
					t.Fatalf("%#v", err)
				}
				lines := strings.Split(query, "\n")
				if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > utf8.RuneCountInString(lines[e.Line-1])+1 {
					t.Fatalf("%d:%d is not in %q", e.Line, e.Column, query)
				}
				continue
			}
			if x != nil {
				printsBack(t, of, x)
			}
		}
	})
}
