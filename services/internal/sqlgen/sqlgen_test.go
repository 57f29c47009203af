package sqlgen

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
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

// TestOrders holds the clauses of each kind of order: a position in one by
// createdDate bounds the primary key.
func TestOrders(t *testing.T) {
	const date, id = "fromUnixTimestamp64Milli({after_date:Int64}, 'UTC')", "toUInt128(toUUID({after_id:String}))"
	const newer = "(created_date < " + date + " OR created_date = " + date + " AND toUInt128(id) < " + id + ")"
	for _, c := range []struct{ field, order, after string }{
		{"", " ORDER BY created_date DESC, toUInt128(id) DESC", "created_date <= " + date + " AND (created_date < " + date + " OR toUInt128(id) < " + id + ")"},
		{"createdDate", " ORDER BY created_date ASC, toUInt128(id) DESC", "created_date >= " + date + " AND (created_date > " + date + " OR toUInt128(id) < " + id + ")"},
		{"id", " ORDER BY toUInt128(id) ASC", "toUInt128(id) > " + id},
		{"auditEnabledAppId", " ORDER BY audit_enabled_app_id ASC, created_date DESC, toUInt128(id) DESC",
			"(audit_enabled_app_id > toUInt32({after_value:String}) OR audit_enabled_app_id = toUInt32({after_value:String}) AND " + newer + ")"},
		{"sourceIp", " ORDER BY source_ip ASC, created_date DESC, toUInt128(id) DESC",
			"(source_ip > toIPv6({after_value:String}) OR source_ip = toIPv6({after_value:String}) AND " + newer + ")"},
		{"userName", " ORDER BY substring(user_name, 1, 256) ASC, created_date DESC, toUInt128(id) DESC",
			"(substring(user_name, 1, 256) > {after_value:String} OR substring(user_name, 1, 256) = {after_value:String} AND " + newer + ")"},
	} {
		var s Sort
		if c.field != "" {
			s = Sort{Field: field.Find(field.Events.Fields, c.field), Ascending: true}
		}
		if d := cmp.Diff([]string{s.orderBy(field.Events), s.after(field.Events, Position{}, param.Set{})}, []string{c.order, c.after}); d != "" {
			t.Errorf("%s (-got +want)\n%s", c.field, d)
		}
	}
}

// TestOrdersOfCalls holds that the date and the id of an order are those of its
// table, and that another date is a value like any.
func TestOrdersOfCalls(t *testing.T) {
	const date, id = "fromUnixTimestamp64Milli({after_date:Int64}, 'UTC')", "toUInt128(toUUID({after_id:String}))"
	const value = "fromUnixTimestamp64Milli(toInt64({after_value:String}), 'UTC')"
	for _, c := range []struct{ field, order, after string }{
		{"", " ORDER BY submitted_date DESC, toUInt128(call_id) DESC", "submitted_date <= " + date + " AND (submitted_date < " + date + " OR toUInt128(call_id) < " + id + ")"},
		{"callId", " ORDER BY toUInt128(call_id) ASC", "toUInt128(call_id) > " + id},
		{"updatedDate", " ORDER BY updated_date ASC, submitted_date DESC, toUInt128(call_id) DESC", "(updated_date > " + value + " OR updated_date = " + value +
			" AND (submitted_date < " + date + " OR submitted_date = " + date + " AND toUInt128(call_id) < " + id + "))"},
	} {
		var s Sort
		if c.field != "" {
			s = Sort{Field: field.Find(field.Calls.Fields, c.field), Ascending: true}
		}
		if d := cmp.Diff([]string{s.orderBy(field.Calls), s.after(field.Calls, Position{}, param.Set{})}, []string{c.order, c.after}); d != "" {
			t.Errorf("%s (-got +want)\n%s", c.field, d)
		}
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
		see := visibility.For(id)
		page := Page{Offset: rapid.Int64Min(0).Draw(t, "offset"), Limit: 1, Sort: Sort{Field: &field.Events.Fields[5]}}
		page.After = &Position{rapid.String().Draw(t, "value"), rapid.Int64().Draw(t, "date"), uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))}
		sql := Rows(see, f, page).SQL() + Facets(see, f, []*field.Field{page.Sort.Field}, page.Offset).SQL() +
			Histogram(see, f, rapid.SliceOf(rapid.Int64()).Draw(t, "bounds")).SQL() + Span(see, f).SQL() + Event(see, page.After.ID).SQL()
		calls := visibility.ForCalls(id, true)
		page.Sort.Field = &field.Calls.Fields[11]
		f.Updated = true
		sql += Rows(calls, f, page).SQL() + HistogramBy(calls, f, nil, page.Sort.Field).SQL() + History(calls, page.After.ID).SQL()
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
