package query

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Values that the differential test draws from: few, so that they meet, and
// nasty, so that quoting is tried.
var (
	someUsers     = []string{"", "u1", "U1", "u1 ", `u'\` + "\t\n\r\x00{x:String}"}
	someNames     = []string{"", "jack", "Jack", `ja'ck\`, "\\N", "é\u0301", "\xff", strings.Repeat("n", 256) + "1", strings.Repeat("n", 256) + "2"}
	someUnits     = []string{"", "EU", "eu", " EU", `E'U\` + "\n\t", "NULL"}
	someDates     = []int64{1750000000000, 1750000000001, 1750000000002, 1752000000000}
	someActions   = []string{"", "Add", "Delete", "DELETE", "Log in"}
	someAddresses = []string{"", "10.1.2.3", "10.1.2.4", "192.168.0.1", "2001:db8::1"}
	someComments  = []string{"", "new User added", "USER removed: web-01.example.com", "' OR 1=1 --"}
	someChanges   = []string{"", `[{"field":"role","before":"Reader","after":"Manager"}]`, `[{"field":"limit","after":5},{"field":"role","after":"x"}]`}
	someQueries   = []string{
		"action: delete", "action: [Add, `Delete`]", "action is null", "NOT userName: jack", "userName = `Jack`", "userName: ja*", "user",
		`auditComment: "user added"`, "sourceIp: 10.0.0.0/8", "sourceIp: [10.1.2.3 .. 10.1.2.4]", "sourceIp is null", "auditEnabledAppId > 1",
		"auditEnabledAppId: [1 .. 2)", "changes: (field: role AND after: manager)", "createdDate > 1750000000000", "createdDate < now-1d",
		"businessUnit: `eu`", "businessUnit: eu", "userUuid: `u1 `", "web-01.example.com", "createdDate: [2025-06-15 .. 2025-06-15]", "auditComment: `' OR 1=1 --`",
	}
	someFilters = []string{
		`{"field":"action","operator":"is","value":"Add"}`, `{"field":"ACTION","operator":"is not","value":"add"}`,
		`{"field":"userName","operator":"contains","value":"a"}`, `{"field":"auditComment","operator":"starts with","value":"'"}`,
		`{"field":"auditEnabledAppId","operator":"between","value":[1,"2"]}`, `{"field":"createdDate","operator":"after","value":1750000000001}`,
		`{"field":"businessUnit","operator":"in","value":["EU","null"]}`,
	}
)

// oneOf draws a value.
func oneOf[T any](rt *rapid.T, label string, from []T) T {
	return rapid.SampledFrom(from).Draw(rt, label)
}

func someEvents(rt *rapid.T, customers []string) []audit.Event {
	events := make([]audit.Event, rapid.IntRange(0, 24).Draw(rt, "events"))
	for i := range events {
		events[i] = audit.Event{
			ID:           uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "id")).String(),
			CustomerUUID: oneOf(rt, "customer", customers), UserUUID: oneOf(rt, "user", someUsers), UserName: oneOf(rt, "name", someNames),
			BusinessUnit: oneOf(rt, "unit", someUnits), CreatedDate: oneOf(rt, "date", someDates), Action: oneOf(rt, "action", someActions),
			SourceIP: oneOf(rt, "address", someAddresses), AuditEnabledAppID: uint32(rapid.IntRange(0, 3).Draw(rt, "app")),
			AuditComment: oneOf(rt, "comment", someComments), Changes: []byte(oneOf(rt, "changes", someChanges)),
		}
	}
	return events
}

func someCaller(rt *rapid.T, customers []string) identity.Identity {
	return identity.Identity{
		CustomerUUID: oneOf(rt, "caller's customer", customers), UserUUID: oneOf(rt, "caller", someUsers[1:]), Name: oneOf(rt, "caller's name", someNames[:6]),
		Role: oneOf(rt, "role", identity.Roles), Tier: identity.TierStandard, ViewAll: rapid.IntRange(0, 9).Draw(rt, "viewAll") == 0,
		BusinessUnits: rapid.SliceOfN(rapid.SampledFrom(someUnits), 0, 3).Draw(rt, "units"),
	}
}

// someQuery draws what every endpoint is asked, and what decides it in memory.
func someQuery(rt *rapid.T) (body map[string]any, holds func(*audit.Event) bool) {
	body = map[string]any{"startDate": 0}
	var start, end int64 = 0, 1 << 60
	if rapid.Bool().Draw(rt, "dated") {
		start, end = someDates[1], someDates[rapid.IntRange(1, 3).Draw(rt, "end")]
		body["startDate"], body["endDate"] = start, fmt.Sprint(end)
	}
	query := ""
	if rapid.Bool().Draw(rt, "query") {
		query = oneOf(rt, "one", someQueries)
		if rapid.Bool().Draw(rt, "two") {
			query = "(" + query + ")" + oneOf(rt, "and", []string{" AND ", " OR ", " and not "}) + "(" + oneOf(rt, "other", someQueries) + ")"
		}
		body["qql"] = query
	}
	var where []json.RawMessage
	if rapid.Bool().Draw(rt, "where") {
		for _, f := range rapid.SliceOfN(rapid.SampledFrom(someFilters), 1, 2).Draw(rt, "filters") {
			where = append(where, json.RawMessage(f))
		}
		body["where"] = where
	}
	x, err := qql.Parse(field.Events, query)
	if err != nil {
		rt.Fatal(query, err)
	}
	var filters []qql.Filter
	for _, raw := range where {
		var f struct {
			Field, Operator string
			Value           any
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			rt.Fatal(err)
		}
		values, ok := f.Value.([]any)
		if !ok {
			values = []any{f.Value}
		}
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = fmt.Sprint(v)
			if n, ok := v.(float64); ok {
				texts[i] = strconv.FormatInt(int64(n), 10)
			}
		}
		filters = append(filters, qql.Filter{Field: f.Field, Operator: f.Operator, Values: texts})
	}
	y, errs := qql.FromFilters(field.Events, filters)
	if len(errs) > 0 {
		rt.Fatal(where, errs)
	}
	now := time.Now()
	one, other := qql.Compile(x, now), qql.Compile(y, now)
	return body, func(e *audit.Event) bool {
		return e.CreatedDate >= start && e.CreatedDate <= end && one(e) && other(e)
	}
}

// valueOf is an event's value in a field, as it sorts and as facets show it.
func valueOf(e *audit.Event, f *field.Field) string {
	switch f.Name {
	case "id":
		return e.ID
	case "auditEnabledAppId":
		return fmt.Sprint(e.AuditEnabledAppID)
	case "userName":
		return e.UserName
	case "userUuid":
		return e.UserUUID
	case "customerUuid":
		return e.CustomerUUID
	case "sourceIp":
		return e.SourceIP
	case "createdDate":
		return fmt.Sprint(e.CreatedDate)
	case "action":
		return e.Action
	case "auditComment":
		return e.AuditComment
	case "businessUnit":
		return e.BusinessUnit
	}
	return "" // the events have no other
}

// compare orders events as sqlgen.Sort says: written anew, from its words.
func compare(sort sqlgen.Sort) func(a, b audit.Event) int {
	newest := func(a, b audit.Event) int {
		return cmp.Or(cmp.Compare(b.CreatedDate, a.CreatedDate), strings.Compare(b.ID, a.ID))
	}
	return func(a, b audit.Event) int {
		if sort.Field == nil {
			return newest(a, b)
		}
		x, y := valueOf(&a, sort.Field), valueOf(&b, sort.Field)
		var c int
		switch sort.Field.Type {
		case field.Number, field.Instant:
			i, _ := strconv.Atoi(x)
			j, _ := strconv.Atoi(y)
			c = cmp.Compare(i, j)
		case field.Address:
			address := func(s string) netip.Addr {
				if s == "" {
					return netip.IPv6Unspecified()
				}
				return netip.AddrFrom16(netip.MustParseAddr(s).As16())
			}
			c = address(x).Compare(address(y))
		case field.UUID, field.Keyword, field.Text, field.Opaque, field.JSON:
			c = strings.Compare(x[:min(len(x), sqlgen.SortBytes)], y[:min(len(y), sqlgen.SortBytes)])
		}
		if !sort.Ascending {
			c = -c
		}
		return cmp.Or(c, newest(a, b))
	}
}

func idsOf(events []audit.Event) []string {
	ids := []string{}
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

// with returns body with more members, as JSON.
func with(body map[string]any, more ...any) string {
	all := map[string]any{}
	maps.Copy(all, body)
	for i := 0; i < len(more); i += 2 {
		all[more[i].(string)] = more[i+1]
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// ask sends a request that must succeed, and decodes the answer.
func (b *bench) ask(t testing.TB, f fatal, id identity.Identity, method, path, body string, answer any) {
	t.Helper()
	w := b.do(t, &id, method, path, body)
	if w.Code != 200 {
		f.Fatal(w.Code, path, body, w.Body.String())
	}
	if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
		f.Fatal(err, w.Body.String())
	}
}

// TestSearchReturnsWhatThePredicateAllows is the differential test: whatever
// the events, whoever asks and whatever for, every endpoint returns, counts and
// sorts exactly the events that Predicate.Allows and qql.Compile let through.
func TestSearchReturnsWhatThePredicateAllows(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		customers := []string{fmt.Sprintf("c%d", round), fmt.Sprintf("C%d", round), fmt.Sprintf(`c%d'\`, round)}
		events := someEvents(rt, customers)
		db.insert(t, rt, events...)
		for range 2 {
			id := someCaller(rt, customers)
			body, holds := someQuery(rt)
			see := visibility.For(id)
			var want []audit.Event
			for _, e := range events {
				if see.Allows(&e) && holds(&e) {
					want = append(want, e)
				}
			}
			b.checkPages(t, rt, id, body, want)
			b.checkWalk(t, rt, id, body, want)
			b.checkFacets(t, rt, id, body, want)
			b.checkHistogram(t, rt, id, body, want)
			b.checkExport(t, rt, id, body, want)
			if len(events) > 0 {
				b.checkEvent(t, rt, id, oneOf(rt, "event", events))
			}
			b.checkFields(t, rt, id)
		}
	})
}

func (b *bench) checkPages(t *testing.T, rt *rapid.T, id identity.Identity, body map[string]any, want []audit.Event) {
	slices.SortFunc(want, compare(sqlgen.Sort{}))
	size := oneOf(rt, "pageSize", []any{7, "9", 200})
	got := []string{}
	for page := 0; ; page++ {
		a := b.searchAs(t, rt, id, with(body, "pageSize", size, "pageNumber", page))
		if a.TotalCount != int64(len(want)) || a.PageNumber != int64(page) {
			rt.Fatalf("%+v %v: total %d page %d, want %d", id, body, a.TotalCount, a.PageNumber, len(want))
		}
		got = append(got, a.ids()...)
		if (a.SearchAfter != "") != (len(got) < len(want)) {
			rt.Fatalf("%v: %d of %d events, searchAfter %q", body, len(got), len(want), a.SearchAfter)
		}
		if a.SearchAfter == "" {
			break
		}
	}
	if d := gocmp.Diff(got, idsOf(want)); d != "" {
		rt.Fatalf("%+v %v (-got +want)\n%s", id, body, d)
	}
}

func (b *bench) checkWalk(t *testing.T, rt *rapid.T, id identity.Identity, body map[string]any, want []audit.Event) {
	var sort sqlgen.Sort
	if name := oneOf(rt, "sort", []string{"", "userName", "userName", "action", "sourceIp", "auditEnabledAppId", "createdDate", "id", "userUuid", "businessUnit", "auditComment", "status"}); name != "" {
		sort = sqlgen.Sort{Field: field.Find(field.Events.Fields, name), Ascending: rapid.Bool().Draw(rt, "ascending")}
		order := map[bool]string{true: "asc", false: "desc"}[sort.Ascending]
		body = maps.Clone(body)
		body["sort"] = map[string]string{"field": name, "order": order}
	}
	slices.SortFunc(want, compare(sort))
	got := []string{}
	after := ""
	for {
		a := b.searchAs(t, rt, id, with(body, "pageSize", rapid.IntRange(3, 12).Draw(rt, "walked"), "searchAfter", after))
		if a.TotalCount != int64(len(want)) {
			rt.Fatalf("%+v %v: total %d, want %d", id, body, a.TotalCount, len(want))
		}
		got = append(got, a.ids()...)
		if after = a.SearchAfter; after == "" {
			break
		}
	}
	if d := gocmp.Diff(got, idsOf(want)); d != "" {
		rt.Fatalf("%+v %v (-got +want)\n%s", id, body, d)
	}
}

// facetsAnswer is an answer of facets, and of fields.
type facetsAnswer struct {
	Facets     []facetAnswer
	Fields     []facetAnswer
	TotalCount int
}

type facetAnswer struct {
	Field, Name   string
	Values        []map[string]any
	DistinctCount int
	OtherCount    int
}

// tally counts the values of a field, the most frequent first.
func tally(events []audit.Event, f *field.Field, size int) (top []map[string]any, distinct, other int) {
	counts := map[string]int{}
	for _, e := range events {
		counts[valueOf(&e, f)]++
	}
	values := []string{}
	for v := range counts {
		values = append(values, v)
	}
	slices.SortFunc(values, func(a, b string) int {
		none := func(s string) string { // an absent number or address sorts as text, too
			if f.Type == field.Number && s == "0" {
				return ""
			}
			if a, err := netip.ParseAddr(s); err == nil && f.Type == field.Address {
				return netip.AddrFrom16(a.As16()).String()
			}
			return s
		}
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(none(a), none(b)))
	})
	top = []map[string]any{}
	for i, v := range values {
		if i >= size {
			other += counts[v]
			continue
		}
		var value any = strings.ToValidUTF8(v, "\uFFFD")
		n, err := strconv.Atoi(v)
		switch {
		case v == "" || f.Type == field.Number && v == "0":
			value = nil
		case f.Type == field.Number && err == nil:
			value = float64(n)
		}
		top = append(top, map[string]any{"value": value, "count": float64(counts[v])})
	}
	return top, len(values), other
}

func (b *bench) checkFacets(t *testing.T, rt *rapid.T, id identity.Identity, body map[string]any, want []audit.Event) {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"action", "userName", "userUuid", "sourceIp", "auditEnabledAppId", "businessUnit", "status"}), 1, 7, rapid.ID[string]).Draw(rt, "facets")
	size := rapid.IntRange(1, 10).Draw(rt, "size")
	var got facetsAnswer
	b.ask(t, rt, id, "POST", searchPath+"/facets", with(body, "fields", names, "size", size), &got)
	if got.TotalCount != len(want) || len(got.Facets) != len(names) {
		rt.Fatalf("%v: %+v, want %d events", body, got, len(want))
	}
	for i, name := range names {
		top, distinct, other := tally(want, field.Find(field.Events.Fields, name), size)
		if d := gocmp.Diff(got.Facets[i], facetAnswer{Field: name, Values: top, DistinctCount: distinct, OtherCount: other}); d != "" {
			rt.Fatalf("%+v %v %s (-got +want)\n%s", id, body, name, d)
		}
	}
}

func (b *bench) checkHistogram(t *testing.T, rt *rapid.T, id identity.Identity, body map[string]any, want []audit.Event) {
	zone, err := time.LoadLocation(oneOf(rt, "zone", []string{"UTC", "Europe/Berlin", "Asia/Kolkata"}))
	if err != nil {
		rt.Fatal(err)
	}
	var got struct {
		Buckets []struct{ Start, Count int64 }
		Total   int `json:"totalCount"`
	}
	more := []any{"timezone", zone.String(), "interval", oneOf(rt, "interval", []string{"auto", "1d", "1w", "1M"})}
	if body["endDate"] == nil { // else there are more than 1,000 days
		more = append(more, "startDate", someDates[0], "endDate", someDates[3])
	}
	b.ask(t, rt, id, "POST", searchPath+"/histogram", with(body, more...), &got)
	sum := int64(0)
	for i, bucket := range got.Buckets {
		n := int64(0)
		for _, e := range want {
			if e.CreatedDate >= bucket.Start && (i+1 == len(got.Buckets) || e.CreatedDate < got.Buckets[i+1].Start) {
				n++
			}
		}
		if bucket.Count != n {
			rt.Fatalf("%+v %v: %+v, want %d at %d", id, body, got, n, bucket.Start)
		}
		sum += n
	}
	if got.Total != len(want) || sum != int64(len(want)) {
		rt.Fatalf("%+v %v: total %d, sum %d, want %d", id, body, got.Total, sum, len(want))
	}
}

func (b *bench) checkExport(t *testing.T, rt *rapid.T, id identity.Identity, body map[string]any, want []audit.Event) {
	slices.SortFunc(want, compare(sqlgen.Sort{}))
	file, status, rows := b.exportAs(t, rt, id, with(body, "columns", []string{"id"}))
	got := strings.Split(strings.TrimSuffix(file, "\r\n"), "\r\n")
	if d := gocmp.Diff(got, append([]string{"Id"}, idsOf(want)...)); d != "" || status != "complete" || rows != fmt.Sprint(len(want)) {
		rt.Fatalf("%+v %v: %s %s (-got +want)\n%s", id, body, status, rows, d)
	}
}

func (b *bench) checkEvent(t *testing.T, rt *rapid.T, id identity.Identity, e audit.Event) {
	w := b.do(t, &id, "GET", "/audit-log/admin/events/"+e.ID, "")
	want := map[bool]int{true: 200, false: 404}[visibility.For(id).Allows(&e)]
	if w.Code != want || want == 200 && !strings.HasPrefix(w.Body.String(), `{"id":"`+e.ID+`",`) {
		rt.Fatalf("%+v %+v: %d %s, want %d", id, e, w.Code, w.Body, want)
	}
}

// checkFields holds that no value is offered: the events are older than the
// default timeframe. TestFieldsOfferWhatTheCallerMaySee has events that are not.
func (b *bench) checkFields(t *testing.T, rt *rapid.T, id identity.Identity) {
	var got facetsAnswer
	b.ask(t, rt, id, "GET", searchPath+"/fields", "", &got)
	for _, f := range got.Fields {
		if len(f.Values) > 0 {
			rt.Fatalf("%+v: %+v", id, f)
		}
	}
}
