package sqlgen

import (
	"slices"
	"strconv"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
)

// jsonLexeme is a regular expression: a string, a mark of punctuation or another word of JSON.
const jsonLexeme = `'"(?:[^"\\\\]|\\\\[\\s\\S])*"|[{}\\[\\],:]|[^ \\t\\n\\r{}\\[\\],:"]+'`

// entries makes an array of the entries of a JSON array, each a tuple of the
// values of field.ChangeFields. The engine's own functions for JSON would write
// numbers anew (1.50 becomes 1.5), so it goes by the tokens, as package qql
// does: an entry begins at a brace at depth 2, a member at a comma or brace
// there. What is no good JSON gives some answer, and no error.
func entries(column string) string {
	// Tokens with their depth, those outside of the entries left out.
	pairs := "arrayFilter(p -> p.2 >= 2, arrayMap(t -> arrayZip(t, arrayCumSum(w -> multiIf(w IN ('{', '['), 1, w IN ('}', ']'), -1, 0), t)), [extractAll(toValidUTF8(" +
		column + "), " + jsonLexeme + ")])[1])"
	// An entry's members, each a list of tokens: { or a comma, name, colon, value.
	members := "arraySplit(p -> p.2 = 2 AND p.1 IN ('{', ','), e)"
	values := make([]string, len(field.ChangeFields))
	for i, f := range field.ChangeFields {
		value := "arrayStringConcat(arrayMap(p -> p.1, arraySlice(arrayFirst(m -> JSONExtractString(m[2].1) = '" + f.Name + "', m), 4)))"
		values[i] = "arrayMap(v -> multiIf(startsWith(v, '\"'), JSONExtractString(v), v = 'null', '', v), [" + value + "])[1]"
	}
	return "arrayMap(e -> arrayMap(m -> (" + strings.Join(values, ", ") + "), [" + members + "])[1], " +
		"arrayFilter(e -> e[1] = ('{', 2), arraySplit(p -> p = ('{', 2), " + pairs + ")))"
}

// nested makes the condition that one entry of a list satisfies n.X.
func (c *compiler) nested(n qql.Nested) string {
	cond := c.expr(n.X, func(t qql.Test) string {
		i := slices.IndexFunc(field.ChangeFields, func(f field.Field) bool { return f.Name == t.Field.Name })
		return c.textual(t, "entry."+strconv.Itoa(i+1))
	})
	// The engine takes its time over the expression: it is there once.
	list := n.Field.Column + "_entries"
	if !c.listed {
		c.listed = true
		list = "(" + entries(n.Field.Column) + " AS " + list + ")"
	}
	return "(" + n.Field.Column + " != '' AND arrayExists(entry -> " + cond + ", " + list + "))"
}
