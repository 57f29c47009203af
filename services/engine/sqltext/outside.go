package sqltext

import "strings"

// OutsideCall finds what reaches files or other servers although the engine runs
// with readonly=1, which refuses table functions but not these: the functions
// that read a file, and a DESCRIBE that looks into a table function's source. It
// returns the words at fault, or nothing. A quoted name that is called is at fault
// too: its escapes could spell anything.
func OutsideCall(query string) string {
	l := &lexer{src: query}
	describe := false
	for first := true; ; {
		t := l.next()
		switch {
		case t.kind == tokenEnd:
			return ""
		case first && !t.punct('('):
			first = false
			describe = t.is("DESCRIBE") || t.is("DESC")
		case t.punct('(') && describe:
			return "DESCRIBE of a function or a subquery"
		case !l.peek().punct('('):
		case t.kind == tokenQuoted:
			return t.text
		case t.kind == tokenWord && outside[strings.ToLower(t.text)]:
			return t.text
		}
	}
}

var outside = map[string]bool{"file": true, "catboostevaluate": true}
