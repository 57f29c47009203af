package qql

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
)

// dotsAhead says whether the ( here begins a range rather than a group.
func (p *parser) dotsAhead() bool {
	for i := p.at + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case strings.ContainsRune("()[]", c):
			return false
		case c == '"' || c == '`':
			end, _, _ := p.quoted(i)
			i = end - 1
		case p.dotsAt(i):
			return true
		}
	}
	return false
}

// dotsAt says whether the two dots of a range stand at i.
func (p *parser) dotsAt(i int) bool {
	return i+1 < len(p.text) && p.text[i] == '.' && p.text[i+1] == '.'
}

// item is a member of a list or an end of a range.
type item struct {
	text  string
	quote rune // 0: none
	start int
}

// brackets reads a list or a range.
func (p *parser) brackets(t target) (Expr, error) {
	open := p.at
	p.at++
	var items []item
	for dots := false; ; {
		it, err := p.item(t, open)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
		c := p.text[p.at] // item has looked
		switch {
		case c == '.':
			if dots || len(items) > 1 {
				return nil, p.errorAt(p.at, "expected ] here: a range has two ends, a list has no dots", t.listExample())
			}
			dots = true
			for n := 0; n < 3 && p.text[p.at] == '.'; n++ {
				p.at++
				if p.end() {
					return nil, p.unclosed(open)
				}
			}
			continue
		case c == ',' && !dots && p.text[open] == '[':
			p.at++
			continue
		case c == ',':
			return nil, p.errorAt(p.at, "expected ] or ) here: a range has two ends, a list stands in [ ] and has no dots", "")
		}
		p.at++
		if dots {
			return p.ends(t, items, p.text[open] == '(', c == ')')
		}
		if c == ')' {
			return nil, p.errorAt(p.at-1, "expected ] here: a list stands in [ ]", t.listExample())
		}
		return p.members(t, items)
	}
}

func (p *parser) unclosed(open int) error {
	instead := "]"
	if p.text[open] == '(' {
		instead = ")"
	}
	return p.errorAt(open, fmt.Sprintf("this %c is never closed: put %s where it ends", p.text[open], instead), "")
}

// item reads up to the character that ends a member: , ] ) or the first dot of
// a range. Within a list of texts, ) and dots are text.
func (p *parser) item(t target, open int) (item, error) {
	p.space()
	it := item{start: p.at}
	if p.end() {
		return it, p.unclosed(open)
	}
	texts := !typed(t.field.Type)
	switch c := p.text[p.at]; c {
	case '"', '`', '\'':
		start := p.at
		text, ok, err := p.literal(t)
		if err != nil {
			return it, err
		}
		if !ok {
			return it, p.errorAt(start, "a list has no patterns: write alternatives with OR", t.name+":(a* OR b)")
		}
		it.text, it.quote = text, c
		p.space()
		if p.end() {
			return it, p.unclosed(open)
		}
		if c := p.text[p.at]; c != ',' && c != ']' && (texts || c != ')') && !p.dotsAt(p.at) {
			return it, p.errorAt(p.at, "expected , or ] behind the quotes", "")
		}
	default:
		var b strings.Builder
		for ; ; p.at++ {
			if p.end() {
				return it, p.unclosed(open)
			}
			c := p.text[p.at]
			if c == ',' || c == ']' || !texts && c == ')' || p.dotsAt(p.at) {
				break
			}
			switch {
			case c == '"' || c == '`':
				return it, p.errorAt(p.at, "expected , or ] before the quotes", "")
			case c == '*' && texts:
				return it, p.errorAt(p.at, "a list has no patterns: write alternatives with OR, or the value in quotes", t.name+":(a* OR b)")
			case c == '\\' && p.at+1 < len(p.text) && p.text[p.at+1] == '*':
				p.at++
				c = '*'
			}
			b.WriteRune(c)
		}
		it.text = strings.Join(strings.Fields(b.String()), " ")
		if it.text == "" {
			message := "expected a value here"
			if ranges(t.field.Type) {
				message += "; for a range without an end write >= or <="
			}
			return it, p.errorAt(p.at, message, t.example())
		}
	}
	if p.dotsAt(p.at) && !ranges(t.field.Type) {
		return it, p.errorAt(p.at, fmt.Sprintf("%s is %s and has no ranges; a value that has dots belongs in quotes", t.name, kind(t.field.Type)), t.listExample())
	}
	return it, nil
}

// members makes the condition of a list.
func (p *parser) members(t target, items []item) (Expr, error) {
	in := make(In, len(items))
	for i, it := range items {
		m, err := member(t.field, it.text, it.quote == '`' || t.exact)
		if err != nil {
			if write, ok := p.withDots(t, it.text); ok {
				return nil, p.errorAt(it.start, "a range has two dots, not TO: write "+write, write)
			}
			return nil, p.errorAt(it.start, err.Error(), t.example())
		}
		in[i] = m
	}
	return Test{t.field, in}, nil
}

// member makes a member of a list.
func member(f *field.Field, text string, exact bool) (Member, error) {
	if !typed(f.Type) {
		if text == "" {
			return Member{}, fmt.Errorf("the value is empty: for what has none write %s is null", f.Name)
		}
		return Member{Text: text, Exact: exact || f.Type == field.Opaque}, nil
	}
	v, err := parseValue(f, text)
	return Member{Value: v}, err
}

// ends makes the condition of a range.
func (p *parser) ends(t target, items []item, lowOpen, highOpen bool) (Expr, error) {
	var r Range
	for i, it := range items {
		v, err := parseBound(t.field, it.text)
		if err != nil {
			return nil, p.errorAt(it.start, err.Error(), t.example())
		}
		if i == 0 {
			r.Low = &Bound{v, lowOpen}
		} else {
			r.High = &Bound{v, highOpen}
		}
	}
	if err := inOrder(r); err != nil {
		return nil, p.errorAt(items[0].start, err.Error(), "")
	}
	return Test{t.field, r}, nil
}

// between makes an inclusive range.
func between(f *field.Field, from, to string) (Cond, error) {
	low, err := parseBound(f, from)
	if err != nil {
		return nil, err
	}
	high, err := parseBound(f, to)
	if err != nil {
		return nil, err
	}
	r := Range{&Bound{Value: low}, &Bound{Value: high}}
	return r, inOrder(r)
}

var (
	errOrder  = errors.New("the range ends before it begins: swap its ends")
	errEmpty  = errors.New("nothing lies in this range: an end in ( ) is outside of it")
	errFamily = errors.New("one end is an IPv4 address and the other an IPv6 address: write both of one kind")
)

// inOrder refuses a range with two ends in which nothing can lie. The ends of
// relative dates are not known yet.
func inOrder(r Range) error {
	order := 0
	switch low := r.Low.Value.(type) {
	case Number:
		order = cmp.Compare(low, r.High.Value.(Number))
	case Addr:
		a, b := netip.Addr(low), netip.Addr(r.High.Value.(Addr))
		if a.Is4() != b.Is4() {
			return errFamily
		}
		order = a.Compare(b)
	case Date:
		high := r.High.Value.(Date)
		if low.Now || high.Now {
			return nil
		}
		if low.From > high.To {
			return errOrder
		}
		from, to := low.From, high.To
		if r.Low.Open {
			from = low.To + 1
		}
		if r.High.Open {
			to = high.From - 1
		}
		if from > to {
			return errEmpty
		}
		return nil
	}
	switch {
	case order > 0:
		return errOrder
	case order == 0 && (r.Low.Open || r.High.Open):
		return errEmpty
	}
	return nil
}
