package sqlgen_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// TestIndexesServe holds that what looks for few rows reads few granules of
// merged parts, by the index that is meant for it.
func TestIndexesServe(t *testing.T) {
	conn := open(t)
	fill(t, conn, "300000", "10")
	rare := uuid.MustParse("eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9")
	if err := conn.Exec(t.Context(), `INSERT INTO audit_events (id, customer_uuid, created_date, user_uuid, audit_comment, target_name, external_change_link, retention_days)
		VALUES ('`+rare.String()+`', 'c1', '2026-06-30 00:00:00', 'rare-user', 'Host web-01.example.com Quarantined by policy Größe', 'Rarity host', 'https://portal.example.com/c/0a1b2c3d', 20000)`); err != nil {
		t.Fatal(err)
	}
	if err := conn.Exec(t.Context(), "OPTIMIZE TABLE audit_events FINAL"); err != nil {
		t.Fatal(err)
	}
	test := func(name string, c qql.Cond) qql.Expr {
		return qql.Test{Field: field.Find(field.Events.Fields, name), Cond: c}
	}
	for name, c := range map[string]struct {
		x     qql.Expr
		index string
	}{
		"beginning of a word":     {test("auditComment", qql.Words{{"quarant"}}), "by_comment"},
		"word beyond ASCII":       {test("auditComment", qql.Phrase{"größe"}), "by_comment"},
		"host":                    {test("auditComment", qql.Words{{"web", "01", "ex"}}), "by_comment"},
		"several words":           {test("auditComment", qql.Words{{"comment"}, {"quarantined"}}), ""},
		"rare and frequent words": {test("auditComment", qql.Words{{"policy"}, {"host"}}), "by_comment"},
		"quoted word":             {test("auditComment", qql.Phrase{"quarantined"}), "by_comment"},
		"phrase":                  {test("auditComment", qql.Phrase{"quarantined", "by", "policy"}), "by_comment"},
		"word of a link":          {test("externalChangeLink", qql.Words{{"0a1b2"}}), "by_link"},
		"address of a link":       {test("externalChangeLink", qql.Words{{"portal", "example", "com", "c", "0a1b2c3d"}}), "by_link"},
		"exact link":              {test("externalChangeLink", qql.Equal{Text: "https://portal.example.com/c/0a1b2c3d"}), "by_link"},
		"any text":                {qql.Test{Cond: qql.Words{{"quarantined", "by", "pol"}}}, "<Combined skip indexes>"},
		"beginning, any text":     {qql.Test{Cond: qql.Words{{"quarant"}}}, "<Combined skip indexes>"},
		"quoted, any text":        {qql.Test{Cond: qql.Phrase{"quarantined"}}, "<Combined skip indexes>"},
		"exact":                   {test("targetName", qql.Equal{Text: "Rarity host"}), "by_target"},
		"pattern":                 {test("targetName", qql.Like{"rarity", ""}), "by_target"},
		"whole":                   {test("targetName", qql.In{{Text: "rarity HOST"}}), "by_target"},
		"id":                      {test("id", qql.Range{Low: &qql.Bound{Value: qql.ID(rare)}, High: &qql.Bound{Value: qql.ID(rare)}}), "by_id"},
		"ids":                     {test("id", qql.In{{Value: qql.ID(rare)}, {Value: qql.ID(uuid.Max)}}), "by_id"},
		"user":                    {test("userUuid", qql.Equal{Text: "rare-user"}), "by_user"},
		"users":                   {test("userUuid", qql.In{{Text: "rare-user", Exact: true}, {Text: "other", Exact: true}}), "by_user"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sqlgen.Count(manager, sqlgen.Filter{Where: c.x, Now: now})
			var n uint64
			query(t, conn, s, func(r driver.Rows) error { return r.Scan(&n) })
			plan := explain(t, conn, s)
			if c.index == "" {
				if n != 0 {
					t.Errorf("%d events", n)
				}
				return
			}
			if n != 1 {
				t.Errorf("%d events, want the rare one", n)
			}
			if read, all := granules(plan, c.index); read == 0 || read*3 > all {
				t.Errorf("%s leaves %d granules of %d\n%s\n%s", c.index, read, all, s.SQL(), plan)
			}
		})
	}
}

func explain(t *testing.T, conn driver.Conn, s sqlgen.Statement) string {
	t.Helper()
	rows, err := conn.Query(clickhouse.Context(t.Context(), clickhouse.WithParameters(s.Params())), "EXPLAIN indexes = 1 "+s.SQL())
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// granules reads from a plan how many granules an index, or PrimaryKey, left.
func granules(plan, index string) (read, all int) {
	m := regexp.MustCompile(`(?:Name: )?` + index + `\n(?:.*\n)*?.*Granules: (\d+)/(\d+)`).FindStringSubmatch(plan)
	if m == nil {
		return 0, 0
	}
	read, _ = strconv.Atoi(m[1])
	all, _ = strconv.Atoi(m[2])
	return read, all
}
