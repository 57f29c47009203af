package qql

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/auditrail/auditrail/services/internal/field"
)

// Error says what is wrong with a query, and where.
type Error struct {
	Line, Column int    // from 1, in characters
	Message      string // what is wrong, and what was expected there
	Example      string // a query, or a part of one, that would do; may be empty
}

func (e *Error) Error() string { return e.Message }

// maxDepth is how deep parentheses and NOTs may nest. Printing a tree never
// nests deeper than the query that it came from.
const maxDepth = 20

// Parse reads a query over the fields of a table, of at most MaxLength
// characters. Blank text is nil, which holds for every record. The error is an
// *Error.
func Parse(of *field.Table, text string) (Expr, error) {
	if n := utf8.RuneCountInString(text); n > MaxLength {
		p := &parser{text: []rune(text)}
		return nil, p.errorAt(MaxLength, fmt.Sprintf("the query has %d characters; at most %d are possible", n, MaxLength), "")
	}
	return Reparse(of, text)
}

// Reparse is Parse without the limit, for what String returned: that may be
// longer than what it was made from.
func Reparse(of *field.Table, text string) (Expr, error) {
	p := &parser{of: of, text: []rune(text)}
	if err := p.check(text); err != nil {
		return nil, err
	}
	p.space()
	if p.end() {
		return nil, nil
	}
	x, err := p.or(scope{fields: of.Fields})
	if err != nil {
		return nil, err
	}
	if !p.end() { // or stops at the end and at ) only
		return nil, p.errorAt(p.at, ") closes nothing: there is no ( before it", "")
	}
	return x, nil
}

// parser reads text from at on.
type parser struct {
	of    *field.Table
	text  []rune
	at    int
	depth int
}

// scope says what may stand in a place.
type scope struct {
	fields []field.Field // the fields that may be named
	nested *field.Field  // the list field whose parentheses we are in
	of     *target       // the field whose values we are in: userName:(...)
}

// or reads conditions up to the end or a ) that it leaves.
func (p *parser) or(s scope) (Expr, error) {
	var parts Or
	for {
		x, err := p.and(s)
		if err != nil {
			return nil, err
		}
		if or, ok := x.(Or); ok {
			parts = append(parts, or...)
		} else {
			parts = append(parts, x)
		}
		if p.keyword() != "or" {
			break
		}
		p.at += len("or")
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return parts, nil
}

func (p *parser) and(s scope) (Expr, error) {
	var parts And
	for {
		x, err := p.not(s)
		if err != nil {
			return nil, err
		}
		if and, ok := x.(And); ok {
			parts = append(parts, and...)
		} else {
			parts = append(parts, x)
		}
		p.space()
		word := p.keyword()
		if word == "and" {
			p.at += len("and")
			continue
		}
		if word != "or" && !p.end() && p.text[p.at] != ')' {
			return nil, p.unconnected()
		}
		break
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return parts, nil
}

// not reads one condition and the NOTs before it.
func (p *parser) not(s scope) (Expr, error) {
	p.space()
	switch word := p.keyword(); word {
	case "not":
		if err := p.enter(); err != nil {
			return nil, err
		}
		p.at += len("not")
		x, err := p.not(s)
		p.depth--
		if err != nil {
			return nil, err
		}
		return Not{x}, nil
	case "and", "or":
		return nil, p.missing(s)
	}
	if p.end() || p.text[p.at] == ')' {
		return nil, p.missing(s)
	}
	if s.of != nil {
		return p.value(*s.of)
	}
	if p.text[p.at] == '(' {
		return p.parentheses(s)
	}
	if h, ok := p.head(p.at); ok {
		return p.test(h, s)
	}
	return p.bare(s)
}

// parentheses reads ( conditions ).
func (p *parser) parentheses(s scope) (Expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	open := p.at
	p.at++
	x, err := p.or(s)
	p.depth--
	if err != nil {
		return nil, err
	}
	if p.end() {
		return nil, p.errorAt(open, "this ( is never closed: put ) where it ends", "")
	}
	p.at++
	return x, nil
}

// enter counts a level of nesting that begins here.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return p.errorAt(p.at, fmt.Sprintf("parentheses and NOT nest deeper than %d levels: write the query flatter", maxDepth), "")
	}
	return nil
}

// test reads what follows a field's name.
func (p *parser) test(h head, s scope) (Expr, error) {
	f, nest, err := p.resolve(h, s)
	if err != nil {
		return nil, err
	}
	t := target{field: f, name: f.Name, fields: s.fields, exact: h.op == "="}
	if nest != nil {
		t.name = nest.Name + "." + f.Name
	}
	p.at = h.end
	var x Expr
	switch h.op {
	case "is null":
		x = Test{f, Null{}}
	case "is not null":
		x = Not{Test{f, Null{}}}
	case "!=":
		write := p.instead(t, "NOT F: A", h.end)
		return nil, p.errorAt(h.opStart, "there is no !=: write "+write, write)
	case "==":
		write := p.instead(t, "F: A", h.end)
		return nil, p.errorAt(h.opStart, "there is no ==: write "+write+", or = to compare exactly", write)
	case ":", "=":
		p.space()
		if h.op == ":" && f == p.of.List && !p.end() && p.text[p.at] == '(' {
			x, err := p.parentheses(scope{fields: p.of.Entries, nested: f})
			if err != nil {
				return nil, err
			}
			return Nested{f, x}, nil
		}
		x, err = p.value(t)
	default:
		x, err = p.compare(t, h.op, h.opStart)
	}
	if err != nil {
		return nil, err
	}
	if nest != nil {
		x = Nested{nest, x}
	}
	return x, nil
}

// bare reads words or a phrase without a field.
func (p *parser) bare(s scope) (Expr, error) {
	start := p.at
	if s.nested != nil {
		return nil, p.errorAt(start, fmt.Sprintf("a value in %s:(...) needs one of %s before it", s.nested.Name, names(s.fields)),
			s.nested.Name+":(field: role)")
	}
	switch c := p.text[p.at]; c {
	case '"':
		end, text, _ := p.quoted(p.at)
		if end < len(p.text) && p.text[end] == '*' {
			break
		}
		p.at = end
		phrase := Phrase(Tokens(text))
		if len(phrase) == 0 {
			return nil, p.errorAt(start, "there is no letter or digit in the quotes, so there is nothing to search for", `"disk full"`)
		}
		return Test{nil, phrase}, nil
	case '`':
		return nil, p.errorAt(start, "`...` compares a field exactly: put a field and a colon before it, or use \"...\"", "userName: `John`")
	case '\'':
		return nil, p.errorAt(start, `single quotes are for dates; put a phrase in "..."`, "")
	case ':', '=', '<', '>':
		return nil, p.errorAt(start, "expected a field before "+string(c), "userName: jack")
	}
	raw, err := p.unquoted(target{fields: s.fields})
	if err != nil {
		return nil, err
	}
	if raw.stars > 0 {
		return nil, p.errorAt(raw.star, "* needs a field: words without one are searched by their beginnings anyway", "userName: jo*n")
	}
	words := wordsOf(raw.text)
	if len(words) == 0 {
		return nil, p.errorAt(start, "there is no letter or digit in "+clip(raw.text)+", so there is nothing to search for", "failed login")
	}
	return Test{nil, words}, nil
}

// missing is the error where a condition, or a value of s.of, should begin.
func (p *parser) missing(s scope) error {
	what, example := "a condition", "userName: jack"
	if s.of != nil {
		what, example = "a value of "+s.of.name, s.of.example()
	} else if s.nested != nil {
		example = "field: role"
	}
	return p.errorAt(p.at, "expected "+what+" "+p.here(), example)
}

// here names the place at which the parser stands.
func (p *parser) here() string {
	if p.end() {
		return "at the end"
	}
	if word := p.keyword(); word != "" {
		return "before " + strings.ToUpper(word) + `; to search for the word itself, write "` + word + `"`
	}
	return "before " + string(p.text[p.at])
}

// unconnected is the error where a condition follows another.
func (p *parser) unconnected() error {
	what := string(p.text[p.at])
	if what == `"` || what == "`" {
		return p.errorAt(p.at, "put AND or OR before the quotes", "")
	}
	if word := p.keyword(); word != "" {
		what = strings.ToUpper(word)
	} else if h, ok := p.head(p.at); ok {
		what = h.name
	} else if end := p.chunk(p.at); end > p.at {
		what = string(p.text[p.at:end])
	}
	return p.errorAt(p.at, "put AND or OR before "+clip(what)+", or the whole value in quotes", "")
}
