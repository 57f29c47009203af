package query

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// TestAWalkIsStableWhileEventsArrive walks while events are stored in front of
// it, behind it and around where it stands: every event of the beginning comes
// once, and the total stays that of the beginning.
func TestAWalkIsStableWhileEventsArrive(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now().UnixMilli()
	store := func(n int) (ids []string) {
		events := make([]audit.Event, n)
		for i := range events {
			events[i] = audit.Event{
				ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: now - int64(i%7), UserName: fmt.Sprint("user ", i%3),
				Action: "Add",
			}
			ids = append(ids, events[i].ID)
		}
		db.insert(t, t, events...)
		return ids
	}
	for _, body := range []string{`{}`, `{"sort":{"field":"userName"}}`, `{"sort":{"field":"USERNAME","order":"desc"}}`, `{"sort":{"field":"createdDate","order":"asc"}}`} {
		first := store(50)
		var total int64
		seen := map[string]int{}
		for after := ""; ; {
			members := map[string]any{}
			if err := json.Unmarshal([]byte(body), &members); err != nil {
				t.Fatal(err)
			}
			a := b.searchAs(t, t, manager, with(members, "pageSize", 8, "searchAfter", after))
			if total == 0 {
				total = a.TotalCount
			}
			if a.TotalCount != total {
				t.Errorf("%s: total %d, then %d", body, total, a.TotalCount)
			}
			for _, id := range a.ids() {
				if seen[id]++; seen[id] > 1 {
					t.Errorf("%s: %s came twice", body, id)
				}
			}
			if after = a.SearchAfter; after == "" {
				break
			}
			if len(seen) < 40 {
				store(9)
			}
		}
		for _, id := range first {
			if seen[id] != 1 {
				t.Errorf("%s: %s came %d times", body, id, seen[id])
			}
		}
	}
}

// TestACursorPinsTheMoment resumes a walk that began a year ago without dates:
// the default timeframe is that of its beginning, whatever was chosen since.
func TestACursorPinsTheMoment(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	began := time.Now().AddDate(-1, 0, 0)
	old := audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: began.AddDate(0, 0, -20).UnixMilli()}
	older := audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: began.AddDate(0, 0, -40).UnixMilli()}
	db.insert(t, t, old, older)
	print, err := fingerprint(visibility.For(manager), &asked{of: field.Events}, sqlgen.Sort{})
	if err != nil {
		t.Fatal(err)
	}
	for days, want := range map[int][]string{30: {old.ID}, 90: {old.ID, older.ID}} {
		text, err := cursor{Query: print, Now: began.UnixMilli(), Days: days, Total: 7, Date: began.UnixMilli(), ID: uuid.Max}.encode()
		if err != nil {
			t.Fatal(err)
		}
		a := b.searchAs(t, t, manager, `{"searchAfter":"`+text+`"}`)
		if d := cmp.Diff(a.ids(), want); d != "" || a.TotalCount != 7 {
			t.Errorf("%d days: total %d (-got +want)\n%s", days, a.TotalCount, d)
		}
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	for range 3 {
		for _, customer := range []string{"tenant-one", "tenant-two"} {
			db.insert(t, t, audit.Event{ID: uuid.NewString(), CustomerUUID: customer, UserUUID: "u1", CreatedDate: time.Now().UnixMilli()})
		}
	}
	after := b.searchAs(t, t, manager, `{"pageSize":1}`).SearchAfter
	if after == "" {
		t.Fatal("no cursor")
	}
	// edited is the cursor with a member replaced.
	edited := func(name string, value any) string {
		raw, err := base64.RawURLEncoding.DecodeString(after)
		if err != nil {
			t.Fatal(err)
		}
		members := map[string]any{}
		if err := json.Unmarshal(raw, &members); err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(with(members, name, value)))
	}
	another, reader, lite := manager, manager, manager
	another.CustomerUUID = "tenant-two"
	reader.Role = identity.RoleReader
	lite.Tier = identity.TierExpressLite
	for _, c := range []struct {
		id           identity.Identity
		more         string
		after, wants string
	}{
		{manager, ``, after, ""},
		{lite, ``, after, ""},
		{manager, `"pageSize":200,"view":"activity-log","pageNumber":0,`, after, ""},
		{another, ``, after, "another caller"},
		{reader, ``, after, "another caller"},
		{manager, `"startDate":0,`, after, "other dates"},
		{manager, `"where":[{"field":"action","operator":"is","value":"Add"}],`, after, "another query"},
		{manager, `"qql":"action: Add",`, after, "another query"},
		{manager, `"sort":{"field":"createdDate","order":"asc"},`, after, "another sort"},
		{manager, `"pageNumber":1,`, after, "pageNumber"},
		{manager, ``, after + "x", "leave it out"},
		{manager, ``, "x", "leave it out"},
		{manager, ``, "e30", "another version"},
		{manager, ``, "bnVsbA", "version"},
		{manager, ``, "W10", "leave it out"},
		{manager, ``, strings.Repeat("A", 2001), "2000"},
		{manager, ``, edited("v", 2), "another version"},
		{manager, ``, edited("x", 2), "leave it out"},
		{manager, ``, edited("q", "AAAA"), "another query"},
		{manager, ``, edited("w", 0), "leave it out"},
		{manager, ``, edited("w", -1), "leave it out"},
		{manager, ``, edited("w", 1<<40), "leave it out"},
		{manager, ``, edited("t", 0), "leave it out"},
		{manager, ``, edited("t", 1<<62), "leave it out"},
		{manager, ``, edited("d", -1<<62), "leave it out"},
		{manager, ``, edited("n", -1), "leave it out"},
		{manager, ``, edited("s", "AAAA"), "leave it out"},
		{manager, ``, edited("i", "' OR 1=1"), "leave it out"},
	} {
		id := c.id
		w := b.do(t, &id, "POST", searchPath, `{`+c.more+`"searchAfter":"`+c.after+`"}`)
		if c.wants == "" {
			if w.Code != 200 {
				t.Errorf("%s: %d %s", c.more, w.Code, w.Body)
			}
			continue
		}
		var doc problem.Document
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if w.Code != 400 || len(doc.Errors) != 1 || doc.Errors[0].Field != "searchAfter" || !strings.Contains(doc.Errors[0].Message, c.wants) {
			t.Errorf("%s %.40s: %d %s, want %q", c.more, c.after, w.Code, w.Body, c.wants)
		}
	}
}

// FuzzCursor holds that whatever comes back as a cursor is refused or fit to
// become parameters: no date overflows, no value is of another type.
func FuzzCursor(f *testing.F) {
	good, err := cursor{Query: []byte("x"), Now: 1, Date: 2, Value: []byte("5")}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 1)
	f.Add("e30", 10)
	f.Fuzz(func(t *testing.T, text string, i int) {
		sort := sqlgen.Sort{Field: &field.Events.Fields[uint(i)%uint(len(field.Events.Fields))]}
		if !sqlgen.Sortable(sort.Field) {
			sort.Field = nil
		}
		c, err := decodeCursor(text, field.Events, sort)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := decodeCursor(again, field.Events, sort); err != nil || cmp.Diff(c, d, cmpopts.EquateEmpty()) != "" {
			t.Errorf("%+v came back as %+v, %v", c, d, err)
		}
		sqlgen.Rows(visibility.For(manager), sqlgen.Filter{}, sqlgen.Page{Sort: sort, After: c.position(), Limit: 1})
	})
}
