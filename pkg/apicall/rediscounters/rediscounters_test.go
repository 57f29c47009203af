package rediscounters_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
)

func TestATakeThatIsToldAgainCountsOnce(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, rediscounters.Config{URL: server.URL()})
	a := ask("api", "1", apicall.Limit{Concurrency: 1, Calls: 5, Window: time.Minute})
	for range 3 {
		if d := take(t, c, a); d.Blocked != apicall.BlockedNot || d.Running != 1 || d.Calls != 1 {
			t.Errorf("%+v", d)
		}
	}
}

func TestUsageChangesNothing(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL()})
	a := ask("api", "", apicall.Limit{Calls: 2, Window: time.Minute})
	for i := range 3 {
		a.CallID = fmt.Sprint(i)
		take(t, c, a)
	}
	before := state(t, client)
	if len(before) != 2 {
		t.Fatalf("keys: %v", before)
	}
	for _, window := range []time.Duration{time.Microsecond, time.Hour} {
		u, err := c.Usage(t.Context(), a.Key, apicall.Limit{Calls: 2, Window: window})
		if err != nil {
			t.Fatal(err)
		}
		want := apicall.Usage{Running: 2, Calls: 2, Wait: u.Wait}
		if window == time.Microsecond {
			want.Calls, want.Wait = 0, 0
		}
		if u != want || (u.Wait > 0) != (window == time.Hour) || u.Wait > window {
			t.Errorf("usage of %s: %+v", window, u)
		}
	}
	if diff := cmp.Diff(before, state(t, client)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// state is all that the server holds.
func state(t *testing.T, client *redis.Client) map[string]string {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, key := range keys {
		if all[key], err = client.Dump(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestALowerLimitWaitsForAsManyCallsAsItTakes(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL()})
	a := ask("api", "", apicall.Limit{Calls: 5, Window: time.Minute})
	for i := range 5 {
		a.CallID = fmt.Sprint(i)
		take(t, c, a)
	}
	// Set apart what began at nearly one time: 50, 40 to 10 s ago.
	key := one(t, client, "*:calls")
	now, err := client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		ago := time.Duration(50-10*i) * time.Second
		if err := client.LSet(t.Context(), key, int64(i), now.Add(-ago).UnixMicro()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	a.Limit.Calls, a.CallID = 2, "6"
	d := take(t, c, a)
	// Four must leave the window, and the fourth began 20 s ago.
	if d.Blocked != apicall.BlockedRate || d.Calls != 5 || d.Wait > 40*time.Second || d.Wait <= 30*time.Second {
		t.Errorf("%+v, want a wait of 40 s", d)
	}
}

func one(t *testing.T, client *redis.Client, pattern string) string {
	t.Helper()
	keys, err := client.Keys(t.Context(), pattern).Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys %s: %v, %v", pattern, keys, err)
	}
	return keys[0]
}

func TestAClockThatWentBackBlocksForAWindowAtMost(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL(), LeaseTimeout: time.Minute})
	a := ask("api", "1", apicall.Limit{Concurrency: 3, Calls: 1, Window: time.Minute})
	take(t, c, a)
	// All of it happened a day ahead of the clock.
	const day = 24 * time.Hour
	later := time.Now().Add(day).UnixMicro()
	if err := client.LSet(t.Context(), one(t, client, "*:calls"), 0, later).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ZAdd(t.Context(), one(t, client, "*:places"), redis.Z{Score: float64(later), Member: "1"}).Err(); err != nil {
		t.Fatal(err)
	}
	u, err := c.Usage(t.Context(), a.Key, a.Limit)
	if err != nil || u.Running != 1 || u.Calls != 1 || u.Wait <= 0 || u.Wait > time.Minute {
		t.Errorf("usage: %+v, %v", u, err)
	}
	a.CallID = "2"
	if d := take(t, c, a); d.Blocked != apicall.BlockedRate || d.Wait <= 0 || d.Wait > time.Minute {
		t.Errorf("%+v", d)
	}
	today := float64(time.Now().Add(time.Hour).UnixMicro())
	if end := places(t, client)["1"]; end > today {
		t.Errorf("the place is held until %f", end)
	}
	if began, err := client.LIndex(t.Context(), one(t, client, "*:calls"), 0).Float64(); err != nil || began > today {
		t.Errorf("the call began at %f, %v", began, err)
	}
}

// TestAClockThatWentBackKeepsNothingForEver, also once no calls are counted.
func TestAClockThatWentBackKeepsNothingForEver(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL()})
	a := ask("api", "1", apicall.Limit{Concurrency: 3, Calls: 3, Window: time.Minute})
	take(t, c, a)
	for i, calls := range []int{0, 3} {
		if err := client.LSet(t.Context(), one(t, client, "*:calls"), 0, time.Now().Add(time.Hour).UnixMicro()).Err(); err != nil {
			t.Fatal(err)
		}
		a.CallID, a.Limit.Calls = fmt.Sprint("later", i), calls
		take(t, c, a)
		if ttl, err := client.PTTL(t.Context(), one(t, client, "*:calls")).Result(); err != nil || ttl <= 0 {
			t.Errorf("at most %d calls: the list stays for %s, %v", calls, ttl, err)
		}
	}
}

func TestNothingStaysForEver(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL(), LeaseTimeout: 5 * time.Second})
	a := ask("api", "1", apicall.Limit{Calls: 2, Window: 20 * time.Second})
	next := monitor(t, server)
	take(t, c, a)
	if err := c.Renew(t.Context(), []apicall.Place{{Key: a.Key, CallID: "1"}}); err != nil {
		t.Fatal(err)
	}
	// With what it holds, and a second later.
	for i, want := range []string{"places 6000", "calls 21000", "places 6000"} {
		words := next()
		for !strings.EqualFold(words[0], "pexpire") {
			words = next()
		}
		if _, key, _ := strings.Cut(words[1], "}:"); key+" "+words[2] != want {
			t.Errorf("expiry %d is %v, want %s", i, words, want)
		}
	}
	if err := c.Release(t.Context(), a.Key, "1"); err != nil {
		t.Fatal(err)
	}
	// What was given up is not renewed into being.
	if err := c.Renew(t.Context(), []apicall.Place{{Key: a.Key, CallID: "1"}}); err != nil {
		t.Fatal(err)
	}
	if keys := state(t, client); len(keys) != 1 {
		t.Errorf("keys after the call: %v", keys)
	}
}

func TestNamesCannotBeMadeToLookAlike(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL()})
	keys := []apicall.Key{
		{CustomerUUID: "a", API: "bc"}, {CustomerUUID: "ab", API: "c"}, {CustomerUUID: "", API: "abc"}, {CustomerUUID: "abc", API: ""},
		{CustomerUUID: "a}", API: "{b"}, {CustomerUUID: "a", API: "}{b"}, {CustomerUUID: "a\x00b", API: "c"}, {CustomerUUID: "a", API: "\x00bc"},
		{CustomerUUID: "*", API: "\r\nFLUSHALL\r\n"}, {CustomerUUID: "\xff", API: strings.Repeat("x", 1<<16)}, {},
	}
	for _, key := range keys {
		if d := take(t, c, apicall.Ask{Key: key, CallID: "'\"\r\n\x00]]", Limit: apicall.Limit{Concurrency: 1, Calls: 1, Window: time.Minute}}); d.Blocked != apicall.BlockedNot || d.Running != 1 {
			t.Errorf("%.40q: %+v", key, d)
		}
	}
	if got := len(state(t, client)); got != 2*len(keys) {
		t.Errorf("%d keys, want two for each of %d", got, len(keys))
	}
}

func TestScriptsComeBack(t *testing.T) {
	server := redistest.Start(t)
	client := raw(t, server)
	c := open(t, rediscounters.Config{URL: server.URL()})
	a := ask("api", "", apicall.Limit{Concurrency: 9, Calls: 9, Window: time.Minute})
	for i := range 3 {
		a.CallID = fmt.Sprint(i)
		if d := take(t, c, a); d.Running != i+1 || d.Calls != i+1 {
			t.Errorf("%+v", d)
		}
		if u, err := c.Usage(t.Context(), a.Key, a.Limit); err != nil || u.Running != i+1 {
			t.Errorf("%+v, %v", u, err)
		}
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Renew(t.Context(), []apicall.Place{{Key: a.Key, CallID: a.CallID}}); err != nil {
			t.Error(err)
		}
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutRedisCallsDoNotWait(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, rediscounters.Config{URL: server.URL()})
	limit := apicall.Limit{Concurrency: 100, Calls: 100, Window: time.Minute}
	take(t, c, ask("api", "first", limit))
	for _, away := range []struct {
		how        string
		goes, back func()
		running    int // when it is back, with the one that then asks
	}{
		{"paused", server.Pause, server.Resume, 2},
		{"killed", server.Kill, func() { server.Restart(t) }, 1},
	} {
		away.goes()
		refused := 0
		for i := range 200 { // would take 100 s if each waited
			d, err := c.Take(t.Context(), ask("api", fmt.Sprint(away.how, i), limit))
			if err == nil {
				t.Fatalf("%s: %+v", away.how, d)
			}
			if strings.Contains(err.Error(), "is asked again within") {
				refused++
			}
		}
		if refused < 150 {
			t.Errorf("%s: of 200 calls %d were told at once", away.how, refused)
		}
		if err := c.Release(t.Context(), ask("api", "", limit).Key, "first"); err == nil {
			t.Errorf("%s: a release that nobody heard", away.how)
		}
		away.back()
		var d apicall.Decision
		eventually(t, "Redis to be asked again", func() bool {
			var err error
			d, err = c.Take(t.Context(), ask("api", "again", limit))
			return err == nil
		})
		if d.Blocked != apicall.BlockedNot || d.Running < away.running {
			t.Errorf("%s, and back: %+v", away.how, d)
		}
	}
}

func TestACallerThatHangsUpSaysNothingOfRedis(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, rediscounters.Config{URL: server.URL()})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 50 {
		if _, err := c.Take(gone, ask("api", fmt.Sprint(i), apicall.Limit{Concurrency: 1})); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, want that the context was cancelled", err)
		}
	}
	take(t, c, ask("other", "1", apicall.Limit{Concurrency: 1}))
}

func TestPasswordsAreInNoError(t *testing.T) {
	const secret = "hunter2"
	for _, url := range []string{
		"", "redis://", "redis.example:6379", "http://u:hunter2@redis.example", "unix://u:hunter2@/run/redis.sock",
		"redis://u:hun/hunter2@redis.example:6379", "redis://u:hunter2@redis.example:port", "redis://u:hunter2@redis.example/x",
		"redis://u:%hunter2@redis.example", "redis://u:hunter2@redis.example?read_timeout=1h", "redis://redis.example/hunter2",
		"rediss://u:hunter2@redis.example?addr=b:1&password=hunter2", "redis://u:\nhunter2@redis.example",
	} {
		c, err := rediscounters.New(rediscounters.Config{URL: url})
		switch {
		case err == nil:
			_ = c.Close()
			t.Errorf("%q is accepted", url)
		case strings.Contains(err.Error(), "hun"):
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := rediscounters.New(rediscounters.Config{URL: "redis://redis.example", LeaseTimeout: -1}); err == nil {
		t.Error("a negative lease is accepted")
	}

	server := redistest.Start(t, "--requirepass", "right")
	a := ask("api", "1", apicall.Limit{Concurrency: 1})
	good := open(t, rediscounters.Config{URL: "redis://default:right@" + server.Addr + "/3"})
	take(t, good, a)
	bad := open(t, rediscounters.Config{URL: "redis://default:" + secret + "@" + server.Addr})
	if _, err := bad.Take(t.Context(), a); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with a wrong password: %v", err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, Password: "right", DB: 3})
	defer client.Close()
	if keys := state(t, client); len(keys) != 1 {
		t.Errorf("database 3 has %v", keys)
	}
}

func TestOnACluster(t *testing.T) {
	server := redistest.Start(t, "--cluster-enabled", "yes")
	client := raw(t, server)
	slots := make([]int, 16384)
	for i := range slots {
		slots[i] = i
	}
	if err := client.ClusterAddSlots(t.Context(), slots...).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster", func() bool {
		info, err := client.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	_, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, rediscounters.Config{URL: server.URL() + "?addr=127.0.0.1:" + port})
	var held []apicall.Place
	for i := range 20 {
		a := ask(fmt.Sprintf("api/%d", i), "1", apicall.Limit{Concurrency: 1, Calls: 1, Window: time.Minute})
		if d := take(t, c, a); d.Blocked != apicall.BlockedNot || d.Running != 1 || d.Calls != 1 {
			t.Errorf("%+v", d)
		}
		held = append(held, apicall.Place{Key: a.Key, CallID: "1"})
	}
	if err := c.Renew(t.Context(), held); err != nil {
		t.Error(err)
	}
	for _, p := range held {
		if err := c.Release(t.Context(), p.Key, p.CallID); err != nil {
			t.Error(err)
		}
		if u, err := c.Usage(t.Context(), p.Key, apicall.Limit{Concurrency: 1}); err != nil || u.Running != 0 {
			t.Errorf("%+v, %v", u, err)
		}
	}
}
