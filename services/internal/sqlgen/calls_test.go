package sqlgen_test

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
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

// who are the names, ids and units of callers and viewers: few, so that they meet.
var who = []string{"", "a", "A", "it's", `\N`, "-", "ΟΔΟΣ", "οδος", "tab\tnew\nline"}

var reader = identity.Identity{CustomerUUID: "c1", UserUUID: "a", Name: "A", Role: identity.RoleReader, BusinessUnits: []string{"it's", "", "-"}}

// someCalls draws the states of n calls, most of customer c1, in the order in
// which they came into them.
func someCalls(n int) [][]audit.APICall {
	return rapid.Custom(func(t *rapid.T) [][]audit.APICall {
		text := func() string { return pick(t, nastyTexts) }
		calls := make([][]audit.APICall, n)
		for i := range calls {
			times := []int64{pick(t, instants), pick(t, instants), pick(t, instants)}
			slices.Sort(times)
			states := [][]string{
				{audit.StateFinished}, {audit.StateRunning}, {audit.StateRunning, audit.StateFinished}, {audit.StateQueued, audit.StateRunning, audit.StateExpired},
				{audit.StateRunning, audit.StateExpired, audit.StateFinished}, {audit.StateBlockedRate}, {audit.StateQueued, audit.StateBlockedConcurrency},
			}[rapid.IntRange(0, 6).Draw(t, "states")]
			c := audit.APICall{
				CallID: eventID(i).String(), CustomerUUID: pick(t, []string{"c1", "c1", "c1", "c2"}), ModuleCode: text(), API: text(), Method: text(),
				SubmittedDate: times[0], UserName: pick(t, who), UserRole: text(), UserUUID: pick(t, who), BusinessUnit: pick(t, who), Client: text(),
				SourceIP: pick(t, addresses), RequestID: text(),
			}
			for j, state := range states {
				c.State, c.UpdatedDate, c.Reason, c.DurationMs, c.HTTPStatus = state, times[j], text(), pick(t, numbers), pick(t, numbers)
				calls[i] = append(calls[i], c)
			}
		}
		return calls
	}).Example(1)
}

// latestOf are the latest states of calls.
func latestOf(calls [][]audit.APICall) []audit.APICall {
	latest := make([]audit.APICall, len(calls))
	for i, states := range calls {
		latest[i] = states[len(states)-1]
	}
	return latest
}

// insertCalls stores states of calls as ingest does.
func insertCalls(t testing.TB, conn driver.Conn, calls []audit.APICall) {
	t.Helper()
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO api_call_events (id, call_id, customer_uuid, module_code, api, method, state, state_rank, reason, submitted_date, updated_date,"+
		" duration_ms, http_status, user_name, user_role, user_uuid, business_unit, client, source_ip, request_id, retention_days)")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		ip := netip.IPv6Unspecified()
		if c.SourceIP != "" {
			ip = netip.AddrFrom16(netip.MustParseAddr(c.SourceIP).As16())
		}
		if err := batch.Append(uuid.New(), uuid.MustParse(c.CallID), c.CustomerUUID, c.ModuleCode, c.API, c.Method, c.State, audit.StateRank(c.State), c.Reason,
			time.UnixMilli(c.SubmittedDate), time.UnixMilli(c.UpdatedDate), c.DurationMs, c.HTTPStatus, c.UserName, c.UserRole, c.UserUUID, c.BusinessUnit, c.Client,
			ip, c.RequestID, uint16(25000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}

// storeCalls stores all states, late ones before early ones and some twice, some
// merged and some not.
func storeCalls(t testing.TB, conn driver.Conn, calls [][]audit.APICall) {
	t.Helper()
	for _, merged := range []bool{true, false} {
		for nth := 2; nth >= 0; nth-- {
			var part []audit.APICall
			for i, states := range calls {
				if (i%2 == 0) == merged && nth < len(states) {
					part = append(part, states[nth])
					if i%5 == 0 {
						part = append(part, states[len(states)-1])
					}
				}
			}
			insertCalls(t, conn, part)
		}
		if merged {
			if err := conn.Exec(t.Context(), "OPTIMIZE TABLE api_calls FINAL"); err != nil {
				t.Fatal(err)
			}
		} else if err := conn.Exec(t.Context(), "SYSTEM STOP MERGES api_calls"); err != nil {
			t.Fatal(err)
		}
	}
}

// scanCall reads a row of a call: as it is shown.
func scanCall(r driver.Rows) (c audit.APICall, hidden bool, err error) {
	var id uuid.UUID
	var submitted, updated time.Time
	var ip net.IP
	err = r.Scan(&id, &c.CustomerUUID, &c.ModuleCode, &c.API, &c.Method, &c.State, &c.Reason, &submitted, &updated, &c.DurationMs, &c.HTTPStatus,
		&c.UserName, &c.UserRole, &c.UserUUID, &c.BusinessUnit, &c.Client, &ip, &c.RequestID, &hidden)
	c.CallID, c.SubmittedDate, c.UpdatedDate = id.String(), submitted.UnixMilli(), updated.UnixMilli()
	if a, _ := netip.AddrFromSlice(ip.To16()); !a.IsUnspecified() {
		c.SourceIP = a.Unmap().String()
	}
	if hidden {
		if c.SourceIP != "" {
			return c, hidden, fmt.Errorf("a hidden address is %s", c.SourceIP)
		}
		c.SourceIP = visibility.Hidden
	}
	return c, hidden, err
}

func calls(t testing.TB, conn driver.Conn, s sqlgen.Statement) (calls []audit.APICall, hidden int) {
	t.Helper()
	query(t, conn, s, func(r driver.Rows) error {
		c, hides, err := scanCall(r)
		calls = append(calls, c)
		if hides {
			hidden++
		}
		return err
	})
	return calls, hidden
}

// someone draws a viewer.
func someone(t *rapid.T) identity.Identity {
	return identity.Identity{
		CustomerUUID: "c1", UserUUID: pick(t, who[1:]), Name: pick(t, who), Role: pick(t, identity.Roles),
		BusinessUnits: rapid.SliceOfN(rapid.SampledFrom(who), 0, 3).Draw(t, "units"), ViewAll: rapid.IntRange(0, 9).Draw(t, "viewAll") == 0,
	}
}

// asStored is a call as the table gives it back.
func asStored(c audit.APICall) audit.APICall {
	if a, err := netip.ParseAddr(c.SourceIP); err == nil {
		if c.SourceIP = a.Unmap().String(); a == netip.IPv6Unspecified() {
			c.SourceIP = ""
		}
	}
	return c
}

// TestCallsOfSQLAndOfMemoryAreTheSame holds SQL to Calls.Show, qql.CompileCall
// and the latest states on the engine: any viewer gets the same calls, shown the
// same, of any condition on what is shown, and of any time.
func TestCallsOfSQLAndOfMemoryAreTheSame(t *testing.T) {
	conn := open(t)
	all := someCalls(600)
	storeCalls(t, conn, all)
	found, hidden, trials := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		see := visibility.ForCalls(someone(rt), rapid.Bool().Draw(rt, "restrict"))
		f := sqlgen.Filter{Where: trees{T: rt, of: field.Calls}.expr(rapid.IntRange(0, 2).Draw(rt, "depth")), Now: now, Updated: rapid.Bool().Draw(rt, "updated")}
		if rapid.Bool().Draw(rt, "everything") {
			f.Where = nil
		}
		if rapid.Bool().Draw(rt, "start") {
			at := pick(rt, instants)
			f.Start = &at
		}
		if rapid.Bool().Draw(rt, "end") {
			at := pick(rt, instants)
			f.End = &at
		}
		holds := qql.CompileCall(f.Where, now)
		in := func(at int64) bool { return (f.Start == nil || *f.Start <= at) && (f.End == nil || at <= *f.End) }
		var want []audit.APICall
		for _, c := range latestOf(all) {
			if shown, ok := see.Show(&c); ok && holds(&shown) && (in(c.SubmittedDate) || f.Updated && in(c.UpdatedDate)) {
				want = append(want, asStored(shown))
			}
		}
		slices.SortFunc(want, func(a, b audit.APICall) int {
			return cmp.Or(cmp.Compare(b.SubmittedDate, a.SubmittedDate), strings.Compare(b.CallID, a.CallID))
		})
		stmt := sqlgen.Rows(see, f, sqlgen.Page{Limit: 1000})
		got, hides := calls(t, conn, stmt)
		if d := gocmp.Diff(got, want); d != "" {
			rt.Fatalf("%s\n%v\n%v\ncalls (-SQL +memory)\n%s", f.Where, stmt.SQL(), stmt.Params(), d)
		}
		var n uint64
		query(t, conn, sqlgen.Count(see, f), func(r driver.Rows) error { return r.Scan(&n) })
		if n != uint64(len(want)) {
			rt.Fatalf("counted %d of %d", n, len(want))
		}
		trials, found, hidden = trials+1, found+len(got), hidden+hides
	})
	t.Logf("%d trees, %d calls found, %d of them hidden", trials, found, hidden)
	if hidden == 0 || hidden == found {
		t.Error("either nothing is hidden or everything")
	}
}

// TestOneCall holds that the history of a call comes in order, each state once,
// shown as the viewer sees them.
func TestOneCall(t *testing.T) {
	conn := open(t)
	all := someCalls(25)
	storeCalls(t, conn, all)
	for _, see := range []visibility.Calls{visibility.ForCalls(reader, true), visibility.ForCalls(reader, false), {}} {
		for _, states := range all {
			var want []audit.APICall
			for _, c := range states {
				if shown, ok := see.Show(&c); ok {
					want = append(want, asStored(shown))
				}
			}
			id := uuid.MustParse(states[0].CallID)
			history, _ := calls(t, conn, sqlgen.History(see, id))
			if d := gocmp.Diff(history, want); d != "" {
				t.Fatalf("history (-got +want)\n%s", d)
			}
		}
	}
}

// TestACallToldWithTwoDates, against the contract, has a row for each; alone it
// is shown in its latest state all the same.
func TestACallToldWithTwoDates(t *testing.T) {
	t.Parallel()
	conn := open(t)
	var all []audit.APICall
	for i, later := range []int64{1000, -1000} {
		running := audit.APICall{CallID: eventID(i).String(), CustomerUUID: "c1", State: audit.StateRunning, SubmittedDate: instants[0], UpdatedDate: instants[0]}
		finished := running
		finished.State, finished.SubmittedDate, finished.UpdatedDate = audit.StateFinished, running.SubmittedDate+later, running.UpdatedDate+2000
		all = append(all, running, finished)
	}
	insertCalls(t, conn, all)
	for i := range 2 {
		got, _ := calls(t, conn, sqlgen.History(visibility.ForCalls(reader, false), eventID(i)))
		if len(got) != 2 || got[1].State != audit.StateFinished {
			t.Errorf("call %d: got %+v, want it Running, then Finished", i, got)
		}
	}
}

// TestPagesOfCalls holds that pages behind positions, in any order, are those of
// one long answer, which has every call once and is in order.
func TestPagesOfCalls(t *testing.T) {
	conn := open(t)
	storeCalls(t, conn, someCalls(100))
	see := visibility.ForCalls(reader, true)
	all, _ := calls(t, conn, sqlgen.Rows(see, sqlgen.Filter{}, sqlgen.Page{Limit: 1000}))
	for i := range field.Calls.Fields {
		s := sqlgen.Sort{Field: &field.Calls.Fields[i], Ascending: i%2 == 0}
		long, _ := calls(t, conn, sqlgen.Rows(see, sqlgen.Filter{}, sqlgen.Page{Sort: s, Limit: 1000}))
		seen := map[string]bool{}
		for j, c := range long {
			seen[c.CallID] = true
			if value := positionOf(c, s).Value; j > 0 && s.Field.Type != field.Address && s.Field.Type != field.Number {
				if before := positionOf(long[j-1], s).Value; before != value && (before < value) != s.Ascending {
					t.Fatalf("%s: %q comes before %q", s.Field.Name, before, value)
				}
			}
		}
		if len(seen) != len(all) || len(long) != len(all) {
			t.Fatalf("%s: %d calls, %d different ones, want %d", s.Field.Name, len(long), len(seen), len(all))
		}
		var walked []audit.APICall
		page := sqlgen.Page{Sort: s, Limit: 17}
		for range len(all) {
			next, _ := calls(t, conn, sqlgen.Rows(see, sqlgen.Filter{}, page))
			if len(next) == 0 {
				break
			}
			walked = append(walked, next...)
			page.After = positionOf(next[len(next)-1], s)
		}
		if d := gocmp.Diff(walked, long); d != "" {
			t.Fatalf("%s: (-pages +at once)\n%s", s.Field.Name, d)
		}
	}
}
