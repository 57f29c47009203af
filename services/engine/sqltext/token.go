package sqltext

import "strings"

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted // `name` or "name"
	tokenString
	tokenNumber
	tokenPunct // one byte
)

// token is a piece of the query: text[start:end].
type token struct {
	kind       tokenKind
	start, end int
	text       string
}

func (t token) is(word string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, word)
}

func (t token) punct(c byte) bool { return t.kind == tokenPunct && t.text[0] == c }

// lexer cuts a query into tokens. It never fails: what it does not know is a
// one-byte token, and what does not end ends with the text.
type lexer struct {
	src string
	pos int
}

func (l *lexer) next() token {
	l.space()
	start := l.pos
	if start >= len(l.src) {
		return token{kind: tokenEnd, start: start, end: start}
	}
	kind := tokenPunct
	switch c := l.src[start]; {
	case c == '\'':
		kind = tokenString
		l.quoted(c)
	case c == '`' || c == '"':
		kind = tokenQuoted
		l.quoted(c)
	case c == '$' && l.heredoc():
		kind = tokenString
	case isWordStart(c):
		kind = tokenWord
		for l.pos < len(l.src) && isWord(l.src[l.pos]) {
			l.pos++
		}
	case c >= '0' && c <= '9':
		kind = tokenNumber
		for l.pos < len(l.src) && (isWord(l.src[l.pos]) || l.src[l.pos] == '.') {
			l.pos++
		}
	default:
		l.pos++
	}
	return token{kind: kind, start: start, end: l.pos, text: l.src[start:l.pos]}
}

// peek returns the next token without taking it.
func (l *lexer) peek() token {
	at := l.pos
	t := l.next()
	l.pos = at
	return t
}

func isWordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isWord(c byte) bool { return isWordStart(c) || c == '$' || c >= '0' && c <= '9' }

// space skips white space and comments.
func (l *lexer) space() {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch c := rest[0]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.until(rest, "\n")
		case strings.HasPrefix(rest, "/*"):
			l.until(rest[2:], "*/")
			l.pos = min(l.pos+2, len(l.src))
		default:
			return
		}
	}
}

// until moves past the first end in rest, or to the end of the text.
func (l *lexer) until(rest, end string) {
	if i := strings.Index(rest, end); i >= 0 {
		l.pos += i + len(end)
	} else {
		l.pos = len(l.src)
	}
}

// quoted moves past a quoted text. A doubled quote and a backslash escape.
func (l *lexer) quoted(quote byte) {
	for l.pos++; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case '\\':
			l.pos++
		case quote:
			if l.pos+1 < len(l.src) && l.src[l.pos+1] == quote {
				l.pos++
				continue
			}
			l.pos++
			return
		}
	}
	l.pos = len(l.src)
}

// heredoc moves past $tag$text$tag$, if that is what stands here.
func (l *lexer) heredoc() bool {
	rest := l.src[l.pos:]
	n := 1
	for n < len(rest) && isWord(rest[n]) && rest[n] != '$' {
		n++
	}
	if n >= len(rest) || rest[n] != '$' {
		return false
	}
	tag := rest[:n+1]
	end := strings.Index(rest[n+1:], tag)
	if end < 0 {
		return false
	}
	l.pos += n + 1 + end + len(tag)
	return true
}
