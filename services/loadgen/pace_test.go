package loadgen

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// sink notes events and when they came, and is full when told to be.
type sink struct {
	start  time.Time
	full   func() bool
	came   []time.Duration // after start
	events []audit.Event
}

func (s *sink) Emit(e audit.Event) error {
	if s.full != nil && s.full() {
		return emit.ErrBufferFull
	}
	s.came = append(s.came, time.Since(s.start))
	s.events = append(s.events, e)
	return nil
}

func newSender(t *testing.T, cfg Config) (*sender, *sink) {
	t.Helper()
	cfg.Tenants, cfg.Users = 3, 10
	gen, err := workload.New(cfg.workload(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	out := &sink{start: time.Now()}
	return &sender{gen: gen, sink: out, cfg: cfg}, out
}

func TestRateIsExact(t *testing.T) {
	for _, rate := range []float64{0.5, 777, 20_000, 1e6} {
		t.Run(strconv.FormatFloat(rate, 'f', -1, 64), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				count := max(3, min(int64(2*rate), 50_000))
				s, out := newSender(t, Config{Rate: rate, Count: count})
				if err := s.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(out.came) != int(count) {
					t.Fatalf("%d events, want %d", len(out.came), count)
				}
				for i, came := range out.came {
					due := time.Duration(float64(i) / rate * float64(time.Second))
					if late := came - due; late < -time.Nanosecond || late > tick {
						t.Fatalf("event %d came after %s, was due after %s", i, came, due)
					}
				}
			})
		})
	}
}

func TestNoRateMeansNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, out := newSender(t, Config{Count: 2500})
		if err := s.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(out.came) != 2500 || out.came[2499] != 0 {
			t.Errorf("%d events, the last after %s", len(out.came), out.came[len(out.came)-1])
		}
	})
}

func TestFullBufferIsWaitedForAndCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const away = 2 * time.Second
		s, out := newSender(t, Config{Rate: 100, Count: 300})
		out.full = func() bool { return time.Since(out.start) < away }
		if err := s.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Those due meanwhile come at once, the rest when they are due.
		if first, held := out.came[0], out.came[200]; first != away || held > away+tick {
			t.Errorf("the first came after %s, event 200 after %s", first, held)
		}
		if last := out.came[299]; last < 2990*time.Millisecond || last > 2990*time.Millisecond+tick {
			t.Errorf("the last came after %s", last)
		}
	})
}

func TestEventsOfLiveAndPastLoad(t *testing.T) {
	const end = 1_790_000_000_000
	synctest.Test(t, func(t *testing.T) {
		send := func(cfg Config) []audit.Event {
			s, out := newSender(t, cfg)
			if err := s.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			return out.events
		}
		for _, e := range send(Config{Count: 10}) {
			if e.ID != "" || e.CreatedDate != time.Now().UnixMilli() {
				t.Fatalf("live event has id %q and createdDate %d", e.ID, e.CreatedDate)
			}
		}
		for _, e := range send(Config{Count: 10, Days: 3}) {
			if ahead := time.Now().UnixMilli() - e.CreatedDate; e.ID != "" || ahead <= 0 || ahead > 3*24*3600*1000 {
				t.Fatalf("event of the last days has id %q and is %d ms old", e.ID, ahead)
			}
		}
		past := send(Config{Count: 10, Days: 3, End: end})
		if past[0].ID == "" {
			t.Error("an event of a fixed past has no id")
		}
		if diff := cmp.Diff(past, send(Config{Count: 10, Days: 3, End: end})); diff != "" {
			t.Errorf("the same flags gave other events:\n%s", diff)
		}
	})
}

func TestValidate(t *testing.T) {
	good := Config{Tenants: 1, Users: 1}
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"rate":    {func(c *Config) { c.Rate = -1 }, "--rate"},
		"count":   {func(c *Config) { c.Count = -1 }, "--count"},
		"tenants": {func(c *Config) { c.Tenants = 0 }, "--tenants"},
		"users":   {func(c *Config) { c.Users = 0 }, "--users"},
		"days":    {func(c *Config) { c.Days = -1 }, "--days"},
		"endless": {func(c *Config) { c.Days = 1 }, "--days needs --count"},
		"end":     {func(c *Config) { c.End = -1 }, "--end"},
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := good
			test.change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
