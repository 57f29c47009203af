// Package sqltext tells the kinds of ClickHouse statements apart and finds the
// few clauses that a server, not the engine, acts on: FORMAT, and where the data
// of an INSERT begins. It does not check syntax; the engine does.
package sqltext

import (
	"errors"
	"strings"
)

// Kind says how a statement is run.
type Kind uint8

const (
	// KindCommand has no rows to show: DDL, SET, INSERT with its data inside.
	KindCommand Kind = iota
	// KindSelect has rows, and the engine streams them.
	KindSelect
	// KindShow has rows that the engine returns at once: SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK.
	KindShow
	// KindInsert takes its data from the client.
	KindInsert
)

// ErrMultiple is the error of a text with several statements.
var ErrMultiple = errors.New("multi-statements are not allowed: send one statement at a time")

// ErrOutfile is the error of SELECT ... INTO OUTFILE, a feature of clients.
var ErrOutfile = errors.New("INTO OUTFILE is done by clients, not by the server")

// Statement is what is known of a statement.
type Statement struct {
	Kind Kind
	// Text is the statement less its FORMAT clause and semicolon; for an insert
	// that takes data, less VALUES too.
	Text string
	// Format is the name in the FORMAT clause, or empty. "Values" for VALUES.
	Format string
	// Target is an insert's table, or its function f(...), as DESCRIBE TABLE takes it.
	Target string
	// Columns is the text of an insert's column list, without parentheses; empty without one.
	Columns string
	// Data is where an insert's inline data begins in the query, or its length.
	Data int
	// Inline says of a KindCommand that Text may end with data, where a comment
	// would be data too.
	Inline bool
	// Set says that it is a SET statement.
	Set bool
	// Extra is the clause or setting that asks for rows beside the result, WITH
	// TOTALS or extremes, or empty.
	Extra string
}

// Parse looks at a query. The errors are ErrMultiple and ErrOutfile.
func Parse(query string) (Statement, error) {
	l := &lexer{src: query}
	first := l.next()
	for first.punct('(') {
		first = l.next()
	}
	l.pos = 0
	s, err := parse(l, first)
	s.Set = first.is("SET")
	return s, err
}

func parse(l *lexer, first token) (Statement, error) {
	switch {
	case first.is("INSERT"):
		return parseInsert(l)
	case first.is("SELECT"), first.is("FROM"):
		return parseQuery(l, KindSelect)
	case first.is("WITH"):
		return parseQuery(l, withKind(l.src))
	case first.is("SHOW"), first.is("DESCRIBE"), first.is("DESC"), first.is("EXPLAIN"), first.is("EXISTS"), first.is("CHECK"):
		return parseQuery(l, KindShow)
	}
	return parseQuery(l, KindCommand)
}

// withKind tells WITH ... SELECT from WITH ... INSERT.
func withKind(query string) Kind {
	l := &lexer{src: query}
	for depth := 0; ; {
		switch t := l.next(); {
		case t.kind == tokenEnd, depth == 0 && t.is("SELECT"):
			return KindSelect
		case depth == 0 && t.is("INSERT"):
			return KindCommand
		case t.punct('('):
			depth++
		case t.punct(')'):
			depth--
		}
	}
}

// parseQuery finds the FORMAT clause and the end of a statement without data.
func parseQuery(l *lexer, kind Kind) (Statement, error) {
	s := Statement{Kind: kind, Data: len(l.src)}
	var cut token // the FORMAT clause, when there is one
	end := -1
	depth := 0
	for {
		t := l.next()
		switch {
		case t.kind == tokenEnd:
			if end < 0 {
				end = t.start
			}
			s.Text = l.src[:end]
			if cut.kind != tokenEnd {
				s.Text = l.src[:cut.start] + l.src[cut.end:end]
			}
			return s, nil
		case t.punct(';'):
			if end < 0 {
				end = t.start
			}
		case end >= 0:
			return s, ErrMultiple
		case t.is("WITH") && l.peek().is("TOTALS"):
			s.Extra = "WITH TOTALS"
		case t.is("extremes") && l.turnedOn():
			s.Extra = "extremes"
		case t.punct('('):
			depth++
		case t.punct(')'):
			depth--
		case kind == KindCommand && t.is("FORMAT"):
			s.Inline = s.Inline || depth == 0 // INSERT ... SELECT FROM input(...) FORMAT ...
		case depth > 0 || kind == KindCommand:
		case kind == KindSelect && t.is("INTO") && l.peek().is("OUTFILE"):
			return s, ErrOutfile
		case t.is("FORMAT"):
			if name, ok := l.formatName(); ok {
				s.Format = name.text
				cut = token{kind: tokenPunct, start: t.start, end: name.end}
			}
		}
	}
}

// formatName takes the word after FORMAT, when it ends the statement or stands
// before SETTINGS: then it was the clause and not a name.
func (l *lexer) formatName() (token, bool) {
	at := l.pos
	name := l.next()
	if after := l.peek(); name.kind == tokenWord && (after.kind == tokenEnd || after.punct(';') || after.is("SETTINGS")) {
		return name, true
	}
	l.pos = at
	return token{}, false
}

// turnedOn says whether = and a value other than 0 follow a setting's name.
func (l *lexer) turnedOn() bool {
	at := l.pos
	defer func() { l.pos = at }()
	if !l.next().punct('=') {
		return false
	}
	switch v := l.next(); v.kind {
	case tokenNumber, tokenString:
		return strings.Trim(v.text, "'") != "0" && !strings.EqualFold(strings.Trim(v.text, "'"), "false")
	case tokenWord:
		return !v.is("false") && !v.is("DEFAULT")
	case tokenEnd, tokenQuoted, tokenPunct:
	}
	return false
}

// Quote makes a string literal of s.
func Quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// QuoteName makes an identifier of s.
func QuoteName(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}

// Unquote returns the name in an identifier, quoted or not.
func Unquote(s string) string {
	if len(s) < 2 || (s[0] != '`' && s[0] != '"') {
		return s
	}
	q := s[:1]
	return strings.NewReplacer(`\\`, `\`, `\`+q, q, q+q, q).Replace(s[1 : len(s)-1])
}
