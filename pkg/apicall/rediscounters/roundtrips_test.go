package rediscounters_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
)

// TestADecisionIsOneRoundTrip counts how often Redis reads from a connection.
func TestADecisionIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, client := open(t, rediscounters.Config{URL: server.URL()}), raw(t, server)
	reads := func() int {
		info, err := client.Info(t.Context(), "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`total_reads_processed:(\d+)`).FindStringSubmatch(info)
		if found == nil {
			t.Fatalf("Redis does not count what it reads:\n%s", info)
		}
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const n = 50
	limit := apicall.Limit{Concurrency: n + 1, Calls: n, Window: apicall.MaxWindow}
	for what, trip := range map[string]func(apicall.Ask) error{
		"a decision": func(a apicall.Ask) error { _, err := c.Take(t.Context(), a); return err },
		"a release":  func(a apicall.Ask) error { return c.Release(t.Context(), a.Key, a.CallID) },
		"a renewal": func(a apicall.Ask) error {
			return c.Renew(t.Context(), []apicall.Place{{Key: a.Key, CallID: a.CallID}, {Key: apicall.Key{CustomerUUID: "other"}, CallID: "other"}})
		},
	} {
		// Redis knows the scripts then, and the connections are there.
		if err := trip(ask("another", "first", limit)); err != nil {
			t.Fatal(err)
		}
		before := reads()
		for i := range n {
			if err := trip(ask("api", strconv.Itoa(i), limit)); err != nil {
				t.Fatal(err)
			}
		}
		if got := reads() - before - 1; got != n { // asking is one, too
			t.Errorf("%d round trips for %d times %s", got, n, what)
		}
	}
}
