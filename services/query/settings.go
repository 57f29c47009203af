package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/audited"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/settings"
)

// settingsMembers are the members of a change of settings: the settings, what
// agrees to a change that may delete events, and what is read only.
var settingsMembers = []string{
	"defaultTimeframeDays", "autoUpdateActivityLog", "restrictUserInformation", "auditSearches", "retentionDays", "deleteOlder",
	"takesEffect", // from a GET, to be sent back; ignored
}

// settingsAnswer is the answer of both endpoints.
type settingsAnswer struct {
	DefaultTimeframeDays    int     `json:"defaultTimeframeDays"`
	AutoUpdateActivityLog   bool    `json:"autoUpdateActivityLog"`
	RestrictUserInformation bool    `json:"restrictUserInformation"`
	AuditSearches           bool    `json:"auditSearches"`
	RetentionDays           *uint16 `json:"retentionDays"` // null: the installation's default
	// TakesEffect says when those take effect that do so later than a second
	// after they were chosen; those that never were are absent.
	TakesEffect struct {
		AutoUpdateActivityLog *takesEffect `json:"autoUpdateActivityLog,omitempty"`
		RetentionDays         *takesEffect `json:"retentionDays,omitempty"`
	} `json:"takesEffect"`
}

// takesEffect is when a setting was chosen and from when on it counts, in
// milliseconds since 1970; the latter is 0 when only ingest knows.
type takesEffect struct {
	ChosenAt int64  `json:"chosenAt"`
	From     int64  `json:"from,omitempty"`
	Note     string `json:"note"`
}

func answerSettings(w http.ResponseWriter, id identity.Identity, s settings.Settings) error {
	a := settingsAnswer{
		DefaultTimeframeDays: timeframe(id, s), AutoUpdateActivityLog: s.AutoUpdates(),
		RestrictUserInformation: s.RestrictUserInformation, AuditSearches: s.AuditSearches,
	}
	if s.RetentionDays > 0 {
		a.RetentionDays = &s.RetentionDays
	}
	if n := len(s.AutoUpdateSwitches); n > 0 {
		at, what := int64(s.AutoUpdateSwitches[n-1]), "stored"
		if !a.AutoUpdateActivityLog {
			what = "skipped"
		}
		a.TakesEffect.AutoUpdateActivityLog = &takesEffect{ChosenAt: at, From: at + settings.SwitchDelay.Milliseconds(),
			Note: "Events of origin auto-update that reach Kafka from then on are " + what + "."}
	}
	if s.RetentionAt > 0 {
		a.TakesEffect.RetentionDays = &takesEffect{ChosenAt: int64(s.RetentionAt),
			Note: "Counts, for stored events too, once it has stood for ingest's --retention-delay (10 minutes unless the operator chose otherwise); until then it can be taken back."}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return writeJSON(w, body)
}

// showSettings answers GET /audit-log/admin/settings.
func (s *Service) showSettings(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	chose, err := s.settings.of(r.Context(), id.CustomerUUID)
	if err != nil {
		return err
	}
	return answerSettings(w, id, chose)
}

// changeSettings answers PUT /audit-log/admin/settings: it changes the members
// that are given, as an audit event, and answers like GET.
func (s *Service) changeSettings(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	if id.Role != identity.RoleManager {
		return problem.Newf(problem.KindForbidden, "Only Managers change settings; your role is %s. Ask a Manager of your subscription.", id.Role)
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	change, err := parseSettings(body)
	if err != nil {
		return err
	}
	if days := change.timeframe; id.Tier == identity.TierExpressLite && days != nil {
		if *days != 0 && *days != liteTimeframe {
			return problem.Newf(problem.KindForbidden, "defaultTimeframeDays cannot be changed: for Express Lite it is fixed at %d days. Leave it out.", liteTimeframe)
		}
		change.timeframe = nil // what was chosen in another tier stays
	}
	if _, err := s.settings.of(r.Context(), id.CustomerUUID); err != nil {
		return err
	}
	record := func(ctx context.Context, e audit.Event) error { return s.audit(r.WithContext(ctx), id, e) }
	_, after, err := s.settings.table.Update(r.Context(), id.CustomerUUID, change.apply, record)
	if err := s.changed(r, id, "settings", err); err != nil {
		return err
	}
	return answerSettings(w, id, after)
}

// changed is what the caller is told of a change of something, by the error of
// its audited.Object.
func (s *Service) changed(r *http.Request, id identity.Identity, what string, err error) error {
	switch {
	case errors.Is(err, audited.ErrMeanwhile):
		return &problem.Error{Kind: problem.KindConflict, Cause: err, Detail: "The " + what + " were changed by somebody else at this moment. Nothing was changed; look at them and try again."}
	case errors.Is(err, ktable.ErrUnconfirmed):
		return &problem.Error{Kind: problem.KindUnavailable, Cause: err, RetryAfter: retryAfter, Detail: "The change could not be confirmed: it may or may not take effect. Look at the " + what + " before you repeat it."}
	case errors.Is(err, ktable.ErrBehind):
		return &problem.Error{Kind: problem.KindUnavailable, Cause: err, RetryAfter: retryAfter, Detail: "The " + what + " cannot be read at the moment. Nothing was changed; try again shortly."}
	case errors.Is(err, audited.ErrUnrecorded):
		// The change was made, and its request is recorded.
		s.log.Error("the outcome of a change is not recorded as an audit event", zap.String("what", what), zap.String("requestId", requestIDOf(r.Context())), zap.String("tenant", id.CustomerUUID), zap.Error(err))
		return nil
	}
	return err
}

// settingsChange is what a request changes: nil leaves as it is.
type settingsChange struct {
	timeframe, retention                 *uint16 // 0: back to the default
	autoUpdates, restrict, auditSearches *bool
	deleteOlder                          bool
}

// parseSettings reads a change of settings. The error tells every broken rule.
func parseSettings(body []byte) (settingsChange, error) {
	var c settingsChange
	f, err := readForm(body, settingsMembers)
	if err != nil {
		return c, err
	}
	c.timeframe = f.days("defaultTimeframeDays", settings.Timeframes...)
	c.autoUpdates = f.choice("autoUpdateActivityLog", true)
	c.restrict = f.choice("restrictUserInformation", false)
	c.auditSearches = f.choice("auditSearches", false)
	c.retention = f.days("retentionDays")
	if agreed := f.choice("deleteOlder", false); agreed != nil {
		c.deleteOlder = *agreed
	}
	return c, f.err()
}

// choice returns a member that is true or false; null is the default, nil that
// it is not given.
func (f *form) choice(name string, byDefault bool) *bool {
	raw, ok := f.given(name)
	switch {
	case !ok:
		return nil
	case raw.Kind() == 'n':
		return &byDefault
	case raw.Kind() == 't' || raw.Kind() == 'f':
		chosen := raw.Kind() == 't'
		return &chosen
	}
	f.violate(problem.Violation{Field: name, Value: problem.Shorten(string(raw)), Limit: "true, false or null", Message: "must be true, false or null (the default)"})
	return nil
}

// days returns a member that is a number of days, of those allowed if there are
// some; null is 0, and nil that it is not given.
func (f *form) days(name string, allowed ...uint16) *uint16 {
	raw, ok := f.given(name)
	if !ok {
		return nil
	}
	var chosen uint16
	if raw.Kind() == 'n' {
		return &chosen
	}
	limit := fmt.Sprintf("%d to %d", settings.MinRetentionDays, settings.MaxRetentionDays)
	if len(allowed) > 0 {
		limit = strings.Trim(strings.Join(strings.Fields(fmt.Sprint(allowed)), ", "), "[]")
	}
	n, err := parseWhole(string(raw))
	good := err == nil && n >= settings.MinRetentionDays && n <= settings.MaxRetentionDays
	if good && len(allowed) > 0 {
		good = slices.Contains(allowed, uint16(n))
	}
	if !good {
		f.violate(problem.Violation{Field: name, Value: problem.Shorten(string(raw)), Limit: limit, Message: "must be a number of days, " + limit + ", or null (the default)"})
		return nil
	}
	chosen = uint16(n)
	return &chosen
}

// apply makes the change. The error is a problem when it may delete events and
// nobody agreed to that.
func (c settingsChange) apply(s *settings.Settings) error {
	if days := c.retention; days != nil {
		if settings.MayDelete(s.RetentionDays, *days) && !c.deleteOlder {
			return problem.Invalid(problem.Violation{
				Field: "deleteOlder", Limit: "true",
				Message: fmt.Sprintf("retentionDays from %s to %s may delete older events for good: send \"deleteOlder\": true to agree", inDays(s.RetentionDays), inDays(*days)),
			})
		}
		s.RetentionDays = *days
	}
	if c.timeframe != nil && int(*c.timeframe) != s.Timeframe() { // the default, sent back, is no choice
		s.DefaultTimeframeDays = *c.timeframe
	}
	if c.autoUpdates != nil {
		s.SetAutoUpdates(*c.autoUpdates)
	}
	if c.restrict != nil {
		s.RestrictUserInformation = *c.restrict
	}
	if c.auditSearches != nil {
		s.AuditSearches = *c.auditSearches
	}
	return nil
}

func inDays(days uint16) string {
	if days == 0 {
		return "the default"
	}
	return fmt.Sprintf("%d days", days)
}

// given returns a member as it came, null and empty text too.
func (f *form) given(name string) (jsontext.Value, bool) {
	if raw, ok := f.blank[name]; ok {
		return raw, true
	}
	raw, ok := f.members[name]
	return raw, ok
}
