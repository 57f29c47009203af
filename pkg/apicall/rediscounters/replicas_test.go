package rediscounters_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
)

// replicaEnv, when set, makes the test binary a replica. Its value is a
// replicaSpec.
const replicaEnv = "AUDITRAIL_TEST_REPLICA"

// replicaSpec is a process whose clients call all the time.
type replicaSpec struct {
	Name    string
	URL     string
	Lease   time.Duration
	Limit   apicall.Limit
	Clients int
	Hold    time.Duration // how long a call runs, at most; 0: for ever
}

// replica is the main of such a process. It ends when its standard input does,
// and with a word on standard output when a decision is wrong.
func replica(spec string) int {
	var s replicaSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		fmt.Println(err)
		return 2
	}
	c, err := rediscounters.New(rediscounters.Config{URL: s.URL, LeaseTimeout: s.Lease})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	o, err := redis.ParseURL(s.URL)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	r := &running{spec: s, counters: c, tell: redis.NewClient(o), calls: map[string]apicall.Place{}}
	go r.renew()
	for i := range s.Clients {
		go r.client(fmt.Sprintf("%s-%d", s.Name, i))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

type running struct {
	spec     replicaSpec
	counters *rediscounters.Counters
	tell     *redis.Client

	mu    sync.Mutex
	calls map[string]apicall.Place // guarded by mu
}

func (r *running) fail(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(1)
}

// client makes one call after the other, and tells the server of the beginning
// and the end of each that is admitted.
func (r *running) client(name string) {
	ctx := context.Background()
	for n := 0; ; n++ {
		a := ask("api", fmt.Sprintf("%s-%d", name, n), r.spec.Limit)
		d, err := r.counters.Take(ctx, a)
		switch {
		case err != nil: // a machine too busy to answer; whoever was counted has no harm done
			fmt.Fprintln(os.Stderr, err)
		case d.Blocked == apicall.BlockedRate && (d.Calls != a.Limit.Calls || d.Wait <= 0):
			r.fail("blocked by %d calls of %d, for %s", d.Calls, a.Limit.Calls, d.Wait)
		case d.Blocked == apicall.BlockedConcurrency && d.Running != a.Limit.Concurrency:
			r.fail("blocked by %d running calls of %d", d.Running, a.Limit.Concurrency)
		case d.Blocked != apicall.BlockedNot:
		default:
			r.run(ctx, a)
			continue
		}
		// Not sooner: the server tells of every command, and who reads that on a
		// busy machine must keep up.
		pause(ctx, time.Duration(10+rand.IntN(20))*time.Millisecond)
	}
}

func (r *running) run(ctx context.Context, a apicall.Ask) {
	r.mu.Lock()
	r.calls[a.CallID] = apicall.Place{Key: a.Key, CallID: a.CallID}
	r.mu.Unlock()
	if err := r.tell.Echo(ctx, "begin "+a.CallID).Err(); err != nil {
		r.fail("echo: %v", err)
	}
	if r.spec.Hold == 0 {
		<-ctx.Done()
	}
	pause(ctx, time.Duration(rand.Int64N(int64(r.spec.Hold))))
	if err := r.tell.Echo(ctx, "end "+a.CallID).Err(); err != nil {
		r.fail("echo: %v", err)
	}
	r.mu.Lock()
	delete(r.calls, a.CallID)
	r.mu.Unlock()
	if err := r.counters.Release(ctx, a.Key, a.CallID); err != nil {
		fmt.Fprintln(os.Stderr, err) // the lease ends, then
	}
}

func (r *running) renew() {
	for range time.Tick(r.spec.Lease / 10) {
		r.mu.Lock()
		places := make([]apicall.Place, 0, len(r.calls))
		for _, p := range r.calls {
			places = append(places, p)
		}
		r.mu.Unlock()
		if err := r.counters.Renew(context.Background(), places); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// startReplica runs a replica until the test ends, or kill is called, which is
// kill -9.
func startReplica(t *testing.T, s replicaSpec) (kill func()) {
	t.Helper()
	spec, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), replicaEnv+"="+string(spec))
	var said, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errs
	if _, err := cmd.StdinPipe(); err != nil { // so that it ends with us
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if said.Len() > 0 {
			t.Errorf("replica %s: %s", s.Name, said.String())
		}
		if errs.Len() > 0 {
			t.Logf("replica %s: %s", s.Name, errs.String())
		}
	})
	t.Cleanup(kill)
	return kill
}

// Three processes with 64 clients, of which one is killed: any window has as
// many calls as the limit says, and never do more run at a time. All of it by
// what the server itself did, in its order and by its clock.
func TestThreeReplicasAdmitExactlyTheLimit(t *testing.T) {
	server := redistest.Start(t)
	limit := apicall.Limit{Concurrency: 6, Calls: 100, Window: time.Second}
	next := monitor(t, server)
	kills := map[string]func(){}
	for i, clients := range []int{22, 21, 21} {
		name := strconv.Itoa(i)
		kills[name] = startReplica(t, replicaSpec{Name: name, URL: server.URL(), Lease: 3 * time.Second, Limit: limit, Clients: clients, Hold: 5 * time.Millisecond})
	}
	client := raw(t, server)
	var admitted []int64
	live, most := map[string]bool{}, 0
	killed := false
	for len(admitted) < 4*limit.Calls {
		switch words := next(); strings.ToUpper(words[0]) {
		case "RPUSH":
			at, err := strconv.ParseInt(words[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			admitted = append(admitted, at)
		case "ECHO":
			what, call, _ := strings.Cut(words[1], " ")
			switch what {
			case "begin":
				if live[call] = true; len(live) > limit.Concurrency {
					t.Fatalf("%d calls run, want at most %d: %v", len(live), limit.Concurrency, live)
				}
				most = max(most, len(live))
				if !killed && len(admitted) > limit.Calls && strings.HasPrefix(call, "1-") {
					killed = true
					kills["1"]()
					if err := client.Echo(t.Context(), "killed 1").Err(); err != nil {
						t.Fatal(err)
					}
				}
			case "end":
				delete(live, call)
			case "killed": // its calls run no more; their places are held until their leases end
				for id := range live {
					if strings.HasPrefix(id, call+"-") {
						delete(live, id)
					}
				}
			}
		}
	}
	if !killed {
		t.Error("no replica was killed")
	}
	if most != limit.Concurrency {
		t.Errorf("at most %d calls ran at a time, want %d", most, limit.Concurrency)
	}
	for i, at := range admitted[limit.Calls:] {
		if first := admitted[i]; at-first < limit.Window.Microseconds() {
			t.Fatalf("calls %d to %d began within %d µs: %d calls in a window", i, i+limit.Calls, at-first, limit.Calls+1)
		}
	}
}

func TestPlacesOfAKilledReplicaComeFree(t *testing.T) {
	server := redistest.Start(t)
	limit := apicall.Limit{Concurrency: 3}
	const lease = 2 * time.Second
	kill := startReplica(t, replicaSpec{Name: "dies", URL: server.URL(), Lease: lease, Limit: limit, Clients: 3})
	counters := open(t, rediscounters.Config{URL: server.URL(), LeaseTimeout: lease})
	client := raw(t, server)
	a := ask("api", "survivor", limit)
	eventually(t, "the replica to have all places", func() bool {
		u, err := counters.Usage(t.Context(), a.Key, limit)
		if err != nil {
			t.Fatal(err)
		}
		return u.Running == 3
	})
	// Alive, it keeps them for longer than a lease.
	taken := places(t, client)["dies-0-0"]
	eventually(t, "the replica to renew", func() bool { return places(t, client)["dies-0-0"] > taken+float64(lease.Microseconds()) })
	if d := take(t, counters, a); d.Blocked != apicall.BlockedConcurrency || d.Running != 3 {
		t.Fatalf("while the replica runs: %+v", d)
	}
	kill()
	ends := places(t, client)
	if len(ends) != 3 {
		t.Fatalf("the dead replica has %v", ends)
	}
	eventually(t, "a place", func() bool { return take(t, counters, a).Blocked == apicall.BlockedNot })
	began := places(t, client)["survivor"] - float64(lease.Microseconds())
	first := min(ends["dies-0-0"], ends["dies-1-0"], ends["dies-2-0"])
	if began < first {
		t.Errorf("a place was given away %.0f µs before its lease ended", first-began)
	}
}

// places are the places that are held, and when their leases end, in µs of the
// server's clock.
func places(t *testing.T, client *redis.Client) map[string]float64 {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*:places").Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	members, err := client.ZRangeWithScores(t.Context(), keys[0], 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]float64{}
	for _, m := range members {
		ends[m.Member.(string)] = m.Score
	}
	return ends
}
