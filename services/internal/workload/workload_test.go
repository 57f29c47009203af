package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
)

// TestSameBytes holds the workload as it is: figures from different versions
// compare only if it never changes.
func TestSameBytes(t *testing.T) {
	small := Config{Seed: 7, Tenants: 3, Users: 10, Skew: 0.5, End: 1_780_000_000_000, Events: 1000}
	days := small
	days.Days = 5
	tests := map[string]struct {
		cfg    Config
		events int
		want   string
	}{
		"default":     {Default(), 10_000, "fb8babeaf3b56bc7bfade8f80ac1099ce0d698a1f01b81b75b18c31881f8418e"},
		"small":       {days, 1000, "b3dd6632d94840171fc35637a0c57c0fba671bceca7cd0c92641a4661444217f"},
		"at one time": {small, 1000, "a2e2b77701189fbc741b6056df9fecddbe3da0c05a45eea99cf4bf5982a06b8d"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := sha256.New()
			write(t, h, test.cfg, test.events)
			if got := hex.EncodeToString(h.Sum(nil)); got != test.want {
				t.Errorf("hash of %d lines: got %s, want %s", test.events, got, test.want)
			}
		})
	}
}

func write(t *testing.T, w io.Writer, cfg Config, events int) {
	t.Helper()
	g := generator(t, cfg)
	var (
		e    audit.Event
		line []byte
		err  error
	)
	for range events {
		g.Next(&e)
		if line, err = e.AppendJSON(line[:0]); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
}

func generator(t *testing.T, cfg Config) *Generator {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestFullAddsFieldsOnly(t *testing.T) {
	cfg := Default()
	base := generator(t, cfg)
	cfg.Full = true
	full := generator(t, cfg)
	var want, got audit.Event
	for i := range 5000 {
		base.Next(&want)
		full.Next(&got)
		got.EndpointType, got.BusinessUnit, got.Origin, got.RequestID, got.Changes = "", "", "", "", nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("event %d (-base +full):\n%s", i, diff)
		}
	}
}

func TestEventsAreValid(t *testing.T) {
	cfg := Default()
	cfg.Full = true
	g := generator(t, cfg)
	at := time.UnixMilli(cfg.End)
	seen := map[string]int{}
	var e, back audit.Event
	for range 20_000 {
		g.Next(&e)
		if err := e.Validate(at, 0); err != nil {
			t.Fatal(err)
		}
		line, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := audit.Decode(line, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			t.Fatalf("decoded (-made +decoded):\n%s", diff)
		}
		seen["endpoint "+e.EndpointType]++
		seen["unit "+e.BusinessUnit]++
		seen["origin "+e.Origin]++
		if e.RequestID != "" {
			seen["request"]++
		}
		if e.Changes != nil {
			seen["changes on "+e.Action]++
		}
	}
	for _, what := range []string{
		"endpoint ", "endpoint Web UI", "endpoint API", "endpoint Background Task", "unit ", "unit Finance",
		"origin auto-update", "request", "changes on Update", "changes on Enable", "changes on Disable",
	} {
		if seen[what] == 0 {
			t.Errorf("no event with %s", what)
		}
	}
}

func TestGivenCustomers(t *testing.T) {
	given := []Customer{
		{UUID: "acme", Weight: 3, Users: []User{
			{UUID: "u1", Name: "Ada", Role: "Manager", BusinessUnit: "Research"},
			{UUID: "u2", Name: "Bob", Role: "Reader"},
		}},
		{UUID: "5c7f2d3e-0000-4000-8000-000000000002", Weight: 1, Users: []User{{UUID: "u3", Name: "Cyd", Role: "Auditor"}}},
	}
	g := generator(t, Config{Customers: given, End: 1_790_000_000_000, Days: 1, Events: 4000, Full: true})
	if diff := cmp.Diff(given, g.Customers()); diff != "" {
		t.Errorf("customers (-given +got):\n%s", diff)
	}
	units := map[string]string{"Ada": "Research", "Bob": "", "Cyd": ""}
	events := map[string]int{}
	var e audit.Event
	for range 4000 {
		g.Next(&e)
		events[e.CustomerUUID]++
		events[e.UserName]++
		if e.BusinessUnit != units[e.UserName] {
			t.Fatalf("business unit of %s: got %q, want %q", e.UserName, e.BusinessUnit, units[e.UserName])
		}
	}
	if got := events["acme"]; got < 2800 || got > 3200 {
		t.Errorf("the customer with three quarters of the weight has %d of 4000 events", got)
	}
	if events["Ada"] <= events["Bob"] || events["Bob"] == 0 || events["Cyd"] == 0 {
		t.Errorf("events by user: %v", events)
	}
}

func TestMadeUpCustomersMayBeGivenBack(t *testing.T) {
	g := generator(t, Default())
	customers := g.Customers()
	if len(customers) != 200 || len(customers[0].Users) < len(customers[199].Users) {
		t.Fatalf("%d customers, %d users in the first", len(customers), len(customers[0].Users))
	}
	cfg := Default()
	cfg.Customers = customers
	if diff := cmp.Diff(customers, generator(t, cfg).Customers()); diff != "" {
		t.Errorf("(-made up +given):\n%s", diff)
	}
}

func TestTimeCovered(t *testing.T) {
	const events = 10_000
	cfg := Default()
	cfg.Days, cfg.Events = 14, events
	g := generator(t, cfg)
	start := cfg.End - 14*msPerDay
	var e audit.Event
	latest := int64(0)
	for i := range events + 100 {
		g.Next(&e)
		if e.CreatedDate < start || e.CreatedDate >= cfg.End {
			t.Fatalf("event %d: createdDate %d is outside %d to %d", i, e.CreatedDate, start, cfg.End)
		}
		if e.CreatedDate < latest-2*jitter {
			t.Fatalf("event %d: %d ms before an earlier one", i, latest-e.CreatedDate)
		}
		latest = max(latest, e.CreatedDate)
	}
}

func TestNewRefuses(t *testing.T) {
	user := []User{{UUID: "u", Name: "n"}}
	tests := map[string]struct {
		cfg  Config
		want string
	}{
		"negative":       {Config{Tenants: -1}, "must not be negative"},
		"before 1970":    {Config{Days: 1}, "before 1970"},
		"no user":        {Config{Customers: []Customer{{UUID: "c", Weight: 1}}}, "and a user"},
		"no weight":      {Config{Customers: []Customer{{UUID: "c", Users: user}}}, "weight above 0"},
		"no customer id": {Config{Customers: []Customer{{Weight: 1, Users: user}}}, "needs a uuid"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestOneAllocationAnEvent(t *testing.T) {
	g := generator(t, Default())
	var e audit.Event
	g.Next(&e)
	if n := testing.AllocsPerRun(1000, func() { g.Next(&e) }); n > 1 {
		t.Errorf("%.1f allocations an event, want 1", n)
	}
}

func BenchmarkNext(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(map[bool]string{false: "base", true: "full"}[full], func(b *testing.B) {
			cfg := Default()
			cfg.Full = full
			g, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			var e audit.Event
			b.ReportAllocs()
			for b.Loop() {
				g.Next(&e)
			}
		})
	}
}
