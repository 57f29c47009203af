package qql

import (
	"fmt"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
)

// target is the field that a value is compared with.
type target struct {
	field  *field.Field  // nil for bare words
	name   string        // of the field, for messages
	fields []field.Field // the fields that may be named around
	exact  bool          // the operator is =
	group  bool          // we are in field:(...)
}

// value reads one value, or a group of them in parentheses.
func (p *parser) value(t target) (Expr, error) {
	p.space()
	if p.keyword() == "not" {
		return nil, p.errorAt(p.at, "NOT stands before the field: put it before "+t.name, "NOT "+t.example())
	}
	if p.end() || p.text[p.at] == ')' || p.keyword() != "" {
		return nil, p.missing(scope{of: &t})
	}
	for _, op := range []string{"is null", "is not null"} {
		if p.wordsAt(op) {
			return nil, p.errorAt(p.at, "write "+t.name+" "+op+", without an operator before it", t.name+" "+op)
		}
	}
	start := p.at
	switch c := p.text[p.at]; c {
	case '>', '<':
		if t.exact {
			return nil, p.missing(scope{of: &t})
		}
		op := string(c)
		if p.at++; !p.end() && p.text[p.at] == '=' {
			op += "="
			p.at++
		}
		return p.compare(t, op, start)
	case ':', '=', '!':
		if t.field.Type != field.Address || p.chunk(start) < start+2 || p.text[start+1] != ':' { // ::1
			return nil, p.missing(scope{of: &t})
		}
	case '(':
		if p.dotsAhead() {
			return p.brackets(t)
		}
		t.group = true
		return p.parentheses(scope{fields: t.fields, of: &t})
	case '[':
		return p.brackets(t)
	case '"', '`', '\'':
		text, ok, err := p.literal(t)
		if err != nil {
			return nil, err
		}
		if ok {
			cond, err := t.quoted(c, text)
			if err != nil {
				return nil, p.errorAt(start, err.Error(), t.example())
			}
			return Test{t.field, cond}, nil
		}
	}
	raw, err := p.unquoted(t)
	if err != nil {
		return nil, err
	}
	if raw.stars > 0 && strings.Join(raw.parts, "") == "" && !t.exact {
		return Not{Test{t.field, Null{}}}, nil
	}
	cond, err := t.unquoted(raw)
	if err != nil {
		return nil, p.errorAt(start, err.Error(), t.example())
	}
	return Test{t.field, cond}, nil
}

// compare reads what follows >, <, >= or <=.
func (p *parser) compare(t target, op string, opStart int) (Expr, error) {
	if !ranges(t.field.Type) {
		return nil, p.errorAt(opStart, fmt.Sprintf("%s is %s and has no %s; it has %s", t.name, kind(t.field.Type), op,
			list(Operators(t.field.Type))), t.example())
	}
	p.space()
	if p.end() || strings.ContainsRune("()[]<>=", p.text[p.at]) || p.keyword() != "" {
		return nil, p.missing(scope{of: &t})
	}
	start := p.at
	text, ok, err := p.literal(t)
	if err != nil {
		return nil, err
	}
	if !ok {
		raw, err := p.unquoted(t)
		if err != nil {
			return nil, err
		}
		text = raw.text
	}
	v, err := parseBound(t.field, text)
	if err != nil {
		return nil, p.errorAt(start, err.Error(), t.example())
	}
	b := &Bound{Value: v, Open: len(op) == 1}
	if op[0] == '>' {
		return Test{t.field, Range{Low: b}}, nil
	}
	return Test{t.field, Range{High: b}}, nil
}

// literal reads a value in quotes; false: there is none, or it is a part of a
// pattern.
func (p *parser) literal(t target) (text string, ok bool, err error) {
	c := p.text[p.at]
	if c != '"' && c != '`' && c != '\'' {
		return "", false, nil
	}
	if c == '\'' && !typed(t.field.Type) {
		return "", false, p.errorAt(p.at, "single quotes are for dates; put the value in \"...\", or in `...` to compare it exactly", t.name+`: "these words"`)
	}
	end, text, ok := p.quoted(p.at)
	if !ok { // "..." and `...` were checked
		return "", false, p.errorAt(p.at, "this ' is never closed: put another one where the value ends", "")
	}
	if c == '"' && end < len(p.text) && p.text[end] == '*' {
		return "", false, nil
	}
	p.at = end
	return text, true, nil
}

// quoted makes the condition of a value in quotes.
func (t target) quoted(quote rune, text string) (Cond, error) {
	switch {
	case typed(t.field.Type):
		return t.single(text)
	case text == "":
		return nil, t.empty()
	case quote == '`' || t.exact || t.field.Type == field.Opaque:
		return Equal{text}, nil
	}
	phrase := Phrase(Tokens(text))
	if len(phrase) == 0 {
		return nil, t.noWords(text)
	}
	return phrase, nil
}

// unquoted makes the condition of a value without quotes.
func (t target) unquoted(raw raw) (Cond, error) {
	switch {
	case typed(t.field.Type):
		return t.single(raw.text)
	case raw.stars > 0 && t.exact:
		return nil, fmt.Errorf("= compares exactly, and * is a wildcard: write : before a pattern, or \"...\" around the value")
	case raw.stars > 0 && t.field.Type == field.Opaque:
		return nil, fmt.Errorf("%s is compared whole and takes no *: write the whole value, or put a value that has a * in quotes", t.name)
	case raw.stars > 0:
		return Like(raw.parts), nil
	case t.exact || t.field.Type == field.Opaque:
		return Equal{raw.text}, nil
	}
	words := wordsOf(raw.text)
	if len(words) == 0 {
		return nil, t.noWords(raw.text)
	}
	return words, nil
}

// single makes the condition of one value of a typed field.
func (t target) single(text string) (Cond, error) {
	if t.field.Type == field.Address {
		if from, to, ok := strings.Cut(text, "-"); ok {
			return between(t.field, strings.TrimSpace(from), strings.TrimSpace(to))
		}
	}
	v, err := parseValue(t.field, text)
	if err != nil {
		return nil, err
	}
	return Range{&Bound{Value: v}, &Bound{Value: v}}, nil
}

func (t target) empty() error {
	return fmt.Errorf("the value is empty: for what has none write %s is null", t.name)
}

func (t target) noWords(text string) error {
	return fmt.Errorf("there is no letter or digit in %s, so there is no word to search for: put it in backticks to compare exactly", clip(text))
}

// example is a condition on the field that would do.
func (t target) example() string {
	value, _ := samples(t.field)
	return t.name + ": " + value
}

func (t target) listExample() string {
	one, other := samples(t.field)
	return t.name + ": [" + one + ", " + other + "]"
}
