package sqlgen

import (
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
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

// maxHints is how many words of one condition are looked up in the text
// indexes: each narrows what is left, and costs a look.
const maxHints = 8

// words makes the condition that each of the words is found in one of the
// texts. What the indexes can tell comes first and may let through too much;
// what decides comes last.
func (c *compiler) words(words qql.Words, values []string) string {
	conds := make([]string, 0, maxHints+1)
	needles := make([]string, len(words))
	for i, w := range words {
		if i < maxHints {
			conds = append(conds, c.hint(w, values))
		}
		needles[i] = " " + strings.Join(w, " ")
	}
	text := tokens(values)
	if len(needles) == 1 {
		conds = append(conds, "position("+text+", "+c.text(needles[0])+") > 0")
	} else {
		conds = append(conds, "arrayAll(w -> position("+text+", w) > 0, "+c.texts(needles)+")")
	}
	return "(" + strings.Join(conds, " AND ") + ")"
}

// hint makes a condition that holds where a word is found, and elsewhere maybe:
// all of its tokens but the last are whole.
func (c *compiler) hint(w qql.Word, values []string) string {
	if last := len(w) - 1; last > 0 {
		return c.each(values, "hasAllTokens(", ", "+c.texts(w[:last])+")")
	}
	return c.each(values, "(", " LIKE "+c.text("%"+w[0]+"%")+")")
}

// phrase makes the condition that one of the texts has the whole tokens in
// sequence.
func (c *compiler) phrase(p qql.Phrase, values []string) string {
	has := c.each(values, "hasAllTokens(", ", "+c.texts(p)+")")
	if len(p) == 1 {
		return has
	}
	return "(" + has + " AND position(" + tokens(values) + ", " + c.text(" "+strings.Join(p, " ")+" ") + ") > 0)"
}

// each makes the condition that one of the texts, folded, satisfies the
// condition with these two sides.
func (c *compiler) each(values []string, before, after string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = before + folded(v) + after
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

// anyText is for bare words: each word in any text field.
func (c *compiler) anyText(t qql.Test) string {
	values := make([]string, len(field.Texts))
	for i, f := range field.Texts {
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
