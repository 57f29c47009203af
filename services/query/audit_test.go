package query

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/settings"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// audited are the product's own audit events that Kafka has: n of them, no more.
func (b *bench) audited(t testing.TB, n int) []audit.Event {
	t.Helper()
	// Acknowledged is not more than there: the end is known.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var events []audit.Event
	for _, r := range testenv.Records(ctx, t, b.cfg.Kafka, topic.Audit) {
		var e audit.Event
		if err := audit.Decode(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if err := e.Validate(r.Timestamp, audit.DefaultMaxAge); err != nil {
			t.Error(err)
		}
		events = append(events, e)
	}
	if len(events) != n {
		t.Fatalf("%d audit events, want %d: %+v", len(events), n, events)
	}
	return events
}

// request is one as observe and the endpoint hand it on.
func request(ctx context.Context, header ...string) *http.Request {
	r := httptest.NewRequestWithContext(context.WithValue(ctx, exchangeKey{}, &exchange{requestID: "r-1"}), http.MethodPut, "/", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestAnAuditEventSaysWhoAndWhence(t *testing.T) {
	b := newBench(t, away(t), nil)
	one, two := manager, manager
	one.BusinessUnits, two.BusinessUnits = []string{"EU"}, []string{"EU", "US"}
	r := request(t.Context(), "User-Agent", "curl/8 "+strings.Repeat("é", 200), "X-Forwarded-For", "198.51.100.7")
	r.RemoteAddr = "[::ffff:192.0.2.9]:4711"
	for _, id := range []identity.Identity{one, two} {
		if err := b.audit(r, id, audit.Event{Action: "Export", Status: "Success"}); err != nil {
			t.Fatal(err)
		}
	}
	got := b.audited(t, 2)
	want := audit.Event{
		ModuleCode: "AUDIT", ModuleName: "Audit Log", ApplicationName: "audit-log", Action: "Export", Status: "Success",
		CustomerUUID: "tenant-one", UserUUID: "u1", UserName: "jack", UserRole: "Manager", BusinessUnit: "EU",
		SourceIP: "192.0.2.9", Client: "curl/8 " + strings.Repeat("é", 124), EndpointType: "API", RequestID: "r-1",
	}
	for i, e := range got {
		if age := time.Since(time.UnixMilli(e.CreatedDate)).Abs(); e.ID == "" || age > time.Minute {
			t.Errorf("id %q, made %s ago", e.ID, age)
		}
		want.ID, want.CreatedDate = e.ID, e.CreatedDate
		if d := cmp.Diff(e, want); d != "" {
			t.Errorf("event %d (-got +want)\n%s", i, d)
		}
		want.BusinessUnit = "" // of two, neither is the event's
	}
}

func TestSearchesAreAuditedWhereThatIsOn(t *testing.T) {
	b := newBench(t, away(t), nil)
	search := func() {
		t.Helper()
		if err := b.auditSearch(request(t.Context()), manager, `"action:Login"`, 7); err != nil {
			t.Fatal(err)
		}
	}
	search()
	b.audited(t, 0)
	if _, err := b.settings.table.Change(t.Context(), manager.CustomerUUID, func(s *settings.Settings) error {
		s.AuditSearches = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	search()
	if e := b.audited(t, 1)[0]; e.Action != "Search" || e.AuditComment != `"action:Login": 7 events` {
		t.Errorf("got %+v", e)
	}
}

func TestWithoutKafkaNothingIsAuditedOrChosen(t *testing.T) {
	b := newBench(t, away(t), nil)
	nowhere := b.cfg.Kafka
	nowhere.Addr = away(t).Addr
	c := openChosen(nowhere, zap.NewNop())
	defer c.close()
	emitter, err := openEmitter(nowhere, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	b.settings.close()
	if err := closeEmitter(b.emitter); err != nil {
		t.Fatal(err)
	}
	b.settings, b.emitter = c, emitter
	if err := c.ready(t.Context()); err == nil {
		t.Error("ready without settings")
	}
	_, unread := c.of(t.Context(), "c")
	for _, err := range []error{unread, b.audit(request(t.Context()), manager, audit.Event{Action: "Export"})} {
		if p := problem.From(err); p.Kind != problem.KindUnavailable || p.RetryAfter == 0 {
			t.Errorf("got %v, want a problem that says: later", err)
		}
	}
}
