package sqlgen_test

import (
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

func TestFacetsCountInOnePass(t *testing.T) {
	conn := open(t)
	fill(t, conn, "3000", "10")
	facets := func(size int64, names ...string) (got []string) {
		fields := make([]*field.Field, len(names))
		for i, name := range names {
			fields[i] = field.Find(field.Events.Fields, name)
		}
		query(t, conn, sqlgen.Facets(manager, sqlgen.Filter{}, fields, size), func(r driver.Rows) error {
			var facet uint8
			var value string
			var n, values, total uint64
			err := r.Scan(&facet, &value, &n, &values, &total)
			got = append(got, fmt.Sprint(names[facet], " ", value, " ", n, " ", values, " ", total))
			return err
		})
		return got
	}
	for _, c := range []struct{ got, want []string }{
		{facets(1, "action"), []string{"action Add 1000 1 1000"}},
		{facets(2, "userUuid", "sourceIp", "auditEnabledAppId", "action"), []string{
			"userUuid u0 20 50 1000", "userUuid u1 20 50 1000", "sourceIp  1000 1 1000", "auditEnabledAppId  1000 1 1000", "action Add 1000 1 1000"}},
	} {
		if d := cmp.Diff(c.got, c.want); d != "" {
			t.Errorf("(-got +want)\n%s", d)
		}
	}
}
