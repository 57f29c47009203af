package query

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/internal/field"
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
	}{
		"newest10":   {manager, `{"startDate":0}`},
		"newest100":  {manager, `{"startDate":0,"pageSize":100}`},
		"offset20k":  {manager, `{"startDate":0,"pageSize":200,"pageNumber":100}`},
		"own100":     {scanner, `{"startDate":0,"pageSize":100}`},
		"own10dated": {scanner, `{"startDate":1782000000000}`},
	} {
		s := newBench(b, db.cfg, nil)
		b.Run(name+"/endpoint", func(b *testing.B) {
			token := s.token(b, c.id)
			for b.Loop() {
				if w := s.do(b, nil, "POST", searchPath, c.body, "Authorization", "Bearer "+token); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
		b.Run(name+"/engine", func(b *testing.B) {
			req, err := parseSearch([]byte(c.body))
			if err != nil {
				b.Fatal(err)
			}
			see, page := visibility.For(c.id), sqlgen.Page{Offset: req.pageNumber * req.pageSize, Limit: req.pageSize}
			rec := newRecord(field.Events)
			for b.Loop() {
				var n uint64
				var g errgroup.Group
				g.Go(func() error { // the endpoint's connections and settings
					return s.engine.stream(b.Context(), sqlgen.Count(see, req.filter), func(r driver.Rows) error { return r.Scan(&n) })
				})
				g.Go(func() error { return s.engine.stream(b.Context(), sqlgen.Rows(see, req.filter, page), rec.scan) })
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
