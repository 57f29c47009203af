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
		if words := qql.Tokens(cond.Text); t.Field.Type == field.Text && len(words) > 0 {
			return "(hasAllTokens(" + folded(value) + ", " + c.texts(words) + ") AND " + equal + ")"
		}
		return equal
	case qql.Like:
		return "(" + folded(value) + " LIKE " + c.text(pattern(cond)) + ")"
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
