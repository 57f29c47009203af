package sqlgen

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

func TestStatements(t *testing.T) {
	reader := visibility.For(identity.Identity{UserUUID: "u1", CustomerUUID: "c1", Name: "Jack", Role: identity.RoleReader})
	start, end := int64(1650444199730), int64(math.MaxInt64)
	const where = " FROM audit_events WHERE customer_uuid = {see_customer:String}" +
		" AND (user_uuid = {see_user:String} OR user_uuid = '' AND user_name = {see_name:String})" +
		" AND created_date >= fromUnixTimestamp64Milli({start_date:Int64}, 'UTC')" +
		" AND created_date <= fromUnixTimestamp64Milli({end_date:Int64}, 'UTC')"
	rows := Rows(reader, Filter{Start: &start, End: &end}, Page{Offset: 20, Limit: 10})
	want := "SELECT id, audit_enabled_app_id, application_name, module_code, module_name, user_name, user_role, user_uuid," +
		" customer_uuid, client, source_ip, created_date, target_type, target_name, action, status, audit_comment," +
		" external_change_link, endpoint_type, business_unit, origin, changes, request_id, extra" + where +
		" ORDER BY created_date DESC, toUInt128(id) DESC LIMIT {page_limit:Int64} OFFSET {page_offset:Int64}"
	if d := cmp.Diff(rows.SQL(), want); d != "" {
		t.Errorf("rows (-got +want)\n%s", d)
	}
	if d := cmp.Diff(rows.Params(), map[string]string{
		"see_customer": "c1", "see_user": "u1", "see_name": "Jack",
		"start_date": "1650444199730", "end_date": "10413791999999", "page_limit": "10", "page_offset": "20",
	}); d != "" {
		t.Errorf("params (-got +want)\n%s", d)
	}
	if d := cmp.Diff(Count(reader, Filter{Start: &start, End: &end}).SQL(), "SELECT count()"+where); d != "" {
		t.Errorf("count (-got +want)\n%s", d)
	}
	if sql := Count(visibility.Predicate{}, Filter{}).SQL(); !strings.HasSuffix(sql, " AND 1 = 0") {
		t.Errorf("the zero predicate lets rows through: %s", sql)
	}
}

// TestNoValueInSQL holds that the text depends on the shape of a request
// alone, whatever its values are.
func TestNoValueInSQL(t *testing.T) {
	shapes := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		id := identity.Identity{
			UserUUID:     rapid.StringMatching(`.{1,20}`).Draw(t, "user"),
			CustomerUUID: rapid.StringMatching(`.{1,20}`).Draw(t, "customer"),
			Name:         rapid.String().Draw(t, "name"),
			Role:         rapid.SampledFrom(identity.Roles).Draw(t, "role"),
			BusinessUnits: rapid.SliceOf(rapid.String()).
				Draw(t, "units"),
			ViewAll: rapid.Bool().Draw(t, "viewAll"),
		}
		var f Filter
		if rapid.Bool().Draw(t, "start") {
			ms := rapid.Int64().Draw(t, "startDate")
			f.Start = &ms
		}
		sql := Rows(visibility.For(id), f, Page{Offset: rapid.Int64Min(0).Draw(t, "offset"), Limit: 1}).SQL()
		scope := string(id.Role)
		if id.ViewAll || id.Role == identity.RoleManager || id.Role == identity.RoleAuditor {
			scope = "all"
		}
		units := strings.Join(id.BusinessUnits, "") != ""
		key := strings.Join([]string{scope, has(id.Name != ""), has(units), has(f.Start != nil)}, "|")
		if old, ok := shapes[key]; ok && old != sql {
			t.Fatalf("%s: two texts\n%s\n%s", key, old, sql)
		}
		shapes[key] = sql
	})
}

func has(b bool) string {
	if b {
		return "with"
	}
	return "without"
}
