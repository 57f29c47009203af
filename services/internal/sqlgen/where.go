package sqlgen

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// where compiles a condition on a table. It says what qql.Compile and
// qql.CompileCall say: a property test
// holds the two together. The parameters are w1, w2 and so on. It panics when
// a Cond does not go with the type of its field, as they do.
func where(of *field.Table, x qql.Expr, now time.Time, params param.Set) string {
	c := compiler{of: of, now: now, params: params}
	return c.expr(x, c.test)
}

// compiler makes conditions. Each of them is in parentheses or a call, fit to
// stand beside any operator.
type compiler struct {
	of      *field.Table
	now     time.Time
	params  param.Set
	names   int  // given out
	lookups int  // in the text indexes
	listed  bool // whether the entries of changes have their alias
}

// name returns the next parameter's name.
func (c *compiler) name() string {
	c.names++
	return "w" + strconv.Itoa(c.names)
}

func (c *compiler) text(v string) string    { return c.params.Text(c.name(), v) }
func (c *compiler) texts(v []string) string { return c.params.Texts(c.name(), v) }
func (c *compiler) expr(x qql.Expr, test func(qql.Test) string) string {
	switch x := x.(type) {
	case nil:
		return "1"
	case qql.And:
		return c.join(x, " AND ", test)
	case qql.Or:
		return c.join(x, " OR ", test)
	case qql.Not:
		return "not(" + c.expr(x.X, test) + ")"
	case qql.Nested:
		return c.nested(x)
	case qql.Test:
		return test(x)
	}
	panic(fmt.Sprintf("sqlgen: %T is no condition", x))
}

// join leaves the nesting to the engine's parser, which flattens it: chains may
// be long.
func (c *compiler) join(xs []qql.Expr, operator string, test func(qql.Test) string) string {
	parts := make([]string, len(xs))
	for i, x := range xs {
		parts[i] = c.expr(x, test)
	}
	return "(" + strings.Join(parts, operator) + ")"
}

func (c *compiler) test(t qql.Test) string {
	if t.Field == nil {
		return c.anyText(t)
	}
	switch t.Field.Type {
	case field.UUID:
		return c.id(t)
	case field.Number:
		return c.number(t)
	case field.Address:
		return c.address(t)
	case field.Instant:
		return c.instant(t)
	case field.Keyword, field.Text, field.Opaque, field.JSON:
	}
	return c.textual(t, t.Field.Column)
}

func misfit(t qql.Test) string {
	if t.Field == nil {
		return fmt.Sprintf("sqlgen: %T of all texts", t.Cond)
	}
	return fmt.Sprintf("sqlgen: %T of %s", t.Cond, t.Field.Name)
}
