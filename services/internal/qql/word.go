package qql

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/auditrail/auditrail/services/internal/field"
)

// raw is a value without quotes, as it was written but for white space, of
// which every run is one space.
type raw struct {
	text  string   // stars are in it
	parts []string // the text between the stars; no empty ones but the outer
	stars int
	star  int // where the first stands
}

// unquoted reads a value without quotes: up to AND, OR, NOT, a parenthesis or
// the end. In a pattern, what stands next to a star may be quoted: *"a b"*.
func (p *parser) unquoted(t target) (raw, error) {
	var r raw
	var text, part strings.Builder
	first := p.at
	for i := p.at; ; {
		before := i
		i = p.spaceFrom(i)
		if i == len(p.text) || p.text[i] == ')' || p.keywordAt(i) != "" {
			p.at = i
			break
		}
		if p.text[i] == '(' {
			return raw{}, p.errorAt(i, "put AND or OR before (, or the whole value in quotes", "")
		}
		if p.text[i] == '[' && t.field == nil {
			return raw{}, p.errorAt(i, "a list or range needs a field and a colon before it", "userName: [jack, jill]")
		}
		if h, ok := p.head(i); ok && (i > first || t.field == nil || !typed(t.field.Type)) {
			return raw{}, p.followed(t, first, h)
		}
		if t.field == nil {
			if err := p.foreignAt(i); err != nil {
				return raw{}, err
			}
		}
		if before > first && i > before {
			text.WriteByte(' ')
			part.WriteByte(' ')
		}
		for ; i < len(p.text) && !unicode.IsSpace(p.text[i]) && p.text[i] != '(' && p.text[i] != ')'; i++ {
			c := p.text[i]
			switch {
			case c == '"':
				end, literal, _ := p.quoted(i)
				if (end == len(p.text) || p.text[end] != '*') && (i == first || p.text[i-1] != '*') {
					return raw{}, p.errorAt(i, "put AND or OR before the quotes, or the whole value in one pair of them", "")
				}
				text.WriteString(literal)
				part.WriteString(literal)
				i = end - 1
				continue
			case c == '`':
				return raw{}, p.errorAt(i, "put AND or OR before the quotes, or the whole value in one pair of them", "")
			case c == ',' && t.field != nil && (t.group || typed(t.field.Type)):
				return raw{}, p.errorAt(i, "a list stands in [ ], alternatives in ( ) with OR between them", t.listExample())
			case c == ':':
				if name := p.nameBefore(i, before); name != "" {
					if p.known(t, name) != nil {
						return raw{}, p.errorAt(i-len(name), fmt.Sprintf("before %s: there must be AND, OR or NOT and a space; if it belongs to the text, put the text in quotes", name), "")
					}
				}
			case c == '\\' && i+1 < len(p.text) && p.text[i+1] == '*':
				i++
				c = '*'
			case c == '*':
				if r.stars == 0 {
					r.star = i
				}
				if r.stars == 0 || part.Len() > 0 {
					r.parts = append(r.parts, part.String())
					part.Reset()
				}
				r.stars++
				text.WriteByte('*')
				continue
			}
			text.WriteRune(c)
			part.WriteRune(c)
		}
	}
	r.text = text.String()
	if r.stars > 0 {
		r.parts = append(r.parts, part.String())
	}
	return r, nil
}

// known is the field of a name that may stand around a value; nil: there is none.
func (p *parser) known(t target, name string) *field.Field {
	if f, _ := find(p.of, name); f != nil {
		return f
	}
	return field.Find(t.fields, name)
}

// nameBefore returns the name that ends at i, as far back as from.
func (p *parser) nameBefore(i, from int) string {
	start := i
	for start > from && strings.ContainsRune(nameChars, p.text[start-1]) {
		start--
	}
	return string(p.text[start:i])
}

// nameChars are the characters of fields' names.
const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ."

// followed is the error where another test begins within a value.
func (p *parser) followed(t target, first int, h head) error {
	f := p.known(t, h.name)
	switch {
	case f != nil && t.group:
		return p.errorAt(h.start, fmt.Sprintf("in %s:(...) only its values may stand: put ) before %s", t.name, h.name), "")
	case f != nil && h.start == first:
		return p.errorAt(h.start, fmt.Sprintf("expected a value of %s before %s", t.name, h.name), t.example())
	case f != nil:
		return p.errorAt(h.start, "put AND or OR before "+h.name, "")
	}
	// user name: jack
	if words := strings.Fields(string(p.text[first:h.start])); len(words) > 0 {
		name := words[len(words)-1] + " " + h.name
		if f := named(t.fields, name); f != nil {
			at := h.start
			for ; unicode.IsSpace(p.text[at-1]); at-- {
			}
			for ; at > first && !unicode.IsSpace(p.text[at-1]); at-- {
			}
			return p.errorAt(at, fmt.Sprintf("%s is not a field; did you mean %s?", clip(name), f.Name), target{field: f, name: f.Name}.example())
		}
	}
	message := clip(h.name) + " is not a field."
	if f := meant(t.fields, h.name); f != nil {
		message += " Did you mean " + f.Name + "?"
	}
	return p.errorAt(h.start, message+" If it belongs to the text, put the text in quotes", "")
}

// wordForm is what stays one word when unquoted text is split. Letters and
// digits joined by . _ or ' do; a dash joins only in a host name or a UUID.
var (
	letter   = `[0-9A-Za-z\x{80}-\x{10FFFF}]`
	wordForm = regexp.MustCompile(letter + `+(?:(?:-+|[._'])` + letter + `+)*`)
	uuidForm = regexp.MustCompile(`^(?i)[0-9a-z]{8}(?:-[0-9a-z]{4}){3}-[0-9a-z]{12}$`)
)

// wordsOf splits unquoted text.
func wordsOf(text string) Words {
	var words Words
	for _, chunk := range strings.Fields(text) {
		for _, form := range wordForm.FindAllString(chunk, -1) {
			parts := []string{form}
			if !strings.Contains(form, ".") && !uuidForm.MatchString(form) {
				parts = strings.FieldsFunc(form, func(c rune) bool { return c == '-' })
			}
			for _, part := range parts {
				words = append(words, Tokens(part))
			}
		}
	}
	return words
}
