package query

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
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
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// insertCalls stores states of calls as ingest does.
func (db *database) insertCalls(t testing.TB, f fatal, states ...audit.APICall) {
	t.Helper()
	if len(states) == 0 {
		return
	}
	batch, err := db.conn.PrepareBatch(t.Context(), "INSERT INTO api_call_events (id, call_id, customer_uuid, module_code, api, method, state, state_rank, reason, submitted_date, updated_date,"+
		" duration_ms, http_status, user_name, user_role, user_uuid, business_unit, client, source_ip, request_id, retention_days)")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range states {
		ip := netip.IPv6Unspecified()
		if c.SourceIP != "" {
			ip = netip.AddrFrom16(netip.MustParseAddr(c.SourceIP).As16())
		}
		if err := batch.Append(uuid.UUID(c.ID()), uuid.MustParse(c.CallID), c.CustomerUUID, c.ModuleCode, c.API, c.Method, c.State, audit.StateRank(c.State), c.Reason,
			time.UnixMilli(c.SubmittedDate), time.UnixMilli(c.UpdatedDate), c.DurationMs, c.HTTPStatus, c.UserName, c.UserRole, c.UserUUID, c.BusinessUnit, c.Client,
			ip, c.RequestID, uint16(retention)); err != nil {
			f.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		f.Fatal(err)
	}
}

// callsAnswer is an answer of the list as a client reads it.
type callsAnswer struct {
	APICalls    []map[string]any `json:"apiCalls"`
	TotalCount  int
	SearchAfter string
}

func (b *bench) callsAs(t testing.TB, f fatal, id identity.Identity, params url.Values) (a callsAnswer) {
	t.Helper()
	b.ask(t, f, id, "GET", callsPath+"?"+params.Encode(), "", &a)
	return a
}

// shownAs is a call as a record shows it.
func shownAs(c audit.APICall) map[string]any {
	m := map[string]any{
		"callId": c.CallID, "customerUuid": c.CustomerUUID, "moduleCode": c.ModuleCode, "api": c.API, "method": c.Method, "state": c.State,
		"submittedDate": float64(c.SubmittedDate), "updatedDate": float64(c.UpdatedDate), "userName": c.UserName, "userRole": c.UserRole,
		"userUuid": c.UserUUID, "client": c.Client, "sourceIp": c.SourceIP,
	}
	for name, v := range map[string]any{"reason": c.Reason, "businessUnit": c.BusinessUnit, "requestId": c.RequestID} {
		if v != "" {
			m[name] = v
		}
	}
	for name, n := range map[string]uint32{"durationMs": c.DurationMs, "httpStatus": c.HTTPStatus} {
		if n > 0 {
			m[name] = float64(n)
		}
	}
	return m
}

var (
	someAPIs       = []string{"audit-log/admin/search", "api/v1/jobs/{id}", "-"}
	someCallDates  = []int64{1750000000000, 1750000000000, 1750003600000, 1750090000000}
	someCallFilter = []string{
		"", "api: jobs", "userName: `-`", "userName: a*", "NOT userName: jack", "state: Blocked*", "httpStatus >= 400", "sourceIp: 10.0.0.0/8", "sourceIp is null",
		"client: curl", "userUuid: `u1`", "businessUnit: `EU`", "updatedDate > 1750003600000", "jack", "userRole: Reader", "durationMs: [1 .. 5]",
	}
	someHistories = [][]string{
		{audit.StateRunning, audit.StateFinished}, {audit.StateQueued, audit.StateRunning, audit.StateExpired}, {audit.StateBlockedRate},
		{audit.StateRunning, audit.StateExpired, audit.StateFinished}, {audit.StateRunning}, {audit.StateQueued, audit.StateBlockedConcurrency},
	}
)

// someCalls draws calls: all their states, as they followed.
func someCalls(rt *rapid.T, customers []string) (calls [][]audit.APICall) {
	for range rapid.IntRange(0, 16).Draw(rt, "calls") {
		dates := []int64{oneOf(rt, "date", someCallDates), oneOf(rt, "date", someCallDates), oneOf(rt, "date", someCallDates)}
		slices.Sort(dates)
		c := audit.APICall{
			CallID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "id")).String(), CustomerUUID: oneOf(rt, "customer", customers), ModuleCode: "PM",
			API: oneOf(rt, "api", someAPIs), Method: "GET", SubmittedDate: dates[0], UserName: oneOf(rt, "name", []string{"jack", "Ada", "-", ""}),
			UserUUID: oneOf(rt, "user", []string{"", "u1", "u2"}), UserRole: "Reader", BusinessUnit: oneOf(rt, "unit", []string{"", "EU", "US"}), Client: "curl/8",
			SourceIP: oneOf(rt, "address", []string{"", "10.1.2.3", "2001:db8::1"}), RequestID: "r",
		}
		var states []audit.APICall
		for i, state := range oneOf(rt, "history", someHistories) {
			c.State, c.UpdatedDate, c.DurationMs, c.HTTPStatus = state, dates[i], uint32(i*5), uint32(i*200)
			states = append(states, c)
		}
		calls = append(calls, states)
	}
	return calls
}

// TestTheListOfCallsShowsWhatTheViewerMaySee is the differential test of API
// calls: whoever asks, for whatever, in pages, as a file, one by one and summed
// up, it is what visibility.Calls.Show and qql.CompileCall let through.
func TestTheListOfCallsShowsWhatTheViewerMaySee(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		customers := []string{fmt.Sprintf("c%d", round), fmt.Sprintf(`c%d'\`, round)}
		restrict := rapid.Bool().Draw(rt, "restrict")
		for _, c := range customers {
			b.put(t, identity.Identity{CustomerUUID: c, UserUUID: "m", Role: identity.RoleManager, Tier: identity.TierPremium}, fmt.Sprintf(`{"restrictUserInformation":%t}`, restrict))
		}
		calls := someCalls(rt, customers)
		for _, states := range calls {
			late := slices.Clone(states)
			slices.Reverse(late)
			db.insertCalls(t, rt, late...) // in the wrong order
		}
		id := identity.Identity{
			CustomerUUID: oneOf(rt, "caller's customer", customers), UserUUID: oneOf(rt, "caller", []string{"u1", "u2"}), Name: oneOf(rt, "caller's name", []string{"jack", "Ada", ""}),
			Role: oneOf(rt, "role", identity.Roles), Tier: oneOf(rt, "tier", identity.Tiers), ViewAll: rapid.IntRange(0, 9).Draw(rt, "viewAll") == 0,
			BusinessUnits: rapid.SliceOfN(rapid.SampledFrom([]string{"", "EU", "US"}), 0, 2).Draw(rt, "units"),
		}
		if id.Tier == identity.TierExpressLite {
			b.refusesLite(t, rt, id)
			return
		}
		see := visibility.ForCalls(id, restrict)
		params, holds := someCallQuery(rt)
		var want []audit.APICall
		for _, states := range calls {
			if shown, ok := see.Show(&states[len(states)-1]); ok && holds(&shown) {
				want = append(want, shown)
			}
		}
		b.checkCallWalk(t, rt, id, params, want)
		b.checkCallFile(t, rt, id, params, want)
		for _, states := range calls {
			b.checkCall(t, rt, id, see, states)
		}
	})
}

// someCallQuery draws what is asked for, and what decides it in memory.
func someCallQuery(rt *rapid.T) (url.Values, func(*audit.APICall) bool) {
	params := url.Values{"startDate": {"0"}}
	var start, end int64 = 0, 1 << 60
	if rapid.Bool().Draw(rt, "dated") {
		start, end = someCallDates[rapid.IntRange(0, 2).Draw(rt, "start")], someCallDates[rapid.IntRange(2, 3).Draw(rt, "end")]
		params.Set("startDate", fmt.Sprint(start))
		params.Set("endDate", fmt.Sprint(end))
	}
	query := oneOf(rt, "qql", someCallFilter)
	if query != "" {
		params.Set("qql", query)
	}
	among := map[string][]string{}
	for name, values := range map[string][]string{"state": {"finished", "Blocked (Rate)", "Expired"}, "api": someAPIs, "userName": {"JACK", "-"}, "userUuid": {"u1", "-"}, "moduleCode": {"pm"}} {
		if rapid.IntRange(0, 4).Draw(rt, name) == 0 {
			among[name] = rapid.SliceOfNDistinct(rapid.SampledFrom(values), 1, 2, rapid.ID[string]).Filter(func(v []string) bool { return len(v) <= len(values) }).Draw(rt, name)
			params[name] = among[name]
		}
	}
	x, err := qql.Parse(field.Calls, query)
	if err != nil {
		rt.Fatal(query, err)
	}
	matches := qql.CompileCall(x, time.Now())
	return params, func(c *audit.APICall) bool {
		for name, value := range map[string]string{"state": c.State, "api": c.API, "userName": c.UserName, "userUuid": c.UserUUID, "moduleCode": c.ModuleCode} {
			same := strings.EqualFold
			if name == "userUuid" {
				same = func(a, b string) bool { return a == b }
			}
			if values := among[name]; values != nil && !slices.ContainsFunc(values, func(v string) bool { return same(v, value) }) {
				return false
			}
		}
		in := func(at int64) bool { return at >= start && at <= end }
		return matches(c) && (in(c.SubmittedDate) || in(c.UpdatedDate))
	}
}

func (b *bench) checkCallWalk(t *testing.T, rt *rapid.T, id identity.Identity, params url.Values, want []audit.APICall) {
	newest := func(a, b audit.APICall) int {
		return cmp.Or(cmp.Compare(b.SubmittedDate, a.SubmittedDate), strings.Compare(b.CallID, a.CallID))
	}
	order := newest
	sorted := url.Values{}
	for name, v := range params {
		sorted[name] = v
	}
	switch oneOf(rt, "sort", []string{"", "userName", "userName:desc", "updatedDate:desc", "submittedDate:asc"}) {
	case "userName":
		sorted.Set("sort", "userName")
		order = func(a, b audit.APICall) int { return cmp.Or(strings.Compare(a.UserName, b.UserName), newest(a, b)) }
	case "userName:desc":
		sorted.Set("sort", "userName:desc")
		order = func(a, b audit.APICall) int { return cmp.Or(strings.Compare(b.UserName, a.UserName), newest(a, b)) }
	case "updatedDate:desc":
		sorted.Set("sort", "updatedDate:desc")
		order = func(a, b audit.APICall) int { return cmp.Or(cmp.Compare(b.UpdatedDate, a.UpdatedDate), newest(a, b)) }
	case "submittedDate:asc":
		sorted.Set("sort", "submittedDate")
		order = func(a, b audit.APICall) int {
			return cmp.Or(cmp.Compare(a.SubmittedDate, b.SubmittedDate), strings.Compare(b.CallID, a.CallID))
		}
	}
	slices.SortFunc(want, order)
	var shown, got []map[string]any
	for _, c := range want {
		shown = append(shown, shownAs(c))
	}
	for {
		sorted.Set("pageSize", fmt.Sprint(rapid.IntRange(2, 9).Draw(rt, "pageSize")))
		a := b.callsAs(t, rt, id, sorted)
		if a.TotalCount != len(want) {
			rt.Fatalf("%+v %v: total %d, want %d", id, sorted, a.TotalCount, len(want))
		}
		got = append(got, a.APICalls...)
		if a.SearchAfter == "" {
			break
		}
		sorted.Set("searchAfter", a.SearchAfter)
	}
	if d := gocmp.Diff(got, shown); d != "" {
		rt.Fatalf("%+v %v (-got +want)\n%s", id, sorted, d)
	}
}

func (b *bench) checkCallFile(t *testing.T, rt *rapid.T, id identity.Identity, params url.Values, want []audit.APICall) {
	w := b.do(t, &id, "GET", callsPath+"?"+params.Encode(), "", "Accept", "text/csv")
	if w.Code != 200 || w.Result().Trailer.Get(exportStatus) != "complete" {
		rt.Fatal(w.Code, params, w.Body, w.Result().Trailer)
	}
	rows, err := csv.NewReader(w.Body).ReadAll()
	if err != nil {
		rt.Fatal(err)
	}
	var got, shown []string
	at := func(name string) int { return slices.Index(rows[0], name) }
	for _, row := range rows[1:] {
		got = append(got, row[at("Call Id")]+" "+row[at("User Name")]+" "+row[at("Source Ip")])
	}
	slices.SortFunc(want, func(a, b audit.APICall) int {
		return cmp.Or(cmp.Compare(b.SubmittedDate, a.SubmittedDate), strings.Compare(b.CallID, a.CallID))
	})
	for _, c := range want {
		shown = append(shown, c.CallID+" "+c.UserName+" "+c.SourceIP)
	}
	if d := gocmp.Diff(got, shown); d != "" {
		rt.Fatalf("%+v %v (-got +want)\n%s", id, params, d)
	}
}

func (b *bench) checkCall(t *testing.T, rt *rapid.T, id identity.Identity, see visibility.Calls, states []audit.APICall) {
	w := b.do(t, &id, "GET", callsPath+"/"+states[0].CallID, "")
	shown, ok := see.Show(&states[len(states)-1])
	if !ok {
		if w.Code != 404 {
			rt.Fatalf("%+v sees %d %s", id, w.Code, w.Body)
		}
		return
	}
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		rt.Fatal(err, w.Code, w.Body)
	}
	var history []string
	for _, h := range got["history"].([]any) {
		history = append(history, h.(map[string]any)["state"].(string))
	}
	delete(got, "history")
	var want []string
	for _, s := range states {
		want = append(want, s.State)
	}
	if d := gocmp.Diff(got, shownAs(shown)) + gocmp.Diff(history, want); d != "" {
		rt.Fatalf("%+v (-got +want)\n%s", id, d)
	}
}

func (b *bench) refusesLite(t *testing.T, rt *rapid.T, id identity.Identity) {
	for _, path := range []string{"", "/summary", "/" + uuid.NewString(), "?format=csv"} {
		if w := b.do(t, &id, "GET", callsPath+path, ""); w.Code != 403 || !strings.Contains(w.Body.String(), "Recent API Calls is not available to Express Lite users") {
			rt.Fatal(path, w.Code, w.Body)
		}
	}
}

func TestWhatIsPreferredIsAnswered(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/csv": true, "Text/CSV; header=present": true, "text/csv;q=0.5, */*;q=0.1": true,
		"application/json, text/csv": false, "application/json, text/csv;q=0.1": false, "text/csv, application/json;q=0.9": true, "text/csv;q=0.0": false, "text/csv;q=0": false,
	} {
		for query, want := range map[string]bool{"": want, "?format=": want, "?format=csv": true, "?format=json": false} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, callsPath+query, nil)
			r.Header.Set("Accept", accept)
			if got := wantsCSV(r); got != want {
				t.Errorf("%q %q: %v", accept, query, got)
			}
		}
	}
}

// TestWhatClocksSayDoesNotChangeTheHistory: a call ends after it ran, also where
// the clock was set back meanwhile.
func TestWhatClocksSayDoesNotChangeTheHistory(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now().UnixMilli()
	c := audit.APICall{CallID: uuid.NewString(), CustomerUUID: standard.CustomerUUID, ModuleCode: "PM", API: "a", State: audit.StateRunning, UserName: "jack", SubmittedDate: now, UpdatedDate: now}
	ended := c
	ended.State, ended.UpdatedDate, ended.HTTPStatus = audit.StateFinished, now-5000, 200
	db.insertCalls(t, t, ended, c)
	var a struct {
		State   string
		History []struct{ State string }
	}
	b.ask(t, t, standard, "GET", callsPath+"/"+c.CallID, "", &a)
	if got := fmt.Sprint(a); got != "{Finished [{Running} {Finished}]}" {
		t.Errorf("got %s", got)
	}
}

// TestAWalkShowsEveryCallOnce: newest first, whatever becomes of them meanwhile.
func TestAWalkShowsEveryCallOnce(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now().UnixMilli()
	calls := make([]audit.APICall, 7)
	for i := range calls {
		calls[i] = audit.APICall{CallID: uuid.NewString(), CustomerUUID: standard.CustomerUUID, ModuleCode: "PM", API: "a", State: audit.StateRunning, UserName: "jack", SubmittedDate: now - int64(i), UpdatedDate: now}
	}
	db.insertCalls(t, t, calls...)
	var got, want []string
	params := url.Values{"pageSize": {"2"}}
	for page := 0; page == 0 || params.Get("searchAfter") != ""; page++ {
		a := b.callsAs(t, t, standard, params)
		for _, c := range a.APICalls {
			got = append(got, c["callId"].(string))
		}
		params.Set("searchAfter", a.SearchAfter)
		for i := page; i < len(calls); i += 2 { // of those that were shown, and of others
			ended := calls[i]
			ended.State, ended.UpdatedDate = audit.StateFinished, now+int64(page)
			db.insertCalls(t, t, ended)
		}
	}
	for _, c := range calls {
		want = append(want, c.CallID)
	}
	if d := gocmp.Diff(got, want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

// TestASummaryIsThereWithoutCounters: only what is left of limits is not told.
func TestASummaryIsThereWithoutCounters(t *testing.T) {
	b := newLimitedBench(t, newDatabase(t).cfg, nil, func(c *Config) { c.RedisURL = "redis://user:hunter2@127.0.0.1:1" })
	w := b.do(t, &standard, "GET", callsPath+"/summary", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"states":{}`) || !strings.Contains(w.Body.String(), `"budgets":null`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if b.logs.FilterMessageSnippet("what is left of the limits is not told").Len() != 1 {
		t.Errorf("logged: %v", b.logs.All())
	}
	for _, e := range b.logs.All() {
		if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), "hunter2") {
			t.Errorf("a secret in the log: %v", e)
		}
	}
}

func TestCallsOfThePastWeekAreTheDefault(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now()
	call := func(submitted, updated int) audit.APICall {
		return audit.APICall{
			CallID: uuid.NewString(), CustomerUUID: standard.CustomerUUID, ModuleCode: "PM", API: "a", State: audit.StateFinished, UserName: "jack",
			SubmittedDate: now.AddDate(0, 0, -submitted).UnixMilli(), UpdatedDate: now.AddDate(0, 0, -updated).UnixMilli(),
		}
	}
	db.insertCalls(t, t, call(1, 1), call(10, 3), call(10, 9))
	var a struct {
		callsAnswer
		StartDate     int64
		TimeframeDays int
	}
	b.ask(t, t, standard, "GET", callsPath, "", &a)
	if a.TotalCount != 2 || a.TimeframeDays != 7 || a.StartDate < now.AddDate(0, 0, -7).UnixMilli() || a.StartDate > now.AddDate(0, 0, -7).Add(time.Minute).UnixMilli() {
		t.Errorf("got %+v", a)
	}
	b.ask(t, t, standard, "GET", callsPath+"?startDate=0", "", &a)
	if a.TotalCount != 3 {
		t.Errorf("since ever: %+v", a)
	}
}

func TestWrongParametersAreNamed(t *testing.T) {
	b := newBench(t, away(t), nil)
	for query, want := range map[string][]string{
		"?State=Finished":                       {`"field":"State"`, "did you mean state"},
		"?states=Finished":                      {"did you mean state"},
		"?start_date=1":                         {"did you mean startDate"},
		"?user=jack":                            {"did you mean userName"},
		"?colour=red":                           {"is not known; known are qql, startDate"},
		"?state=Blocked":                        {`"field":"state"`, "must be one of Queued, Running"},
		"?format=xlsx&pageSize=201&sort=no":     {`"field":"format"`, `"field":"pageSize"`, `"field":"sort.field"`},
		"?pageSize=5&pageSize=6":                {"given more than once"},
		"?format=csv&pageSize=5":                {"does not go with CSV"},
		"?startDate=1750000000":                 {"looks like seconds"},
		"?startDate=1750000000001&endDate=0":    {"must not be after endDate"},
		"?qql=colour:red":                       {`"field":"qql"`},
		"?searchAfter=x":                        {`"field":"searchAfter"`},
		"?userName=%ff&sort=%c3(":               {`"field":"userName"`, `"field":"sort"`, "must be UTF-8"},
		"?colour%ff=red":                        {"is not known"},
		"?api=" + strings.Repeat("x", 600):      {`"field":"api"`},
		"/summary?interval=2d&timezone=x&top=1": {`"field":"interval"`, `"field":"timezone"`, `"field":"top"`},
		"/no-uuid":                              {`"field":"callId"`},
		"/" + uuid.NewString() + "?pageSize=1":  {`"field":"pageSize"`, "there are none here"},
		"?%zz":                                  {"The query of the URL is broken"},
	} {
		w := b.do(t, &standard, "GET", callsPath+query, "")
		for _, part := range want {
			if w.Code != 400 || !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: %d %s, want %s", query, w.Code, w.Body, part)
			}
		}
	}
}

func TestTheSummaryOfCalls(t *testing.T) {
	db := newDatabase(t)
	b := newLimitedBench(t, db.cfg, nil, nil)
	at := time.Now().Add(-time.Hour).UnixMilli()
	call := func(state, api, user, unit string) audit.APICall {
		return audit.APICall{CallID: uuid.NewString(), CustomerUUID: standard.CustomerUUID, ModuleCode: "PM", API: api, State: state, UserName: user, UserUUID: user, BusinessUnit: unit, SubmittedDate: at, UpdatedDate: at}
	}
	db.insertCalls(t, t, call(audit.StateFinished, "a", "ada", "US"), call(audit.StateBlockedRate, "a", "ada", "US"), call(audit.StateBlockedRate, "b", "bob", "EU"), call(audit.StateBlockedConcurrency, "b", "bob", "EU"))
	b.put(t, standard, `{"restrictUserInformation":true}`)
	reader := standard
	reader.Role, reader.BusinessUnits = identity.RoleReader, []string{"EU"}
	var a struct {
		States                    map[string]int
		TotalCount, TimeframeDays int
		Buckets                   []struct {
			Count  int
			States map[string]int
		}
		BlockedApis, BlockedUsers struct {
			Values []struct {
				Value string
				Count int
			}
		}
		Budgets []struct {
			API              string
			Calls, Remaining *int
		}
	}
	b.ask(t, t, reader, "GET", callsPath+"/summary", "", &a)
	states := map[string]int{"Finished": 1, "Blocked (Rate)": 2, "Blocked (Concurrency)": 1}
	if d := gocmp.Diff(a.States, states); d != "" || a.TotalCount != 4 || a.TimeframeDays != 7 {
		t.Errorf("%+v\n%s", a, d)
	}
	sum := map[string]int{}
	for _, bucket := range a.Buckets {
		for state, n := range bucket.States {
			sum[state] += n
		}
	}
	if d := gocmp.Diff(sum, states); d != "" {
		t.Errorf("buckets\n%s", d)
	}
	if got := fmt.Sprint(a.BlockedApis.Values, a.BlockedUsers.Values); got != "[{b 2} {a 1}] [{bob 2} {- 1}]" {
		t.Errorf("blocked: %s", got)
	}
	left := map[string]string{}
	for _, budget := range a.Budgets {
		if budget.Calls != nil {
			left[budget.API] = fmt.Sprint(*budget.Calls, *budget.Remaining)
		}
	}
	if left["audit-log/admin/api-calls/summary"] != "1 299" || left["audit-log/admin/settings"] != "1 299" || left["audit-log/admin/search"] != "0 300" || left["audit-log/admin/limits"] != "" {
		t.Errorf("budgets: %v", left)
	}
}
