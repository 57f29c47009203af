package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/settings"
)

const settingsPath = "/audit-log/admin/settings"

const atFirst = `{"defaultTimeframeDays":30,"autoUpdateActivityLog":true,"restrictUserInformation":false,"auditSearches":false,"retentionDays":null,"takesEffect":{}}`

// put changes settings and must succeed.
func (b *bench) put(t testing.TB, id identity.Identity, body string) settingsAnswer {
	t.Helper()
	w := b.do(t, &id, http.MethodPut, settingsPath, body)
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, body, w.Body)
	}
	var a settingsAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func (b *bench) shown(t testing.TB, id identity.Identity) string {
	t.Helper()
	w := b.do(t, &id, http.MethodGet, settingsPath, "")
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	return w.Body.String()
}

func TestSettingsAreShownToEveryRoleAndChangedByManagers(t *testing.T) {
	b := newBench(t, away(t), nil)
	for _, role := range identity.Roles {
		id := manager
		id.Role, id.ViewAll = role, true
		if got := b.shown(t, id); got != atFirst {
			t.Errorf("%s sees %s", role, got)
		}
		w := b.do(t, &id, http.MethodPut, settingsPath, `{"auditSearches":false}`)
		if role == identity.RoleManager {
			if w.Code != http.StatusOK || w.Body.String() != atFirst {
				t.Errorf("%s: %d %s", role, w.Code, w.Body)
			}
		} else if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "Only Managers change settings; your role is "+string(role)) {
			t.Errorf("%s: %d %s", role, w.Code, w.Body)
		}
	}
	b.audited(t, 0) // what changes nothing is no event

	before := time.Now().Add(-time.Second)
	got := b.put(t, manager, `{"defaultTimeframeDays":90,"autoUpdateActivityLog":false,"restrictUserInformation":true,"auditSearches":true,"retentionDays":120,"deleteOlder":true}`)
	days := uint16(120)
	want := settingsAnswer{DefaultTimeframeDays: 90, RestrictUserInformation: true, AuditSearches: true, RetentionDays: &days}
	want.TakesEffect = got.TakesEffect
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	off, kept := got.TakesEffect.AutoUpdateActivityLog, got.TakesEffect.RetentionDays
	if off == nil || kept == nil || off.ChosenAt < before.UnixMilli() || off.From != off.ChosenAt+settings.SwitchDelay.Milliseconds() || kept.ChosenAt != off.ChosenAt || !strings.Contains(off.Note, "skipped") {
		t.Errorf("takes effect: %+v %+v", off, kept)
	}
	// A change of another setting moves neither; null goes back to the default.
	got = b.put(t, manager, `{"defaultTimeframeDays":null,"restrictUserInformation":null}`)
	if d := cmp.Diff(got, settingsAnswer{DefaultTimeframeDays: 30, AuditSearches: true, RetentionDays: &days, TakesEffect: want.TakesEffect}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	other := manager
	other.CustomerUUID = "tenant-two"
	if got := b.shown(t, other); got != atFirst {
		t.Errorf("another subscription has %s", got)
	}
}

// TestWhatIsShownMayBeSentBack: as it is, which changes nothing, and edited.
func TestWhatIsShownMayBeSentBack(t *testing.T) {
	b := newBench(t, away(t), nil)
	lite := manager
	lite.CustomerUUID, lite.Tier = "tenant-lite", identity.TierExpressLite
	b.put(t, lite, b.shown(t, lite))
	b.put(t, manager, b.shown(t, manager))
	b.audited(t, 0)
	b.put(t, manager, `{"defaultTimeframeDays":90,"autoUpdateActivityLog":false,"retentionDays":120,"deleteOlder":true}`)
	shown := b.shown(t, manager)
	if !strings.Contains(shown, `"takesEffect":{"autoUpdateActivityLog":{"chosenAt":`) {
		t.Fatal(shown)
	}
	b.put(t, manager, shown)
	if again := b.shown(t, manager); again != shown {
		t.Errorf("sent back\n%s\nbecame\n%s", shown, again)
	}
	b.put(t, manager, strings.Replace(shown, `"auditSearches":false`, `"auditSearches":true`, 1))
	if again, want := b.shown(t, manager), strings.Replace(shown, `"auditSearches":false`, `"auditSearches":true`, 1); again != want {
		t.Errorf("got\n%s\nwant\n%s", again, want)
	}
	b.audited(t, 4) // of two changes
}

func TestAChangeOfSettingsIsAudited(t *testing.T) {
	b := newBench(t, away(t), nil)
	b.put(t, manager, `{"defaultTimeframeDays":180,"autoUpdateActivityLog":false,"retentionDays":3650}`)
	b.put(t, manager, `{"retentionDays":null,"deleteOlder":true,"defaultTimeframeDays":180}`)
	events := b.audited(t, 4)
	type said struct{ Status, Comment, Changes, User, Request string }
	var got []said
	for _, e := range events {
		if e.Action != "Update" || e.TargetType != "Settings" || e.ModuleCode != "AUDIT" || e.CustomerUUID != manager.CustomerUUID {
			t.Errorf("event %+v", e)
		}
		got = append(got, said{e.Status, e.AuditComment, string(e.Changes), e.UserName, e.RequestID})
	}
	first := said{"Requested", "defaultTimeframeDays: default -> 180; autoUpdateActivityLog: true -> false; retentionDays: default -> 3650",
		`[{"field":"defaultTimeframeDays","after":180},{"field":"autoUpdateActivityLog","before":true,"after":false},{"field":"retentionDays","after":3650}]`, "jack", events[0].RequestID}
	second := said{"Requested", "retentionDays: 3650 -> default", `[{"field":"retentionDays","before":3650}]`, "jack", events[2].RequestID}
	want := []said{first, first, second, second}
	want[1].Status, want[3].Status = "Success", "Success"
	if d := cmp.Diff(got, want); d != "" || first.Request == "" || first.Request == second.Request {
		t.Errorf("(-got +want)\n%s", d)
	}
}

func TestWrongSettingsAreNamedWithTheirLimits(t *testing.T) {
	b := newBench(t, away(t), nil)
	b.put(t, manager, `{"retentionDays":100,"deleteOlder":true}`)
	for body, want := range map[string][]string{
		`{"defaultTimeframeDays":31}`:                  {`"field":"defaultTimeframeDays"`, `"limit":"30, 90, 180"`},
		`{"defaultTimeframeDays":"90"}`:                {"must be a number of days, 30, 90, 180, or null"},
		`{"defaultTimeframeDays":""}`:                  {`"field":"defaultTimeframeDays"`},
		`{"defaultTimeframeDays":65626}`:               {`"field":"defaultTimeframeDays"`}, // 90 in 16 bits
		`{"retentionDays":0}`:                          {`"limit":"1 to 3650"`},
		`{"retentionDays":3651}`:                       {`"limit":"1 to 3650"`},
		`{"retentionDays":65636}`:                      {`"limit":"1 to 3650"`},
		`{"retentionDays":1.5}`:                        {`"limit":"1 to 3650"`},
		`{"retentionDays":[90]}`:                       {`"limit":"1 to 3650"`},
		`{"autoUpdateActivityLog":1}`:                  {`"limit":"true, false or null"`},
		`{"restrictUserInformation":"false"}`:          {`"field":"restrictUserInformation"`},
		`{"auditSearches":""}`:                         {`"field":"auditSearches"`},
		`{"deleteOlder":"yes"}`:                        {`"field":"deleteOlder"`},
		`{"AuditSearches":true}`:                       {"did you mean auditSearches"},
		`{"colour":1}`:                                 {"is not known; known are defaultTimeframeDays, autoUpdateActivityLog"},
		`{"auditSearches":true,"auditSearches":false}`: {"given more than once"},
		`{"auditSearches":1,"retentionDays":0}`:        {`"field":"auditSearches"`, `"field":"retentionDays"`},
		`[]`:                                           {"must be a JSON object"},
		`{"retentionDays":99}`:                         {`"field":"deleteOlder"`, "from 100 days to 99 days may delete older events for good", `send \"deleteOlder\": true`},
		`{"retentionDays":null}`:                       {"from 100 days to the default"},
		`{"retentionDays":null,"deleteOlder":false}`:   {"from 100 days to the default"},
	} {
		w := b.do(t, &manager, http.MethodPut, settingsPath, body)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
		for _, part := range want {
			if !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: %s, want %s in it", body, w.Body, part)
			}
		}
	}
	b.audited(t, 2) // of the first change alone
	if got := b.put(t, manager, `{"retentionDays":1e2,"deleteOlder":null}`); *got.RetentionDays != 100 {
		t.Errorf("got %+v", got)
	}
	if got := b.put(t, manager, `{"retentionDays":101}`); *got.RetentionDays != 101 { // more needs no consent
		t.Errorf("got %+v", got)
	}
}

func TestExpressLiteKeepsItsTimeframe(t *testing.T) {
	b := newBench(t, away(t), nil)
	b.put(t, manager, `{"defaultTimeframeDays":180}`)
	lite := manager
	lite.Tier = identity.TierExpressLite
	if got := b.shown(t, lite); !strings.Contains(got, `"defaultTimeframeDays":30,`) {
		t.Errorf("shown %s", got)
	}
	if days, err := b.settings.timeframe(t.Context(), lite); err != nil || days != 30 {
		t.Errorf("searches look back %d days, %v", days, err)
	}
	w := b.do(t, &lite, http.MethodPut, settingsPath, `{"defaultTimeframeDays":90,"auditSearches":true}`)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "for Express Lite it is fixed at 30 days") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// What a GET answered can be put back, and the rest is theirs to change.
	if got := b.put(t, lite, `{"defaultTimeframeDays":30,"auditSearches":true}`); !got.AuditSearches || got.DefaultTimeframeDays != 30 {
		t.Errorf("got %+v", got)
	}
	if days, err := b.settings.timeframe(t.Context(), manager); err != nil || days != 180 {
		t.Errorf("in another tier searches look back %d days, %v", days, err)
	}
}

// TestAllReplicasSeeAChangeWithinASecond: two services on one broker.
func TestAllReplicasSeeAChangeWithinASecond(t *testing.T) {
	one := newBench(t, away(t), nil)
	two := newBench(t, away(t), func(c *Config) { c.Kafka = one.cfg.Kafka })
	for i, days := range []int{90, 180, 30} {
		one.put(t, manager, fmt.Sprintf(`{"defaultTimeframeDays":%d}`, days))
		changed := time.Now()
		until(t, "the other replica to see it", func() bool {
			got, err := two.settings.timeframe(t.Context(), manager)
			return err == nil && got == days
		})
		if took := time.Since(changed); took > time.Second {
			t.Errorf("change %d: seen after %s", i, took)
		}
		one, two = two, one // and the other way round
	}
}

// TestWhatCannotBeRecordedIsNotDone, nor is anything lost for good by that.
func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	b := newBench(t, away(t), nil)
	nowhere := b.cfg.Kafka
	nowhere.Addr = away(t).Addr
	emitter, err := openEmitter(nowhere, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	works := b.emitter
	b.emitter = emitter
	w := b.do(t, &manager, http.MethodPut, settingsPath, `{"auditSearches":true}`)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "must be recorded") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if got := b.shown(t, manager); got != atFirst {
		t.Errorf("then %s", got)
	}
	b.emitter = works
	if err := closeEmitter(emitter); err != nil {
		t.Error(err)
	}
	b.audited(t, 0)
	b.put(t, manager, `{"auditSearches":true}`)
	if got := b.audited(t, 2); got[1].Status != "Success" {
		t.Errorf("got %+v", got)
	}
}

// TestAClientThatHangsUpLeavesNoHalfChange: what was requested is carried
// through.
func TestAClientThatHangsUpLeavesNoHalfChange(t *testing.T) {
	b := newBench(t, away(t), nil)
	ctx, hangUp := context.WithCancel(t.Context())
	r := request(ctx, "Content-Type", "application/json")
	r.Body = io.NopCloser(strings.NewReader(`{"auditSearches":true}`))
	hangUp()
	if err := b.changeSettings(httptest.NewRecorder(), r, manager); err != nil {
		t.Error(err)
	}
	if got := b.audited(t, 2); got[1].Status != "Success" {
		t.Errorf("got %+v", got)
	}
	if got := b.shown(t, manager); !strings.Contains(got, `"auditSearches":true`) {
		t.Errorf("then %s", got)
	}
}
