package qql

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

// Compile makes a function that decides whether x, over the fields of
// field.Events, holds for an event. It is safe for concurrent use. Relative
// dates count from now. It panics when a Cond does not go with the type of its
// field, which Parse and FromFilters never make.
func Compile(x Expr, now time.Time) func(*audit.Event) bool {
	return compile(x, func(t Test) func(*audit.Event) bool { return events.compile(t, now) }, func(n Nested) func(*audit.Event) bool {
		holds := compile(n.X, compileChange, nil)
		return func(e *audit.Event) bool {
			return len(e.Changes) > 0 && slices.ContainsFunc(changes(string(e.Changes)), func(c change) bool { return holds(&c) })
		}
	})
}

// CompileCall is Compile for the fields of field.Calls.
func CompileCall(x Expr, now time.Time) func(*audit.APICall) bool {
	return compile(x, func(t Test) func(*audit.APICall) bool { return calls.compile(t, now) }, nil)
}

// compile compiles the connectives; test and nested do the leaves.
func compile[T any](x Expr, test func(Test) func(T) bool, nested func(Nested) func(T) bool) func(T) bool {
	all := func(xs []Expr) []func(T) bool {
		fs := make([]func(T) bool, len(xs))
		for i, x := range xs {
			fs[i] = compile(x, test, nested)
		}
		return fs
	}
	switch x := x.(type) {
	case nil:
		return func(T) bool { return true }
	case And:
		fs := all(x)
		return func(v T) bool {
			for _, f := range fs {
				if !f(v) {
					return false
				}
			}
			return true
		}
	case Or:
		fs := all(x)
		return func(v T) bool {
			for _, f := range fs {
				if f(v) {
					return true
				}
			}
			return false
		}
	case Not:
		f := compile(x.X, test, nested)
		return func(v T) bool { return !f(v) }
	case Nested:
		if nested != nil {
			return nested(x)
		}
	case Test:
		return test(x)
	}
	panic(fmt.Sprintf("qql: %T cannot stand here", x))
}

func compileChange(t Test) func(*change) bool {
	i := slices.IndexFunc(field.ChangeFields, func(f field.Field) bool { return f.Name == t.Field.Name })
	holds := compileText(t)
	return func(c *change) bool { return holds(c[i]) }
}

// compile compiles a test of a field.
func (k *getters[T]) compile(t Test, now time.Time) func(T) bool {
	if t.Field == nil {
		return k.compileAnyText(t)
	}
	switch t.Field.Type {
	case field.UUID:
		return compileID(t, k.ids[t.Field.Name])
	case field.Number:
		return compileNumber(t, k.numbers[t.Field.Name])
	case field.Address:
		return compileAddress(t, k.addresses[t.Field.Name])
	case field.Instant:
		return compileInstant(t, now, k.instants[t.Field.Name])
	case field.Keyword, field.Text, field.Opaque, field.JSON:
	}
	get, holds := k.texts[t.Field.Name], compileText(t)
	return func(r T) bool { return holds(get(r)) }
}

// compileAnyText is for bare words: each word in any text field.
func (k *getters[T]) compileAnyText(t Test) func(T) bool {
	get := make([]func(T) string, len(k.of.Texts))
	for i, f := range k.of.Texts {
		get[i] = k.texts[f.Name]
	}
	anywhere := func(r T, tokens []string, whole bool) bool {
		for _, g := range get {
			if hasSequence(g(r), tokens, whole) {
				return true
			}
		}
		return false
	}
	switch c := t.Cond.(type) {
	case Words:
		return func(r T) bool {
			for _, w := range c {
				if !anywhere(r, w, false) {
					return false
				}
			}
			return true
		}
	case Phrase:
		return func(r T) bool { return anywhere(r, c, true) }
	}
	panic(misfit(t))
}

// compileText decides about the value of a text.
func compileText(t Test) func(string) bool {
	switch c := t.Cond.(type) {
	case Words:
		return func(s string) bool {
			for _, w := range c {
				if !hasSequence(s, w, false) {
					return false
				}
			}
			return true
		}
	case Phrase:
		return func(s string) bool { return hasSequence(s, c, true) }
	case Equal:
		return func(s string) bool { return s == c.Text }
	case Like:
		return compileLike(c)
	case In:
		exact, folded := map[string]bool{}, map[string]bool{}
		for _, m := range c {
			if m.Exact {
				exact[m.Text] = true
			} else {
				folded[Fold(m.Text)] = true
			}
		}
		return func(s string) bool {
			if exact[s] {
				return true
			}
			var buf [stackText]byte
			return len(folded) > 0 && folded[string(appendFold(buf[:0], s))]
		}
	case Null:
		if t.Field.Type == field.JSON {
			return func(s string) bool { return slices.Contains(EmptyJSON, s) }
		}
		return func(s string) bool { return s == "" }
	}
	panic(misfit(t))
}

// EmptyJSON are the values of a JSON field that is null.
var EmptyJSON = []string{"", "null", "[]", "{}"}

// stackText is the length up to which a text is folded on the stack.
const stackText = 512

// hasSequence says whether s has the tokens in sequence; unless whole, the last
// may be the beginning of one.
func hasSequence(s string, tokens []string, whole bool) bool {
	var buf [stackText]byte
	b := appendFold(buf[:0], s)
	for {
		for len(b) > 0 && !inToken(b[0]) {
			b = b[1:]
		}
		if len(b) == 0 {
			return false
		}
		if startsSequence(b, tokens, whole) {
			return true
		}
		for len(b) > 0 && inToken(b[0]) {
			b = b[1:]
		}
	}
}

func startsSequence(b []byte, tokens []string, whole bool) bool {
	for i, t := range tokens {
		if len(b) < len(t) || string(b[:len(t)]) != t {
			return false
		}
		b = b[len(t):]
		if i == len(tokens)-1 && !whole {
			return true
		}
		if len(b) > 0 && inToken(b[0]) {
			return false
		}
		for len(b) > 0 && !inToken(b[0]) {
			b = b[1:]
		}
	}
	return true
}

func compileLike(c Like) func(string) bool {
	parts := make([][]byte, len(c))
	for i, p := range c {
		parts[i] = []byte(Fold(p))
	}
	first, middle, last := parts[0], parts[1:len(parts)-1], parts[len(parts)-1]
	return func(s string) bool {
		var buf [stackText]byte
		b, ok := bytes.CutPrefix(appendFold(buf[:0], s), first)
		if !ok {
			return false
		}
		for _, p := range middle {
			i := bytes.Index(b, p)
			if i < 0 {
				return false
			}
			b = b[i+len(p):]
		}
		return bytes.HasSuffix(b, last)
	}
}

func compileID[T any](t Test, get func(T) string) func(T) bool {
	switch c := t.Cond.(type) {
	case In:
		ids := map[uuid.UUID]bool{}
		for _, m := range c {
			ids[uuid.UUID(m.Value.(ID))] = true
		}
		return func(r T) bool { return ids[id(get(r))] }
	case Range:
		want := uuid.UUID(c.Low.Value.(ID))
		return func(r T) bool { return id(get(r)) == want }
	case Null:
		return func(r T) bool { return id(get(r)) == uuid.Nil }
	}
	panic(misfit(t))
}

func compileNumber[T any](t Test, get func(T) uint32) func(T) bool {
	switch c := t.Cond.(type) {
	case In:
		return func(r T) bool {
			n := Number(get(r))
			return slices.ContainsFunc(c, func(m Member) bool { return m.Value == n })
		}
	case Range:
		return func(r T) bool {
			n := Number(get(r))
			if b := c.Low; b != nil && (n < b.Value.(Number) || b.Open && n == b.Value) {
				return false
			}
			if b := c.High; b != nil && (n > b.Value.(Number) || b.Open && n == b.Value) {
				return false
			}
			return true
		}
	case Null:
		return func(r T) bool { return get(r) == 0 }
	}
	panic(misfit(t))
}

func compileInstant[T any](t Test, now time.Time, get func(T) int64) func(T) bool {
	switch c := t.Cond.(type) {
	case In:
		spans := make([][2]int64, len(c))
		for i, m := range c {
			spans[i][0], spans[i][1] = m.Value.(Date).Span(now)
		}
		return func(r T) bool {
			at := get(r)
			return slices.ContainsFunc(spans, func(s [2]int64) bool { return s[0] <= at && at <= s[1] })
		}
	case Range:
		low, high := c.Instants(now)
		return func(r T) bool {
			at := get(r)
			return low <= at && at <= high
		}
	case Null:
		return func(r T) bool { return get(r) == 0 }
	}
	panic(misfit(t))
}

func compileAddress[T any](t Test, get func(T) string) func(T) bool {
	switch c := t.Cond.(type) {
	case In:
		ranges := make([][2]netip.Addr, len(c))
		for i, m := range c {
			ranges[i][0], ranges[i][1], _ = Range{&Bound{Value: m.Value}, &Bound{Value: m.Value}}.Addresses()
		}
		return func(r T) bool {
			a := address(get(r))
			return slices.ContainsFunc(ranges, func(r [2]netip.Addr) bool { return within(a, r[0], r[1]) })
		}
	case Range:
		low, high, ok := c.Addresses()
		return func(r T) bool { return ok && within(address(get(r)), low, high) }
	case Null:
		return func(r T) bool { return !address(get(r)).IsValid() }
	}
	panic(misfit(t))
}

// within says whether a lies in a range of addresses of one family.
func within(a, low, high netip.Addr) bool {
	return a.IsValid() && a.BitLen() == low.BitLen() && a.Compare(low) >= 0 && a.Compare(high) <= 0
}

func misfit(t Test) string {
	if t.Field == nil {
		return fmt.Sprintf("qql: %T of all texts", t.Cond)
	}
	return fmt.Sprintf("qql: %T of %s", t.Cond, t.Field.Name)
}
