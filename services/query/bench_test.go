package query

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// BenchmarkSearch compares the endpoint with its own two statements sent
// straight to the engine, over 300,000 events of one subscription.
func BenchmarkSearch(b *testing.B) {
	db := newDatabase(b)
	db.fillMany(b, manager.CustomerUUID, "300000")
	scanner := identity.Identity{UserUUID: "user-7", CustomerUUID: manager.CustomerUUID, Name: "x", Role: identity.RoleScanner}
	for name, c := range map[string]struct {
		id   identity.Identity
		body string
		page sqlgen.Page
	}{
		"newest10":   {manager, "{}", sqlgen.Page{Limit: 10}},
		"newest100":  {manager, `{"pageSize":100}`, sqlgen.Page{Limit: 100}},
		"offset20k":  {manager, `{"pageSize":200,"pageNumber":100}`, sqlgen.Page{Limit: 200, Offset: 20000}},
		"own100":     {scanner, `{"pageSize":100}`, sqlgen.Page{Limit: 100}},
		"own10dated": {scanner, `{"startDate":1782000000000}`, sqlgen.Page{Limit: 10}},
	} {
		b.Run(name+"/endpoint", func(b *testing.B) {
			s := newBench(b, db.cfg, nil)
			token := s.token(b, c.id)
			for b.Loop() {
				if w := s.do(b, nil, "POST", searchPath, c.body, "Authorization", "Bearer "+token); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
		b.Run(name+"/engine", func(b *testing.B) {
			var f sqlgen.Filter
			if name == "own10dated" {
				f.Start = ptr[int64](1782000000000)
			}
			see := visibility.For(c.id)
			rec := newRecord()
			run := func(s sqlgen.Statement, scan func(driver.Rows) error) {
				ctx := clickhouse.Context(b.Context(), clickhouse.WithParameters(s.Params()))
				rows, err := db.conn.Query(ctx, s.SQL())
				if err != nil {
					b.Fatal(err)
				}
				for rows.Next() {
					if err := scan(rows); err != nil {
						b.Fatal(err)
					}
				}
				if err := rows.Close(); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				done := make(chan bool)
				go func() {
					var n uint64
					run(sqlgen.Count(see, f), func(r driver.Rows) error { return r.Scan(&n) })
					close(done)
				}()
				run(sqlgen.Rows(see, f, c.page), rec.scan)
				<-done
			}
		})
	}
}
