package query

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// limitsPath is of the endpoints whose calls nothing limits.
const limitsPath = "/audit-log/admin/limits"

// limitsAnswer says what counts for the calls of the caller's subscription.
type limitsAnswer struct {
	Tier      identity.Tier     `json:"tier"`
	TierLimit apicall.Limit     `json:"tierLimit"`
	Override  *apicall.Override `json:"override"` // null: none
	// APIs are those of this service, with what counts for them.
	APIs     []limitOfAPI `json:"apis"`
	Warnings []string     `json:"warnings,omitempty"`
}

type limitOfAPI struct {
	API    string        `json:"api"`
	Limit  apicall.Limit `json:"limit"`
	Source string        `json:"source"` // "override", "tier", or "exempt": nothing limits it
}

// limitOf says what counts for the caller's calls to an API.
func limitOf(id identity.Identity, o apicall.Override, api string) limitOfAPI {
	l := limitOfAPI{API: api, Limit: apicall.LimitOf(apicall.Tier(id.Tier)), Source: "tier"}
	if set, ok := o.Limit(api); ok {
		l.Limit, l.Source = set, "override"
	}
	if "/"+api == limitsPath {
		l.Limit, l.Source = apicall.Limit{}, "exempt"
	}
	return l
}

func (s *Service) answerLimits(w http.ResponseWriter, id identity.Identity, o apicall.Override, warnings []string) error {
	a := limitsAnswer{Tier: id.Tier, TierLimit: apicall.LimitOf(apicall.Tier(id.Tier)), Warnings: warnings}
	if o.Default != nil || len(o.APIs) > 0 {
		a.Override = &o
	}
	for _, api := range s.ownAPIs() {
		a.APIs = append(a.APIs, limitOf(id, o, api))
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return writeJSON(w, body)
}

// showLimits answers GET /audit-log/admin/limits.
func (s *Service) showLimits(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	o, err := s.settings.limits(r.Context(), id.CustomerUUID)
	if err != nil {
		return err
	}
	return s.answerLimits(w, id, o, nil)
}

// changeLimits answers PUT /audit-log/admin/limits: it replaces the limits that
// were set, as an audit event, and answers like GET.
func (s *Service) changeLimits(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := managesLimits(id); err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var wanted apicall.Override
	if err := wanted.UnmarshalJSON(body); err != nil {
		return problem.Newf(problem.KindInvalid, "%s.", strings.TrimSuffix(err.Error(), "."))
	}
	return s.setLimits(w, r, id, wanted)
}

// dropLimits answers DELETE /audit-log/admin/limits: the limits of the tier
// count again.
func (s *Service) dropLimits(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if err := managesLimits(id); err != nil {
		return err
	}
	return s.setLimits(w, r, id, apicall.Override{})
}

func managesLimits(id identity.Identity) error {
	if id.Role != identity.RoleManager {
		return problem.Newf(problem.KindForbidden, "Only Managers change limits; your role is %s. Ask a Manager of your subscription.", id.Role)
	}
	return nil
}

func (s *Service) setLimits(w http.ResponseWriter, r *http.Request, id identity.Identity, wanted apicall.Override) error {
	if _, err := s.settings.limits(r.Context(), id.CustomerUUID); err != nil {
		return err
	}
	record := func(ctx context.Context, e audit.Event) error { return s.audit(r.WithContext(ctx), id, e) }
	_, after, err := s.settings.calls.Update(r.Context(), id.CustomerUUID, func(o *apicall.Override) error { *o = wanted; return nil }, record)
	if err := s.changed(r, id, "limits", err); err != nil {
		return err
	}
	return s.answerLimits(w, id, after, s.strangers(r.Context(), id, after))
}

// strangers warns about names and patterns of limits that are of no API that is
// known: neither one of this service nor one that was called lately.
func (s *Service) strangers(ctx context.Context, id identity.Identity, o apicall.Override) (warnings []string) {
	names := slices.Sorted(maps.Keys(o.APIs))
	known := func(apis []string) func(string) bool {
		return func(name string) bool {
			prefix, pattern := strings.CutSuffix(name, "*")
			return slices.ContainsFunc(apis, func(api string) bool {
				return api == name || pattern && strings.HasPrefix(api, prefix)
			})
		}
	}
	if names = slices.DeleteFunc(names, known(s.ownAPIs())); len(names) == 0 {
		return nil
	}
	leave, err := s.engine.enter(ctx, id.CustomerUUID)
	var called []string
	if err == nil {
		called, err = s.called(ctx, visibility.ForCalls(id, false))
		leave()
	}
	if err != nil {
		s.log.Warn("limits are not compared with the APIs that were called lately", zap.String("requestId", requestIDOf(ctx)), zap.Error(err))
		return []string{fmt.Sprintf("Which APIs were called lately cannot be told at the moment. None of this service: %s.", strings.Join(names, ", "))}
	}
	for _, name := range slices.DeleteFunc(names, known(called)) {
		warnings = append(warnings, fmt.Sprintf("%s matches no API of this service and none of the %d that were called most in the past week. Is it spelled right?", name, mostCalled))
	}
	return warnings
}
