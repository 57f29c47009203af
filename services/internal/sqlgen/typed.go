package sqlgen

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/qql"
)

// id makes the condition on the field id. IN uses its bloom filter.
func (c *compiler) id(t qql.Test) string {
	in := func(ids ...uuid.UUID) string {
		return "(" + t.Field.Column + " IN " + c.params.UUIDs(c.name(), ids) + ")"
	}
	switch cond := t.Cond.(type) {
	case qql.In:
		ids := make([]uuid.UUID, len(cond))
		for i, m := range cond {
			ids[i] = uuid.UUID(m.Value.(qql.ID))
		}
		return in(ids...)
	case qql.Range:
		return in(uuid.UUID(cond.Low.Value.(qql.ID)))
	case qql.Null:
		return in(uuid.Nil)
	}
	panic(misfit(t))
}

// number makes the condition on a number.
func (c *compiler) number(t qql.Test) string {
	column := t.Field.Column
	switch cond := t.Cond.(type) {
	case qql.In:
		values := make([]uint64, len(cond))
		for i, m := range cond {
			values[i] = uint64(m.Value.(qql.Number))
		}
		return "has(" + c.params.Uints(c.name(), values) + ", " + column + ")"
	case qql.Range:
		return c.ends(cond, func(operator string, v qql.Value) string {
			return column + operator + c.params.Uint(c.name(), uint64(v.(qql.Number)))
		})
	case qql.Null:
		return "(" + column + " = 0)"
	}
	panic(misfit(t))
}

// ends makes the condition of a range from comparisons with its ends.
func (c *compiler) ends(r qql.Range, compare func(operator string, v qql.Value) string) string {
	var conds []string
	for _, end := range []struct {
		bound           *qql.Bound
		closed, without string
	}{{r.Low, " >= ", " > "}, {r.High, " <= ", " < "}} {
		switch {
		case end.bound == nil:
		case end.bound.Open:
			conds = append(conds, compare(end.without, end.bound.Value))
		default:
			conds = append(conds, compare(end.closed, end.bound.Value))
		}
	}
	return "(" + strings.Join(conds, " AND ") + ")"
}

// instant makes the condition on createdDate, so that the primary key and the
// months serve.
func (c *compiler) instant(t qql.Test) string {
	column := t.Field.Column
	between := func(first, last int64) string {
		return column + " >= " + instant(c.params, c.name(), first) + " AND " + column + " <= " + instant(c.params, c.name(), last)
	}
	switch cond := t.Cond.(type) {
	case qql.In:
		firsts, lasts := make([]int64, len(cond)), make([]int64, len(cond))
		for i, m := range cond {
			firsts[i], lasts[i] = m.Value.(qql.Date).Span(c.now)
		}
		return "(" + between(slices.Min(firsts), slices.Max(lasts)) +
			" AND arrayExists((first, last) -> toUnixTimestamp64Milli(" + column + ") BETWEEN first AND last, " +
			c.params.Ints(c.name(), firsts) + ", " + c.params.Ints(c.name(), lasts) + "))"
	case qql.Range:
		return "(" + between(cond.Instants(c.now)) + ")"
	case qql.Null:
		return "(" + between(0, 0) + ")"
	}
	panic(misfit(t))
}

// absent is how an event without an address is stored.
const absent = "toIPv6('::')"

// ofIPv4 and ofIPv6 tell the families apart: IPv4 addresses are stored mapped.
const (
	ofIPv4 = " BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255')"
	ofIPv6 = " NOT" + ofIPv4
)

// address makes the condition on an address. The ranges of one family are two
// parameters, however many there are.
func (c *compiler) address(t qql.Test) string {
	var ranges []qql.Range
	column := t.Field.Column
	switch cond := t.Cond.(type) {
	case qql.In:
		for _, m := range cond {
			ranges = append(ranges, qql.Range{Low: &qql.Bound{Value: m.Value}, High: &qql.Bound{Value: m.Value}})
		}
	case qql.Range:
		ranges = []qql.Range{cond}
	case qql.Null:
		return "(" + column + " = " + absent + ")"
	default:
		panic(misfit(t))
	}
	var conds []string
	for _, v4 := range []bool{true, false} {
		var firsts, lasts []netip.Addr
		for _, r := range ranges {
			if first, last, ok := r.Addresses(); ok && first.Is4() == v4 {
				firsts, lasts = append(firsts, first), append(lasts, last)
			}
		}
		if firsts == nil {
			continue
		}
		family := ofIPv6
		if v4 {
			family = ofIPv4
		}
		conds = append(conds, column+family+" AND arrayExists((first, last) -> "+column+" BETWEEN first AND last, "+
			c.params.Addresses(c.name(), firsts)+", "+c.params.Addresses(c.name(), lasts)+")")
	}
	if conds == nil {
		return "(1 = 0)"
	}
	return "(" + column + " != " + absent + " AND (" + strings.Join(conds, " OR ") + "))"
}
