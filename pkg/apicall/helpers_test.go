package apicall_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit/emittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

const jobs = "api/v1/jobs/{id}"

var maria = apicall.Caller{
	CustomerUUID: "1263b8de-7a2b-4442-a62a-7e3ea8cd6b49", UserUUID: "8b7737c9-6133-492a-a7d7-33fd078ce595",
	UserName: "Maria Rossi 31", UserRole: "Administrator", BusinessUnit: "Finance", Tier: apicall.TierStandard,
}

// callsMaria is a Config.Caller by which all requests are Maria's.
func callsMaria(*http.Request) (apicall.Caller, bool) { return maria, true }

// open makes Calls that tell a recorder; it refuses what Kafka's readers would.
func open(t *testing.T, cfg apicall.Config) (*apicall.Calls, *emittest.Recorder) {
	t.Helper()
	rec := &emittest.Recorder{}
	cfg.ModuleCode = "PM"
	if cfg.Sink == nil {
		cfg.Sink = rec
	}
	if cfg.Caller == nil {
		cfg.Caller = callsMaria
	}
	calls, err := apicall.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = calls.Close(ctx)
	})
	return calls, rec
}

// get serves one request.
func get(h http.Handler, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(edit...))
	return w
}

func request(edit ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/jobs/31", nil)
	r.RemoteAddr = "167.35.71.104:50312"
	r.Header.Set("User-Agent", "python-requests/2.32.3")
	r.Header.Set("X-Request-Id", "request-1")
	for _, f := range edit {
		f(r)
	}
	return r
}

// answer serves a status.
func answer(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

// blocking serves calls that tell of themselves and run until they are let go.
type blocking struct {
	began chan *http.Request
	goOn  chan struct{}
}

func newBlocking() *blocking {
	return &blocking{began: make(chan *http.Request, 1000), goOn: make(chan struct{})}
}

func (b *blocking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.began <- r
	<-b.goOn
	w.WriteHeader(http.StatusNoContent)
}

// story is what was told of one call, in order, as "Running, Finished 200"; a
// sign of life is in brackets.
func story(records []audit.APICall) string {
	var parts []string
	for _, r := range records {
		s := r.State
		if r.HTTPStatus != 0 {
			s += " " + strconv.Itoa(int(r.HTTPStatus))
		}
		if r.Heartbeat {
			s = "[" + s + "]"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

// byCall sorts records by call, the calls in order of their first record.
func byCall(records []audit.APICall) [][]audit.APICall {
	index := map[string]int{}
	var calls [][]audit.APICall
	for _, r := range records {
		i, ok := index[r.CallID]
		if !ok {
			i = len(calls)
			index[r.CallID] = i
			calls = append(calls, nil)
		}
		calls[i] = append(calls[i], r)
	}
	return calls
}

// stories are the stories of all calls, in order of their first record.
func stories(records []audit.APICall) []string {
	var all []string
	for _, call := range byCall(records) {
		all = append(all, story(call))
	}
	return all
}

// mustTell checks the stories of all calls.
func mustTell(t *testing.T, rec *emittest.Recorder, want ...string) []audit.APICall {
	t.Helper()
	records := rec.Calls()
	if got := stories(records); !slices.Equal(got, want) {
		t.Fatalf("stories\n got %q\nwant %q", got, want)
	}
	return records
}

// pass lets time pass.
func pass(d time.Duration) { <-time.After(d) }
