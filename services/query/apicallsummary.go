package query

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

const (
	// topBlocked is how many APIs and users a summary names.
	topBlocked = 10
	// mostCalled bounds the APIs that are known from calls.
	mostCalled = 100
	// budgetsTimeout bounds the questions that a summary asks the counters.
	budgetsTimeout = 2 * time.Second
)

var (
	stateField = field.Find(field.Calls.Fields, "state")
	apiField   = field.Find(field.Calls.Fields, "api")
	userField  = field.Find(field.Calls.Fields, "userName")
)

// callsSummary answers GET /audit-log/admin/api-calls/summary: how many calls
// were submitted when and what became of them, whom limits blocked, and what is
// left of the limits.
func (s *Service) callsSummary(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	see, err := s.seeCalls(r.Context(), id)
	if err != nil {
		return err
	}
	req := histogramRequest{by: stateField}
	if req.asked, err = readCalls(r, []string{"interval", "timezone"}, req.read); err != nil {
		return err
	}
	req.filter.Updated = false // when calls were submitted is what the buckets are of
	if err := s.bound(r.Context(), id, &req.asked); err != nil {
		return err
	}
	return s.answer(w, r, id, req.describe("summary of API calls"), func(ctx context.Context) (found, error) {
		return s.summarise(ctx, id, see, req)
	})
}

func (s *Service) summarise(ctx context.Context, id identity.Identity, see visibility.Calls, req histogramRequest) (found, error) {
	complete := s.horizon.completeUpTo(req.of)
	h, err := s.series(ctx, see, req)
	if err != nil {
		return found{}, err
	}
	states := map[string]uint64{}
	for _, by := range h.by {
		for state, n := range by {
			states[state] += n
		}
	}
	blocked, err := s.count(ctx, see, onlyBlocked(req.filter), []*field.Field{apiField, userField}, topBlocked)
	if err != nil {
		return found{}, err
	}
	budgets, err := s.budgets(ctx, id, see)
	if err != nil {
		return found{}, err
	}
	left, err := json.Marshal(budgets)
	if err != nil {
		return found{}, err
	}
	answer := appendCounts([]byte(`{"states":`), states)
	answer = h.appendJSON(append(answer, ','))
	for i, name := range []string{"blockedApis", "blockedUsers"} {
		answer = append(appendText(append(answer, ','), name), ":{"...)
		answer, _ = blocked[i].appendValues(answer)
		answer = append(answer, '}')
	}
	answer = append(append(answer, `,"budgets":`...), left...)
	answer = req.appendApplied(append(answer, ','))
	answer = append(answer, `,"completeUpTo":`+complete+"}"...)
	return found{body: answer, events: int64(min(h.total, 1<<62))}, nil
}

// onlyBlocked narrows to calls that a limit blocked.
func onlyBlocked(f sqlgen.Filter) sqlgen.Filter {
	parts := []qql.Expr{qql.Test{Field: stateField, Cond: qql.In{
		{Text: audit.StateBlockedRate, Exact: true}, {Text: audit.StateBlockedConcurrency, Exact: true},
	}}}
	if f.Where != nil {
		parts = append(parts, f.Where)
	}
	f.Where = both(parts)
	return f
}

// appendCounts appends an object of how many there are of each value.
func appendCounts(b []byte, counts map[string]uint64) []byte {
	text, err := json.Marshal(counts)
	if err != nil || counts == nil {
		text = []byte("{}") // numbers by names have JSON
	}
	return append(b, text...)
}

// budget is what is left of an API's limit. A member is absent where nothing
// bounds it.
type budget struct {
	limitOfAPI
	Running   int   `json:"running"`             // calls that run now and hold a place
	Calls     *int  `json:"calls,omitempty"`     // that began in the window
	Remaining *int  `json:"remaining,omitempty"` // that may still begin
	ToWaitSec int64 `json:"toWaitSec"`           // until another may begin
}

// budgets tells what is left of the limits of this service's APIs; where all
// modules count in one place, also of those that were called lately. They are
// nil while the counters do not answer: the rest of the summary is known.
func (s *Service) budgets(ctx context.Context, id identity.Identity, see visibility.Calls) ([]budget, error) {
	override, err := s.settings.limits(ctx, id.CustomerUUID)
	if err != nil {
		return nil, err
	}
	apis := s.ownAPIs()
	if s.calls.shared {
		called, err := s.called(ctx, see)
		if err != nil {
			return nil, err
		}
		for _, api := range called {
			if !slices.Contains(apis, api) {
				apis = append(apis, api)
			}
		}
	}
	asking, cancel := context.WithTimeout(ctx, budgetsTimeout)
	defer cancel()
	budgets := make([]budget, len(apis))
	for i, api := range apis {
		b := budget{limitOfAPI: limitOf(id, override, api)}
		var usage apicall.Usage
		if b.Limit != (apicall.Limit{}) { // what nothing bounds is not counted
			usage, err = s.calls.counters.Usage(asking, apicall.Key{CustomerUUID: id.CustomerUUID, API: api}, b.Limit)
		}
		if err != nil {
			s.log.Warn("what is left of the limits is not told: the counters of calls do not answer", zap.String("requestId", requestIDOf(ctx)), zap.Error(err))
			return nil, nil
		}
		b.Running, b.ToWaitSec = usage.Running, int64((usage.Wait+time.Second-1)/time.Second)
		if b.Limit.Calls > 0 {
			remaining := max(0, b.Limit.Calls-usage.Calls)
			b.Calls, b.Remaining = &usage.Calls, &remaining
		}
		budgets[i] = b
	}
	return budgets, nil
}

// ownAPIs are those of this service.
func (s *Service) ownAPIs() []string {
	var apis []string
	for _, e := range s.endpoints() {
		if api := e.api(); !slices.Contains(apis, api) { // one path, several methods
			apis = append(apis, api)
		}
	}
	return apis
}

// called lists the APIs that a subscription called in the past week, those that
// were called most first.
func (s *Service) called(ctx context.Context, see visibility.Calls) ([]string, error) {
	start := time.Now().AddDate(0, 0, -callsDays).UnixMilli()
	facets, err := s.count(ctx, see, sqlgen.Filter{Start: &start}, []*field.Field{apiField}, mostCalled)
	if err != nil {
		return nil, err
	}
	var apis []string
	for _, v := range facets[0].values {
		apis = append(apis, v.value)
	}
	return apis, nil
}
