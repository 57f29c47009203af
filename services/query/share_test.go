package query

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/identity"
)

func TestAShareIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(4)
		take := func(who string, n int64) (func(), error) { return s.take(t.Context(), who, n, time.Second) }
		must := func(give func(), err error) func() {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return give
		}
		one := must(take("a", 1))
		another := must(take("a", 1))
		if _, err := take("a", 1); !errors.Is(err, errOwnTaken) {
			t.Errorf("more than half: %v", err)
		}
		all := must(take("b", 99)) // as much as one may
		if _, err := take("c", 1); !errors.Is(err, errTaken) {
			t.Errorf("more than all: %v", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.take(gone, "c", 1, time.Second); !errors.Is(err, errClientGone) {
			t.Errorf("hung up: %v", err)
		}
		// A large take keeps its turn; who waits for its own does not hold it up.
		order := make(chan string, 3)
		for _, w := range []struct {
			who string
			n   int64
		}{{"a", 1}, {"c", 2}, {"d", 1}} {
			go func() {
				if _, err := take(w.who, w.n); err != nil {
					t.Errorf("%s: %v", w.who, err)
				}
				order <- w.who
			}()
			synctest.Wait()
		}
		all()
		if got := <-order; got != "c" {
			t.Errorf("first came %s", got)
		}
		one()
		if got := <-order; got != "a" {
			t.Errorf("then came %s", got)
		}
		another()
		if got := <-order; got != "d" {
			t.Errorf("last came %s", got)
		}
	})
}

// nothing is a store without events.
type nothing struct{ driver.Conn }

func (nothing) Query(context.Context, string, ...any) (driver.Rows, error) { return noRows{}, nil }

type noRows struct{ driver.Rows }

func (noRows) Next() bool   { return false }
func (noRows) Err() error   { return nil }
func (noRows) Close() error { return nil }

func TestTurnsAreBounded(t *testing.T) {
	b := newBench(t, away(t), func(c *Config) { c.Concurrency, c.QueueWait = 2, time.Millisecond })
	b.engine.conn = nothing{b.engine.conn}
	other := identity.Identity{UserUUID: "u9", CustomerUUID: "tenant-two", Role: identity.RoleManager}
	search := func(id identity.Identity, status int, says string) {
		t.Helper()
		w := b.do(t, &id, "POST", searchPath, "{}")
		if w.Code != status || !strings.Contains(w.Body.String(), says) || strings.Contains(w.Body.String(), "--") || (status == 503) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("got %d %s, want %d %s", w.Code, w.Body, status, says)
		}
	}
	leave, err := b.engine.enter(t.Context(), manager.CustomerUUID)
	if err != nil {
		t.Fatal(err)
	}
	search(manager, 503, "limited to 1 for one subscription")
	search(other, 200, "")
	leaveToo, err := b.engine.enter(t.Context(), other.CustomerUUID)
	if err != nil {
		t.Fatal(err)
	}
	search(identity.Identity{UserUUID: "u", CustomerUUID: "tenant-three", Role: identity.RoleManager}, 503, "limited to 2, ")
	leave()
	leaveToo()
	search(manager, 200, "")
}

// stalled is the connection of a client that reads nothing for a while.
type stalled struct {
	*httptest.ResponseRecorder
	writing, resume chan struct{}
}

func (s stalled) Write(b []byte) (int, error) {
	close(s.writing)
	<-s.resume
	return s.ResponseRecorder.Write(b)
}

func TestAnswersBeingSentAreBounded(t *testing.T) {
	b := newBench(t, away(t), func(c *Config) { c.QueueWait = time.Millisecond })
	b.engine.conn = nothing{b.engine.conn}
	b.engine.answers = newShare(2) // two answers, whatever their size
	slow := stalled{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, searchPath, nil)
	r.Header.Set("Authorization", "Bearer "+b.token(t, manager))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Handler().ServeHTTP(slow, r)
	}()
	<-slow.writing
	w := b.do(t, &manager, "POST", searchPath, "{}")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "Answers being sent at a time are limited to 1B for one subscription") {
		t.Errorf("beside a slow reader: %d %s", w.Code, w.Body)
	}
	if leave, err := b.engine.enter(t.Context(), manager.CustomerUUID); err != nil {
		t.Errorf("a slow reader keeps its place: %v", err)
	} else {
		leave()
	}
	other := identity.Identity{UserUUID: "u9", CustomerUUID: "tenant-two", Role: identity.RoleManager}
	if w := b.do(t, &other, "POST", searchPath, "{}"); w.Code != 200 {
		t.Errorf("another subscription: %d %s", w.Code, w.Body)
	}
	close(slow.resume)
	<-done
	if w := b.do(t, &manager, "POST", searchPath, "{}"); w.Code != 200 {
		t.Errorf("after the slow reader: %d %s", w.Code, w.Body)
	}
}

// deadlines notes the write deadlines that are set.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func TestWriteDeadlineGrowsWithTheAnswerAndEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, want := range map[int]time.Duration{0: 10 * time.Second, 50 << 20: 110 * time.Second} {
			w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
			if err := writeJSON(w, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if len(w.set) != 2 || time.Until(w.set[0]) != want || !w.set[1].IsZero() {
				t.Errorf("%d bytes: deadlines %v", size, w.set)
			}
		}
	})
}
