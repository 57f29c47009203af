package qql

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
)

func (x And) String() string {
	parts := make([]string, len(x))
	for i, part := range x {
		parts[i] = part.String()
		if _, ok := part.(Or); ok {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	return strings.Join(parts, " AND ")
}

func (x Or) String() string {
	parts := make([]string, len(x))
	for i, part := range x {
		parts[i] = part.String()
	}
	return strings.Join(parts, " OR ")
}

func (x Not) String() string {
	switch y := x.X.(type) {
	case And, Or:
		return "NOT (" + y.String() + ")"
	case Test:
		if _, ok := y.Cond.(Null); ok {
			return y.Field.Name + " is not null"
		}
	}
	return "NOT " + x.X.String()
}

func (x Nested) String() string {
	switch y := x.X.(type) {
	case Test:
		return x.Field.Name + "." + y.String()
	case Not:
		if t, ok := y.X.(Test); ok && t.Cond == (Null{}) {
			return x.Field.Name + "." + y.String()
		}
	}
	return x.Field.Name + ":(" + x.X.String() + ")"
}

func (x Test) String() string {
	var name string
	if x.Field != nil {
		name = x.Field.Name
	}
	colon := ""
	if name != "" {
		colon = name + ": "
	}
	switch cond := x.Cond.(type) {
	case Words:
		return colon + cond.text(x.Field == nil)
	case Phrase:
		return colon + quote(strings.Join(cond, " "), '"')
	case Equal:
		return colon + quote(cond.Text, '`')
	case Like:
		parts := make([]string, len(cond))
		for i, part := range cond {
			if parts[i] = part; part != "" && !bare(part, bareInPattern) {
				parts[i] = quote(part, '"')
			}
		}
		return colon + strings.Join(parts, "*")
	case In:
		parts := make([]string, len(cond))
		for i, m := range cond {
			parts[i] = m.text(x.Field.Type)
		}
		return colon + "[" + strings.Join(parts, ", ") + "]"
	case Range:
		return name + cond.text()
	default:
		return name + " is null"
	}
}

// What needs no quotes: as a part of a pattern, as a member of a list.
var (
	bareInPattern = regexp.MustCompile(`^[0-9\pL\pN_@./-]+$`)
	bareInList    = regexp.MustCompile(`^[0-9\pL\pN]+(?:[ _@.-][0-9\pL\pN]+)*$`)
)

// bare says whether a text of a form needs no quotes. Some letters look like
// characters of the language.
func bare(s string, form *regexp.Regexp) bool {
	return form.MatchString(s) && !strings.ContainsFunc(s, func(c rune) bool { return lookAlikes[c] != "" })
}

// text returns the words as they are written without quotes, bare or behind a
// field.
func (w Words) text(bare bool) string {
	words := make([]string, len(w))
	for i, tokens := range w {
		words[i] = strings.Join(tokens, ".")
		if hyphened := strings.Join(tokens, "-"); uuidForm.MatchString(hyphened) {
			words[i] = hyphened
		}
		// Words of the language are words of the text behind a backslash.
		switch strings.ToLower(words[i]) {
		case "and", "or", "not":
			words[i] = `\` + words[i]
		case "null":
			if i > 0 && strings.EqualFold(strings.TrimPrefix(words[i-1], `\`), "is") {
				words[i] = `\` + words[i]
			}
		default:
			if bare && i > 0 && beginsForeign(words[i]) && fieldOfAny(words[i-1]) {
				words[i] = `\` + words[i]
			}
		}
	}
	return strings.Join(words, " ")
}

// fieldOfAny says whether a word is the name of a field in some table: where it
// is in another, a backslash does no harm.
func fieldOfAny(word string) bool {
	for _, of := range []*field.Table{field.Events, field.Calls} {
		if f, _ := find(of, word); f != nil {
			return true
		}
	}
	return false
}

// text returns a member of a list of values of a type.
func (m Member) text(t field.Type) string {
	switch {
	case m.Value != nil:
		return valueText(m.Value)
	case m.Exact != (t == field.Opaque):
		return quote(m.Text, '`')
	case bare(m.Text, bareInList):
		return m.Text
	}
	return quote(m.Text, '"')
}

// text returns what follows the field's name.
func (r Range) text() string {
	switch {
	case r.High == nil && r.Low.Open:
		return " > " + valueText(r.Low.Value)
	case r.High == nil:
		return " >= " + valueText(r.Low.Value)
	case r.Low == nil && r.High.Open:
		return " < " + valueText(r.High.Value)
	case r.Low == nil:
		return " <= " + valueText(r.High.Value)
	}
	low, high := valueText(r.Low.Value), valueText(r.High.Value)
	if low == high && !r.Low.Open && !r.High.Open {
		return ": " + low
	}
	open, closing := "[", "]"
	if r.Low.Open {
		open = "("
	}
	if r.High.Open {
		closing = ")"
	}
	return ": " + open + low + " .. " + high + closing
}

// valueText returns a value as a query has it.
func valueText(v Value) string {
	switch v := v.(type) {
	case Number:
		return strconv.FormatUint(uint64(v), 10)
	case Date:
		return v.Text
	case Addr:
		return netip.Addr(v).String()
	case Network:
		return netip.Prefix(v).String()
	case ID:
		return uuid.UUID(v).String()
	}
	return ""
}

// quote puts a text into quotes.
func quote(s string, q rune) string {
	var b strings.Builder
	b.WriteRune(q)
	for _, c := range s {
		if c == q || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	b.WriteRune(q)
	return b.String()
}

// Mentions says whether x tests a field of a table, given by its name, in any
// case. Words and phrases without a field test all texts.
func Mentions(of *field.Table, x Expr, name string) bool {
	switch x := x.(type) {
	case And:
		return anyMentions(of, x, name)
	case Or:
		return anyMentions(of, x, name)
	case Not:
		return Mentions(of, x.X, name)
	case Nested:
		return strings.EqualFold(x.Field.Name, name)
	case Test:
		if x.Field != nil {
			return strings.EqualFold(x.Field.Name, name)
		}
		for _, f := range of.Texts {
			if strings.EqualFold(f.Name, name) {
				return true
			}
		}
	}
	return false
}

func anyMentions(of *field.Table, parts []Expr, name string) bool {
	for _, part := range parts {
		if Mentions(of, part, name) {
			return true
		}
	}
	return false
}
