package settings

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/audited"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// newTable is a table on a broker of the test's own, and a client of that.
func newTable(t *testing.T) (Table, *kgo.Client) {
	t.Helper()
	at := testenv.Kafka(t)
	cl, err := kafka.Open(t.Context(), at, zaptest.NewLogger(t), kgo.DefaultProduceTopic(topic.Settings))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if _, err := topic.Ensure(t.Context(), cl, topic.Config{Partitions: 1, Replication: 1, Retention: time.Hour}.Specs()); err != nil {
		t.Fatal(err)
	}
	table, err := Open(t.Context(), at, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table, cl
}

// trail is where audit events go; fail makes a recording fail.
type trail struct {
	statuses []string
	fail     func(status string) error
}

func (r *trail) record(_ context.Context, e audit.Event) error {
	r.statuses = append(r.statuses, e.Status)
	if r.fail != nil {
		return r.fail(e.Status)
	}
	return nil
}

func auditSearches(s *Settings) error { s.AuditSearches = true; return nil }

// TestAChangeEndsBetweenAnyTwoSteps: died there, or told that the step failed
// though it landed. Repeated, the change is made, and its trail is whole.
func TestAChangeEndsBetweenAnyTwoSteps(t *testing.T) {
	t.Parallel()
	errDied := errors.New("died")
	for name, c := range map[string]struct {
		status  string   // of the event whose recording fails
		changed bool     // what the settings are then
		again   []string // what a repetition records
	}{
		"after it was recorded that it is requested": {audited.StatusRequested, false, []string{audited.StatusRequested, audited.StatusSuccess}},
		"after it was written":                       {audited.StatusSuccess, true, nil},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			table, _ := newTable(t)
			r := &trail{fail: func(status string) error {
				if status == c.status {
					return errDied
				}
				return nil
			}}
			_, _, err := table.Update(t.Context(), "c", auditSearches, r.record)
			if !errors.Is(err, errDied) || errors.Is(err, audited.ErrUnrecorded) != c.changed {
				t.Errorf("got %v", err)
			}
			if got := table.Peek("c").AuditSearches; got != c.changed {
				t.Errorf("changed: %v, want %v", got, c.changed)
			}
			again := &trail{}
			_, after, err := table.Update(t.Context(), "c", auditSearches, again.record)
			if err != nil || !after.AuditSearches {
				t.Errorf("again: %+v, %v", after, err)
			}
			if d := cmp.Diff(again.statuses, c.again); d != "" {
				t.Errorf("again (-got +want)\n%s", d)
			}
		})
	}
}

func TestTheOutcomeOfAChangeIsRecorded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want   error
		status string
		// second is done when the change is about to be written.
		second func(t *testing.T, table Table, cl *kgo.Client, s *Settings)
	}{
		"refused": {nil, audited.StatusFailure, func(_ *testing.T, _ Table, _ *kgo.Client, s *Settings) {
			s.others = map[string]json.RawMessage{"big": json.RawMessage(`"` + strings.Repeat("x", 4<<20) + `"`)}
		}},
		"unknown": {ktable.ErrUnconfirmed, audited.StatusUnknown, func(t *testing.T, _ Table, cl *kgo.Client, _ *Settings) {
			if _, err := kadm.NewClient(cl).DeleteTopic(t.Context(), topic.Settings); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, cl := newTable(t)
			r, calls := &trail{}, 0
			_, _, err := table.Update(t.Context(), "c", func(s *Settings) error {
				if calls++; calls == 2 {
					c.second(t, table, cl, s)
				}
				return auditSearches(s)
			}, r.record)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, audited.ErrUnrecorded) {
				t.Errorf("got %v", err)
			}
			if d := cmp.Diff(r.statuses, []string{audited.StatusRequested, c.status}); d != "" {
				t.Errorf("(-got +want)\n%s", d)
			}
		})
	}
}

// TestAChangeIsCarriedThrough: whoever asked for it does not wait any more.
func TestAChangeIsCarriedThrough(t *testing.T) {
	t.Parallel()
	table, _ := newTable(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var statuses []string
	_, after, err := table.Update(ctx, "c", auditSearches, func(ctx context.Context, e audit.Event) error {
		leave()
		statuses = append(statuses, e.Status)
		return ctx.Err()
	})
	if err != nil || !after.AuditSearches {
		t.Errorf("got %+v, %v", after, err)
	}
	if d := cmp.Diff(statuses, []string{audited.StatusRequested, audited.StatusSuccess}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

func TestAChangeMeanwhileIsNotOverwritten(t *testing.T) {
	t.Parallel()
	table, _ := newTable(t)
	r := &trail{fail: func(status string) error {
		if status != audited.StatusRequested {
			return nil
		}
		_, err := table.Change(t.Context(), "c", func(s *Settings) error { s.DefaultTimeframeDays = 90; return nil })
		return err
	}}
	if _, _, err := table.Update(t.Context(), "c", auditSearches, r.record); !errors.Is(err, audited.ErrMeanwhile) {
		t.Errorf("got %v, want %v", err, audited.ErrMeanwhile)
	}
	if got := table.Peek("c"); got.AuditSearches || got.DefaultTimeframeDays != 90 {
		t.Errorf("got %+v", got)
	}
	if d := cmp.Diff(r.statuses, []string{audited.StatusRequested, audited.StatusFailure}); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

// TestAChoiceKeepsItsTime: another setting's change neither moves a switch nor
// restarts a retention.
func TestAChoiceKeepsItsTime(t *testing.T) {
	t.Parallel()
	table, _ := newTable(t)
	change := func(edit func(*Settings)) Settings {
		t.Helper()
		s, err := table.Change(t.Context(), "c", func(s *Settings) error { edit(s); return nil })
		if err != nil {
			t.Fatal(err)
		}
		// Times are in ms: the next change is to have another one.
		written := s
		testenv.Until(t, time.Minute, nil, "the clock to move on", func() (bool, string) {
			for _, at := range append([]Moment{written.RetentionAt}, written.AutoUpdateSwitches...) {
				if time.Since(time.UnixMilli(int64(at))) < 2*time.Millisecond {
					return false, ""
				}
			}
			return true, ""
		})
		return s
	}
	if s := change(func(s *Settings) { s.AuditSearches = true }); s.RetentionAt != 0 || len(s.AutoUpdateSwitches) != 0 {
		t.Errorf("never chosen: %+v", s)
	}
	if r, ok := table.Retention("c"); ok {
		t.Errorf("got %v, want no choice", r)
	}
	first := change(func(s *Settings) { s.RetentionDays = 30; s.SetAutoUpdates(false) })
	if first.RetentionAt <= 0 || len(first.AutoUpdateSwitches) != 1 || first.AutoUpdateSwitches[0] != first.RetentionAt {
		t.Fatalf("got %+v", first)
	}
	kept := change(func(s *Settings) { s.AuditSearches = false })
	if kept.RetentionAt != first.RetentionAt || !cmp.Equal(kept.AutoUpdateSwitches, first.AutoUpdateSwitches) {
		t.Errorf("got %+v, want the times of %+v", kept, first)
	}
	on := change(func(s *Settings) { s.SetAutoUpdates(true) })
	if on.RetentionAt != first.RetentionAt || len(on.AutoUpdateSwitches) != 2 || on.AutoUpdateSwitches[0] != first.RetentionAt || on.AutoUpdateSwitches[1] <= first.RetentionAt {
		t.Errorf("got %+v", on)
	}
	unset := change(func(s *Settings) { s.RetentionDays = 0 })
	r, ok := table.Retention("c")
	if !ok || r.Days != 0 || unset.RetentionAt <= on.AutoUpdateSwitches[1] || !cmp.Equal(unset.AutoUpdateSwitches, on.AutoUpdateSwitches) {
		t.Errorf("got %+v, %v, %v", unset, r, ok)
	}
	same := change(func(s *Settings) { s.SetAutoUpdates(false); s.SetAutoUpdates(true) })
	if !cmp.Equal(same, unset, cmp.AllowUnexported(Settings{})) {
		t.Errorf("a switch that was taken back before it was written: %+v, want %+v", same, unset)
	}
}
