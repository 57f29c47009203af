package sqltext

import "strings"

// parseInsert reads INSERT INTO [TABLE] [FUNCTION] target [(columns)] [clauses]
// up to what says where the data comes from.
func parseInsert(l *lexer) (Statement, error) {
	s := Statement{Kind: KindInsert, Data: len(l.src)}
	whole := func() (Statement, error) { // the data, or the SELECT, is inside
		l.pos = 0
		return parseQuery(l, KindCommand)
	}
	l.next() // INSERT
	if l.peek().is("INTO") {
		l.next()
	}
	if t := l.peek(); t.is("TABLE") {
		l.next()
	}
	target := l.peek().start
	if l.peek().is("FUNCTION") {
		l.next()
		target = l.next().start // DESCRIBE takes no FUNCTION
		l.group('(', ')')
	} else {
		l.tableName()
	}
	s.Target = strings.TrimSpace(l.src[target:l.pos])
	if l.peek().punct('(') {
		at := l.pos
		open := l.next()
		if inner := l.peek(); inner.is("SELECT") || inner.is("WITH") || inner.punct('(') {
			return whole()
		}
		l.pos = at
		l.group('(', ')')
		s.Columns = strings.TrimSpace(l.src[open.end:max(open.end, l.pos-1)])
	}
	for depth := 0; ; {
		t := l.next()
		switch {
		case t.kind == tokenEnd:
			s.Text = l.src
			return s, nil
		case t.punct(';'):
			s.Text = l.src[:t.start]
			return s, l.onlyEnd()
		case t.punct('('):
			depth++
		case t.punct(')'):
			depth--
		case depth > 0:
		case t.is("SELECT"), t.is("WITH"), t.is("FROM"), t.is("WATCH"), t.is("EXPLAIN"):
			return whole()
		case t.is("VALUES"):
			s.Text, s.Format, s.Data = l.src[:t.start], "Values", l.pos
			return s, nil
		case t.is("FORMAT"):
			name := l.next()
			s.Text, s.Format, s.Data = l.src[:t.start], name.text, name.end
			return s, nil
		}
	}
}

// tableName passes name, db.name, or {param:Identifier}.
func (l *lexer) tableName() {
	for {
		if l.peek().punct('{') {
			l.group('{', '}')
		} else {
			l.next()
		}
		if !l.peek().punct('.') {
			return
		}
		l.next()
	}
}

// group passes a parenthesized text.
func (l *lexer) group(open, end byte) {
	if !l.peek().punct(open) {
		return
	}
	for depth := 0; ; {
		switch t := l.next(); {
		case t.kind == tokenEnd:
			return
		case t.punct(open):
			depth++
		case t.punct(end):
			if depth--; depth == 0 {
				return
			}
		}
	}
}

// onlyEnd checks that nothing but semicolons follows.
func (l *lexer) onlyEnd() error {
	for {
		switch t := l.next(); {
		case t.kind == tokenEnd:
			return nil
		case !t.punct(';'):
			return ErrMultiple
		}
	}
}

// Selection is an insert's column list.
type Selection struct {
	// All is true for a list with *, and for no list.
	All bool
	// Names are the listed columns in their order, or with All those left out.
	Names []string
}

// ParseColumns reads a column list: names, *, * EXCEPT (names). ok is false for
// anything else.
func ParseColumns(list string) (sel Selection, ok bool) {
	l := &lexer{src: list}
	if l.peek().kind == tokenEnd {
		return Selection{All: true}, true
	}
	if l.peek().punct('*') {
		l.next()
		sel.All = true
		switch t := l.next(); {
		case t.kind == tokenEnd:
			return sel, true
		case !t.is("EXCEPT"):
			return sel, false
		}
		if t := l.peek(); t.punct('(') {
			l.next()
		}
	}
	for {
		name, ok := l.columnName()
		if !ok {
			return sel, false
		}
		sel.Names = append(sel.Names, name)
		switch t := l.next(); {
		case t.kind == tokenEnd:
			return sel, true
		case t.punct(')') && sel.All:
			return sel, l.next().kind == tokenEnd
		case !t.punct(','):
			return sel, false
		}
	}
}

// columnName reads a, `a`, or n.a of a Nested column.
func (l *lexer) columnName() (string, bool) {
	var parts []string
	for {
		t := l.next()
		if t.kind != tokenWord && t.kind != tokenQuoted {
			return "", false
		}
		parts = append(parts, Unquote(t.text))
		if !l.peek().punct('.') {
			return strings.Join(parts, "."), true
		}
		l.next()
	}
}
