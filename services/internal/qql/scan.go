package qql

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// check refuses what no part of a query may have: text that is not UTF-8,
// quotes that never end and, outside quotes, characters that only look like
// those of the language.
func (p *parser) check(text string) error {
	if !utf8.ValidString(text) {
		for i, r := range p.text {
			if r == utf8.RuneError {
				return p.errorAt(i, "the query is not valid UTF-8", "")
			}
		}
	}
	for i := 0; i < len(p.text); i++ {
		c := p.text[i]
		if c == '"' || c == '`' {
			end, _, ok := p.quoted(i)
			if !ok {
				return p.errorAt(i, fmt.Sprintf("this %c is never closed: put another one where the value ends", c), "")
			}
			i = end - 1
			continue
		}
		if instead, ok := lookAlikes[c]; ok {
			return p.errorAt(i, fmt.Sprintf("%c (%U) only looks like %s: type %s, or put the value in quotes", c, c, instead, instead), "")
		}
		if c == '\u200b' || c == '\u2060' || c == '\ufeff' {
			return p.errorAt(i, fmt.Sprintf("there is an invisible character here (%U): delete it, or put the value in quotes", c), "")
		}
	}
	return nil
}

// lookAlikes are characters that word processors and keyboards write for those
// of the language, which stand behind them.
var lookAlikes = func() map[rune]string {
	m := map[rune]string{}
	for instead, chars := range map[string]string{
		`"`:   "“”„‟«»″＂",
		"'":   "‘’‚‛′＇´",
		"`":   "｀ˋ",
		":":   "：︰∶",
		"(":   "（❨⁽",
		")":   "）❩⁾",
		"[":   "［【",
		"]":   "］】",
		"-":   "‐‑‒–—―−－﹣",
		",":   "，、",
		"=":   "＝",
		">":   "＞",
		"<":   "＜",
		">=":  "≥",
		"<=":  "≤",
		"*":   "＊∗",
		"..":  "‥",
		"...": "…",
	} {
		for _, c := range chars {
			m[c] = instead
		}
	}
	return m
}()

// quoted reads the quoted text that begins at i. It returns where it ends, and
// false when it does not. A backslash stands before a quote, a backslash or a
// star that belongs to the text; before anything else it is itself.
func (p *parser) quoted(i int) (end int, text string, ok bool) {
	var b strings.Builder
	for j := i + 1; j < len(p.text); j++ {
		c := p.text[j]
		if c == p.text[i] {
			return j + 1, b.String(), true
		}
		if c == '\\' && j+1 < len(p.text) && strings.ContainsRune("\\\"'`*", p.text[j+1]) {
			j++
			c = p.text[j]
		}
		b.WriteRune(c)
	}
	return len(p.text), "", false
}

func (p *parser) end() bool { return p.at >= len(p.text) }

// space passes over white space.
func (p *parser) space() { p.at = p.spaceFrom(p.at) }

func (p *parser) spaceFrom(i int) int {
	for i < len(p.text) && unicode.IsSpace(p.text[i]) {
		i++
	}
	return i
}

// keyword returns the keyword that stands here, in lower case, or "".
func (p *parser) keyword() string { return p.keywordAt(p.at) }

func (p *parser) keywordAt(i int) string {
	for _, word := range []string{"and", "or", "not"} {
		if p.wordAt(i, word) {
			return word
		}
	}
	return ""
}

// wordAt says whether a word stands at i, in any case and alone.
func (p *parser) wordAt(i int, word string) bool {
	end := i + len(word)
	if end > len(p.text) || !strings.EqualFold(string(p.text[i:end]), word) {
		return false
	}
	return end == len(p.text) || unicode.IsSpace(p.text[end]) || strings.ContainsRune("()\"`", p.text[end])
}

// wordsAt says whether words stand here, in any case, with any white space
// between them.
func (p *parser) wordsAt(words string) bool {
	_, ok := p.wordsFrom(p.at, words)
	return ok
}

// wordsFrom is wordsAt for i. It returns where the words end.
func (p *parser) wordsFrom(i int, words string) (end int, ok bool) {
	for word := range strings.FieldsSeq(words) {
		i = p.spaceFrom(i)
		if !p.wordAt(i, word) {
			return i, false
		}
		i += len(word)
	}
	return i, true
}

// head is the beginning of a test: a name and an operator.
type head struct {
	name    string
	op      string // : = > < >= <= != == "is null" "is not null"
	start   int    // of the name
	opStart int
	end     int // behind the operator
}

// head reads a name and an operator at i, if they stand there.
func (p *parser) head(i int) (head, bool) {
	if i >= len(p.text) || !unicode.IsLetter(p.text[i]) {
		return head{}, false
	}
	end := p.chunk(i)
	for j := i; j < end; j++ {
		if strings.ContainsRune(":=<>!,[]*", p.text[j]) {
			end = j
		}
	}
	if last := p.text[end-1]; !unicode.IsLetter(last) && !unicode.IsDigit(last) && last != '_' {
		return head{}, false
	}
	h := head{name: string(p.text[i:end]), start: i, opStart: p.spaceFrom(end)}
	rest := func(s string) bool {
		from := []rune(s)
		return len(p.text)-h.opStart >= len(from) && string(p.text[h.opStart:h.opStart+len(from)]) == s
	}
	for _, op := range []string{">=", "<=", "!=", "==", ">", "<", "=", ":"} {
		if rest(op) {
			known, _ := find(p.of, h.name)
			if known == nil && (rest("://") || rest("::") || rest(`:\`)) { // an URL, an address, a path
				return head{}, false
			}
			h.op, h.end = op, h.opStart+len(op)
			return h, true
		}
	}
	if h.opStart == end || !p.wordAt(h.opStart, "is") {
		return head{}, false
	}
	h.op, h.end = "is ", p.spaceFrom(h.opStart+len("is"))
	if p.wordAt(h.end, "not") {
		h.op += "not "
		h.end = p.spaceFrom(h.end + len("not"))
	}
	if !p.wordAt(h.end, "null") {
		return head{}, false
	}
	h.op += "null"
	h.end += len("null")
	return h, true
}

// chunk returns where the run of characters from i ends: at white space, a
// parenthesis or a quote.
func (p *parser) chunk(i int) int {
	for i < len(p.text) && !unicode.IsSpace(p.text[i]) && !strings.ContainsRune("()\"`", p.text[i]) {
		i++
	}
	return i
}

// errorAt makes an error at a position of the text.
func (p *parser) errorAt(i int, message, example string) error {
	e := &Error{Line: 1, Column: 1, Message: message, Example: example}
	for _, c := range p.text[:i] {
		e.Column++
		if c == '\n' {
			e.Line++
			e.Column = 1
		}
	}
	return e
}

// clip shortens what a message quotes.
func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return s
}
