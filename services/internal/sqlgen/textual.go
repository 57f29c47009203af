package sqlgen

import (
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
)

// textual makes the condition on a text: a column, or an expression of a change.
func (c *compiler) textual(t qql.Test, value string) string {
	switch cond := t.Cond.(type) {
	case qql.Words:
		return c.words(cond, []string{value})
	case qql.Phrase:
		return c.phrase(cond, []string{value})
	case qql.Equal:
		equal := "(" + value + " = " + c.text(cond.Text) + ")"
		if words := qql.Tokens(cond.Text); t.Field.Type == field.Text && len(words) > 0 && c.lookup() {
			return "(" + c.hasAllTokens(value, words, c.texts(words)) + " AND " + equal + ")"
		}
		return equal
	case qql.Like:
		like := folded(value) + " LIKE "
		if run := longestRun(cond); t.Field.Type == field.Text && len(run) >= minRun && c.lookup() {
			return "(" + like + c.text("%"+run+"%") + " AND " + like + c.text(pattern(cond)) + ")"
		}
		return "(" + like + c.text(pattern(cond)) + ")"
	case qql.In:
		return c.members(cond, value)
	case qql.Null:
		if t.Field.Type == field.JSON {
			return "(" + value + " IN " + c.texts(qql.EmptyJSON) + ")"
		}
		return "(" + value + " = '')"
	}
	panic(misfit(t))
}

// members compares with whole texts: some in any case, some exactly.
func (c *compiler) members(in qql.In, value string) string {
	var exact, anyCase []string
	for _, m := range in {
		if m.Exact {
			exact = append(exact, m.Text)
		} else {
			anyCase = append(anyCase, qql.Fold(m.Text))
		}
	}
	var conds []string
	if exact != nil {
		conds = append(conds, value+" IN "+c.texts(exact))
	}
	if anyCase != nil {
		conds = append(conds, folded(value)+" IN "+c.texts(anyCase))
	}
	return "(" + strings.Join(conds, " OR ") + ")"
}

// pattern writes the pattern as LIKE reads it.
func pattern(like qql.Like) string {
	parts := make([]string, len(like))
	for i, p := range like {
		parts[i] = likeEscaper.Replace(qql.Fold(p))
	}
	return strings.Join(parts, "%")
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)

// minRun is the shortest run that the engine looks up in a text index
// (text_index_like_min_pattern_length).
const minRun = 4

// longestRun is the longest run of ASCII letters and digits in a pattern: part
// of a token of every text that fits.
func longestRun(like qql.Like) string {
	longest := ""
	for _, p := range like {
		for _, run := range strings.FieldsFunc(qql.Fold(p), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			if len(run) > len(longest) {
				longest = run
			}
		}
	}
	return longest
}
