package apicall_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/emit/emittest"
)

// A module puts its API under limits. This one's subscription may begin two
// calls in an hour.
func Example() {
	sink := &emittest.Recorder{} // an emit.Emitter, outside of tests
	calls, err := apicall.New(apicall.Config{
		ModuleCode: "PM",
		Sink:       sink,
		Caller: func(*http.Request) (apicall.Caller, bool) {
			// What the module's authentication left in the request's context.
			return apicall.Caller{CustomerUUID: "1263b8de", UserName: "maria", Tier: apicall.TierStandard}, true
		},
		Limits: twoAnHour{}, // what was set for subscriptions: package limittopic
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = calls.Close(context.Background()) }()

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/jobs/{id}", calls.Handler("api/v1/jobs/{id}",
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "job", r.PathValue("id")) })))

	for range 3 {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/jobs/31", nil))
		fmt.Println(w.Code, "remaining:", w.Header().Get("X-RateLimit-Remaining"), "wait:", w.Header().Get("X-RateLimit-ToWait-Sec"))
	}
	for _, c := range sink.Calls() {
		fmt.Printf("%s: %q\n", c.State, c.Reason)
	}
	// Output:
	// 200 remaining: 1 wait: 0
	// 200 remaining: 0 wait: 3600
	// 429 remaining: 0 wait: 3600
	// Running: ""
	// Finished: ""
	// Running: ""
	// Finished: ""
	// Blocked (Rate): "At most 2 calls of api/v1/jobs/{id} may begin in any hour, and so many have. Another may begin in 1 hour."
}

type twoAnHour struct{}

func (twoAnHour) Limit(string, string) (apicall.Limit, bool) {
	return apicall.Limit{Concurrency: 1, Calls: 2, Window: time.Hour}, true
}
