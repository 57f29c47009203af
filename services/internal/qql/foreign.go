package qql

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
)

// foreign are words that stand between a field and a value in other languages
// and in filters, and what is written here: F is the field, A and B are values.
var foreign = []struct{ words, instead string }{
	{"is not", "NOT F: A"},
	{"is", "F: A"},
	{"equals", "F: A"},
	{"contains", "F: *A*"},
	{"like", "F: A"},
	{"starts with", "F: A*"},
	{"in", "F: [A, B]"},
	{"between", "F: [A .. B]"},
	{"before", "F < A"},
	{"after", "F > A"},
}

// beginsForeign says whether a word is the first of those.
func beginsForeign(word string) bool {
	for _, o := range foreign {
		if first, _, _ := strings.Cut(o.words, " "); strings.EqualFold(first, word) {
			return true
		}
	}
	return false
}

// foreignAt refuses a field's name at i with such words behind it, where words
// without a field stand: nobody who writes status is success looks for the word
// status.
func (p *parser) foreignAt(i int) error {
	end := p.chunk(i)
	f, nested := find(p.of, string(p.text[i:end]))
	at := p.spaceFrom(end)
	if f == nil || at == end {
		return nil
	}
	t := target{field: f, name: f.Name}
	if nested != nil {
		t.name = nested.Name + "." + f.Name
	}
	for _, o := range foreign {
		behind, ok := p.wordsFrom(at, o.words)
		if !ok || f.Type != field.Instant && (o.words == "before" || o.words == "after") {
			continue
		}
		write := p.instead(t, o.instead, behind)
		return p.errorAt(at, fmt.Sprintf("there is no %q between a field and a value: write %s; to search for the words themselves, put them in quotes", o.words, write), write)
	}
	return nil
}

// instead fills in what is written here, with the values that stand at i where
// that makes a query.
func (p *parser) instead(t target, form string, i int) string {
	one, other := samples(t.field)
	a, b := p.plainValues(i)
	for _, v := range []struct{ form, a, b string }{
		{strings.Replace(form, "[A, B]", "[A]", 1), a, b}, // a is all of a list
		{form, one, other},
	} {
		if strings.Contains(form, "*") && strings.Contains(v.a, " ") && !strings.HasPrefix(v.a, `"`) {
			v.a = `"` + v.a + `"`
		}
		write := strings.NewReplacer("F", t.name, "A", v.a, "B", v.b).Replace(v.form)
		if x, err := Reparse(p.of, write); err == nil && x != nil && len(write) <= 100 {
			return write
		}
	}
	return t.example()
}

// plainValues reads what stands at i as other languages have it: a list, a
// value, or two with AND between them.
func (p *parser) plainValues(i int) (a, b string) {
	i = p.spaceFrom(i)
	if i < len(p.text) && strings.ContainsRune("([", p.text[i]) {
		inside := string(p.text[i+1:])
		if end := strings.IndexAny(inside, ")]"); end >= 0 {
			inside = inside[:end]
		}
		return strings.ReplaceAll(strings.Join(strings.Fields(inside), " "), "'", `"`), ""
	}
	a, i = p.plainValue(i)
	if p.wordAt(i, "and") {
		b, _ = p.plainValue(i + len("and"))
	}
	return a, b
}

// plainValue reads a value at i as other languages have it: quotes, or words up
// to AND, OR, NOT, a parenthesis or the end. % is their *.
func (p *parser) plainValue(i int) (value string, end int) {
	i = p.spaceFrom(i)
	if i < len(p.text) && (p.text[i] == '"' || p.text[i] == '`') {
		end, _, _ = p.quoted(i)
		return string(p.text[i:end]), p.spaceFrom(end)
	}
	var words []string
	for i < len(p.text) && p.keywordAt(i) == "" && !strings.ContainsRune("()\"`", p.text[i]) {
		end := p.chunk(i)
		words = append(words, string(p.text[i:end]))
		i = p.spaceFrom(end)
	}
	return strings.ReplaceAll(strings.Trim(strings.Join(words, " "), "'"), "%", "*"), i
}

// rangeWithTo is the inside of a range as other languages have it.
var rangeWithTo = regexp.MustCompile(`(?i)^(.+) to (.+)$`)

// withDots returns such a range as it is written here.
func (p *parser) withDots(t target, inside string) (write string, ok bool) {
	ends := rangeWithTo.FindStringSubmatch(inside)
	if ends == nil || !ranges(t.field.Type) {
		return "", false
	}
	low, high := ends[1], ends[2]
	switch write = t.name + ": [" + low + " .. " + high + "]"; {
	case low == "*":
		write = t.name + " <= " + high
	case high == "*":
		write = t.name + " >= " + low
	}
	if _, err := Reparse(p.of, write); err != nil {
		one, other := samples(t.field)
		write = t.name + ": [" + one + " .. " + other + "]"
	}
	return write, true
}
