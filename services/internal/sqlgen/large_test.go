package sqlgen_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// TestTheLargestQueriesRun holds that what a query's length lets through stays
// within what the engine parses: its text, its depth, its elements.
func TestTheLargestQueriesRun(t *testing.T) {
	conn := open(t)
	fill(t, conn, "300", "10")
	at := func(name string) *field.Field { return field.Find(field.Events.Fields, name) }
	bare := func(i int) qql.Expr { return qql.Test{Cond: qql.Words{{strconv.Itoa(i % 10)}}} }
	many := func(n int, part func(i int) qql.Expr) []qql.Expr {
		xs := make([]qql.Expr, n)
		for i := range xs {
			xs[i] = part(i)
		}
		return xs
	}
	var words qql.Words
	var phrase qql.Phrase
	for i := range qql.MaxLength / 2 {
		words, phrase = append(words, qql.Word{strconv.Itoa(i)}), append(phrase, strconv.Itoa(i))
	}
	deep := bare(0)
	for i := range 30 { // deeper than Parse lets through
		if deep = qql.Expr(qql.Or{bare(i), deep}); i%2 == 0 {
			deep = qql.And(deep.(qql.Or))
		}
	}
	negated := bare(0)
	for range qql.MaxLength / 4 {
		negated = qql.Not{X: negated}
	}
	for name, x := range map[string]qql.Expr{
		"words":       qql.Test{Cond: words},
		"host":        qql.Test{Cond: qql.Words{qql.Word(phrase)}},
		"text":        qql.Test{Field: at("auditComment"), Cond: qql.Equal{Text: strings.Join(phrase, " ")}},
		"phrase":      qql.Test{Cond: phrase},
		"pattern":     qql.Test{Field: at("auditComment"), Cond: qql.Like(make([]string, qql.MaxLength))},
		"and":         qql.And(many(qql.MaxLength/6, bare)),
		"or":          qql.Or(many(qql.MaxLength/5, bare)),
		"alternating": deep,
		"not":         negated,
		"equal":       qql.Or(many(qql.MaxLength/14, func(int) qql.Expr { return qql.Test{Field: at("externalChangeLink"), Cond: qql.Equal{Text: "a"}} })),
		"dates": qql.Or(many(qql.MaxLength/20, func(int) qql.Expr {
			return qql.Test{Field: at("createdDate"), Cond: qql.Range{Low: &qql.Bound{Value: qql.Date{Now: true}}}}
		})),
		"changes": qql.Or(many(qql.MaxLength/14, func(i int) qql.Expr {
			return qql.Nested{Field: at("changes"), X: qql.Test{Field: &field.ChangeFields[i%3], Cond: qql.Words{{"a"}}}}
		})),
		"filters": qql.And(many(20, func(i int) qql.Expr {
			var texts, addresses qql.In
			for j := range 100 {
				texts = append(texts, qql.Member{Text: fmt.Sprintf("value %d of %d", j, i)})
				addresses = append(addresses, qql.Member{Value: qql.Network(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(j), 0}), 24))})
			}
			if i%2 == 0 {
				return qql.Test{Field: at("sourceIp"), Cond: addresses}
			}
			return qql.Not{X: qql.Test{Field: at("auditComment"), Cond: texts}}
		})),
		"filters as alternatives": qql.And(many(20, func(i int) qql.Expr {
			return qql.Or(many(100, func(j int) qql.Expr {
				return qql.Test{Field: at("externalChangeLink"), Cond: qql.Like{fmt.Sprint("value", i, j), ""}}
			}))
		})),
	} {
		t.Run(name, func(t *testing.T) {
			s := sqlgen.Count(manager, sqlgen.Filter{Where: x, Now: now})
			query(t, conn, s, func(r driver.Rows) error { var n uint64; return r.Scan(&n) })
			t.Logf("%d bytes of SQL", len(s.SQL()))
		})
	}
}
