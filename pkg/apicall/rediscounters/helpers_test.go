package rediscounters_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if spec := os.Getenv(replicaEnv); spec != "" {
		os.Exit(replica(spec))
	}
	os.Exit(m.Run())
}

func open(t testing.TB, cfg rediscounters.Config) *rediscounters.Counters {
	t.Helper()
	c, err := rediscounters.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// raw is a client of the test's own.
func raw(t testing.TB, s *redistest.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ask(api, call string, limit apicall.Limit) apicall.Ask {
	return apicall.Ask{Key: apicall.Key{CustomerUUID: "customer", API: api}, CallID: call, Limit: limit}
}

func take(t testing.TB, c apicall.Counters, a apicall.Ask) apicall.Decision {
	t.Helper()
	d, err := c.Take(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// eventually asks again and again until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
		pause(t.Context(), 5*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// monitor reads every command that the server runs, in their order, scripts'
// included, until the test ends. A command is its words, without quotes.
func monitor(t testing.TB, s *redistest.Server) (next func() []string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR: %q, %v", lines.Text(), lines.Err())
	}
	return func() []string {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatalf("the server tells no more: %v", lines.Err())
		}
		var words []string
		for _, quoted := range word.FindAllString(lines.Text(), -1) {
			words = append(words, strings.Trim(quoted, `"`))
		}
		return words
	}
}

var word = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
