package sqlgen

import (
	"strings"
	"unicode/utf8"

	"github.com/auditrail/auditrail/services/internal/qql"
)

// folded is what qql.Fold makes of a column or expression. The text indexes are
// over this very expression: they serve what asks for it, and change no answer.
func folded(value string) string {
	return "replaceAll(lowerUTF8(toValidUTF8(" + value + ")), 'ς', 'σ')"
}

// tokens is the text's tokens, each between two spaces; other texts' tokens may
// follow, so that no sequence runs from one text into another.
func tokens(values []string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = "arrayStringConcat(tokens(" + folded(v) + ", 'splitByNonAlpha'), ' ')"
	}
	return "concat(' ', " + strings.Join(parts, ", ' \\n ', ") + ", ' ')"
}

// linkColumn has many tokens that occur once. Its index is over the first
// startLength characters of each, which takes a third of the room.
const (
	linkColumn  = "external_change_link"
	startLength = 3
)

// hasStarts makes the condition that a text's tokens begin as each of the words
// does. Its regular expression is that of the index. (A lambda in its place is
// refused in parts that have no index yet, when others have.)
func (c *compiler) hasStarts(value string, words []string) string {
	starts := make([]string, len(words))
	for i, w := range words {
		r := []rune(w)
		starts[i] = string(r[:min(len(r), startLength)])
	}
	return "hasAll(extractAll(" + folded(value) + `, '([0-9a-z\\x{80}-\\x{10ffff}]{1,3})[0-9a-z\\x{80}-\\x{10ffff}]*'), ` + c.texts(starts) + ")"
}

// hasAllTokens makes the condition that a text has the whole tokens words, in
// any order; param is their parameter. The text index of the column serves it.
func (c *compiler) hasAllTokens(value string, words []string, param string) string {
	has := "hasAllTokens(" + folded(value) + ", " + param + ")"
	if value == linkColumn {
		return "(" + c.hasStarts(value, words) + " AND " + has + ")"
	}
	return has
}

// maxLookups is how many lookups in the text indexes one statement has, and
// maxWords how many words of one condition are looked up: the first ones narrow
// enough, and the text of the statement must stay within what the engine reads.
// No answer depends on a lookup.
const (
	maxLookups = 64
	maxWords   = 8
)

// lookup says whether the statement may have another lookup.
func (c *compiler) lookup() bool {
	c.lookups++
	return c.lookups <= maxLookups
}

// words makes the condition that each of the words is found in one of the texts.
func (c *compiler) words(words qql.Words, values []string) string {
	var conds, rest []string
	for i, w := range words {
		needle := " " + strings.Join(w, " ")
		if i < maxWords && c.lookup() {
			conds = append(conds, c.word(w, needle, values))
		} else {
			rest = append(rest, needle)
		}
	}
	if rest != nil {
		conds = append(conds, "arrayAll(w -> position("+tokens(values)+", w) > 0, "+c.texts(rest)+")")
	}
	return "(" + strings.Join(conds, " AND ") + ")"
}

// word makes the condition that a word is found in one of the texts. What the
// index can tell comes first and may let through too much: all tokens but the
// last are whole, or the only one is part of a token. Then comes what decides.
func (c *compiler) word(w qql.Word, needle string, values []string) string {
	var find func(value string) string
	if last := len(w) - 1; last > 0 {
		whole := c.texts(w[:last])
		find = func(v string) string { return c.hasAllTokens(v, w[:last], whole) }
	} else {
		part := c.text("%" + w[0] + "%")
		find = func(v string) string { return folded(v) + " LIKE " + part }
		if utf8.RuneCountInString(w[0]) >= startLength {
			find = func(v string) string {
				if v == linkColumn {
					return c.hasStarts(v, w)
				}
				return folded(v) + " LIKE " + part
			}
		}
	}
	needle = c.text(needle)
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = find(v) + " AND position(" + tokens(values[i:i+1]) + ", " + needle + ") > 0"
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

// phrase makes the condition that one of the texts has the whole tokens in
// sequence.
func (c *compiler) phrase(p qql.Phrase, values []string) string {
	needle := c.texts(p)
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = c.hasAllTokens(v, p, needle)
	}
	has := "(" + strings.Join(parts, " OR ") + ")"
	if len(p) == 1 {
		return has
	}
	return "(" + has + " AND position(" + tokens(values) + ", " + c.text(" "+strings.Join(p, " ")+" ") + ") > 0)"
}

// anyText is for bare words: each word in any text field.
func (c *compiler) anyText(t qql.Test) string {
	values := make([]string, len(c.of.Texts))
	for i, f := range c.of.Texts {
		values[i] = f.Column
	}
	switch cond := t.Cond.(type) {
	case qql.Words:
		return c.words(cond, values)
	case qql.Phrase:
		return c.phrase(cond, values)
	}
	panic(misfit(t))
}
