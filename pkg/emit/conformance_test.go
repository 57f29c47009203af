package emit_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/pkg/emit/emittest"
)

// subject is a sink under test: events and calls return what it has taken, and
// shut closes it.
type subject struct {
	sink   sink
	events func() []audit.Event
	calls  func() []audit.APICall
	shut   func()
}

// sink takes all kinds of records.
type sink interface {
	emit.Sink
	apicall.Sink
}

func TestRecorderConforms(t *testing.T) {
	exercise(t, func(*testing.T) subject {
		var r emittest.Recorder
		return subject{&r, r.Events, r.Calls, r.Close}
	})
}

func TestEmitterConforms(t *testing.T) {
	exercise(t, func(t *testing.T) subject {
		cluster := newCluster(t)
		em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
		return subject{
			sink: em,
			events: func() []audit.Event {
				mustFlush(t, em)
				var events []audit.Event
				for _, r := range stored(t, cluster) {
					var e audit.Event
					if err := audit.Decode(r.Value, &e); err != nil {
						t.Error(err)
					}
					events = append(events, e)
				}
				return events
			},
			calls: func() []audit.APICall {
				mustFlush(t, em)
				var calls []audit.APICall
				for _, r := range stored(t, cluster, audit.APICallsTopic) {
					var c audit.APICall
					if err := audit.DecodeAPICall(r.Value, &c); err != nil {
						t.Error(err)
					}
					calls = append(calls, c)
				}
				return calls
			},
			shut: func() {
				if err := em.Close(within(t, patience)); err != nil {
					t.Error(err)
				}
			},
		}
	})
}

// exercise is what every emit.Sink must do.
func exercise(t *testing.T, open func(*testing.T) subject) {
	t.Run("keeps every field", func(t *testing.T) {
		s := open(t)
		want := fullEvent(t)
		mustEmit(t, s.sink, want)
		if diff := cmp.Diff([]audit.Event{want}, s.events()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})

	t.Run("gives ids to events without one only", func(t *testing.T) {
		s := open(t)
		none := workload()
		own := workload()
		own.ID = "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"
		mustEmit(t, s.sink, none)
		mustEmit(t, s.sink, none)
		mustEmit(t, s.sink, own)
		var ids []string
		for _, e := range s.events() {
			if e.ID == own.ID {
				continue
			}
			if len(e.ID) != 36 || e.ID[14] != '7' {
				t.Errorf("%q is no version 7 UUID", e.ID)
			}
			ids = append(ids, e.ID)
		}
		if len(ids) != 2 || ids[0] == ids[1] {
			t.Errorf("ids given are %q, want two that differ", ids)
		}
	})

	t.Run("names every problem", func(t *testing.T) {
		s := open(t)
		bad := workload()
		bad.ModuleCode, bad.CustomerUUID, bad.SourceIP, bad.Action = "um", "", "here", "caf\xe9"
		err := s.sink.Emit(bad)
		var problems audit.Problems
		if !errors.As(err, &problems) {
			t.Fatalf("got %v, want audit.Problems", err)
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.Field+" "+p.Rule)
		}
		slices.Sort(got)
		want := []string{"action utf8", "customerUuid required", "moduleCode format", "sourceIp format"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if events := s.events(); len(events) != 0 {
			t.Errorf("it was taken: %v", events)
		}
	})

	t.Run("refuses text that is not Unicode", func(t *testing.T) {
		s := open(t)
		bad := workload()
		bad.TargetName = "caf\xe9"
		var problems audit.Problems
		if err := s.sink.Emit(bad); !errors.As(err, &problems) || !problems.Has(audit.RuleUTF8) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("refuses what is too long", func(t *testing.T) {
		s := open(t)
		bad := workload()
		long := strings.Repeat("x", audit.MaxStringBytes)
		bad.TargetName, bad.AuditComment, bad.ExternalChangeLink, bad.UserName = long, long, long, long
		var problems audit.Problems
		if err := s.sink.Emit(bad); !errors.As(err, &problems) || !problems.Has(audit.RuleRecord) {
			t.Errorf("got %v", err)
		}
		bad.UserName = "u"
		mustEmit(t, s.sink, bad)
		if events := s.events(); len(events) != 1 || events[0].TargetName != long {
			t.Errorf("a long event that is allowed did not arrive")
		}
	})

	t.Run("refuses old events", func(t *testing.T) {
		s := open(t)
		bad := workload()
		bad.CreatedDate = time.Now().Add(-audit.DefaultMaxAge - time.Hour).UnixMilli()
		var problems audit.Problems
		if err := s.sink.Emit(bad); !errors.As(err, &problems) || !problems.Has(audit.RuleTooOld) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("keeps nothing of the caller's", func(t *testing.T) {
		s := open(t)
		e := workload()
		e.Changes = []byte(`[{"field":"a"}]`)
		e.Extra = []byte(`{"region":"eu"}`)
		mustEmit(t, s.sink, e)
		copy(e.Changes, `[{"field":"b"}]`)
		copy(e.Extra, `{"region":"us"}`)
		got := s.events()
		if len(got) != 1 || string(got[0].Changes) != `[{"field":"a"}]` || string(got[0].Extra) != `{"region":"eu"}` {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("takes events from many goroutines", func(t *testing.T) {
		s := open(t)
		const workers, each = 8, 50
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					e := workload()
					e.AuditComment = fmt.Sprintf("%d/%d", w, i)
					if err := s.sink.Emit(e); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		for _, e := range s.events() {
			seen[e.AuditComment] = true
		}
		if len(seen) != workers*each {
			t.Errorf("%d events, want %d", len(seen), workers*each)
		}
	})

	t.Run("refuses events once closed", func(t *testing.T) {
		s := open(t)
		mustEmit(t, s.sink, workload())
		s.shut()
		if err := s.sink.Emit(workload()); !errors.Is(err, emit.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})

	exerciseCalls(t, open)
}

// exerciseCalls is what EmitCall of every sink must do.
func exerciseCalls(t *testing.T, open func(*testing.T) subject) {
	t.Run("keeps every field of an API call, and their order", func(t *testing.T) {
		s := open(t)
		running := callWorkload()
		running.State, running.Heartbeat, running.DurationMs, running.HTTPStatus = audit.StateRunning, true, 0, 0
		finished := callWorkload()
		finished.Reason = "quoted \"reason\"\n🙂"
		mustEmitCall(t, s.sink, running)
		mustEmitCall(t, s.sink, finished)
		if diff := cmp.Diff([]audit.APICall{running, finished}, s.calls()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if events := s.events(); len(events) != 0 {
			t.Errorf("it became events: %v", events)
		}
	})

	t.Run("names every problem of an API call", func(t *testing.T) {
		s := open(t)
		bad := callWorkload()
		bad.CallID, bad.State, bad.HTTPStatus, bad.Reason = "", "Done", 1, "caf\xe9"
		err := s.sink.EmitCall(bad)
		var problems audit.Problems
		if !errors.As(err, &problems) {
			t.Fatalf("got %v, want audit.Problems", err)
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.Field+" "+p.Rule)
		}
		want := []string{"callId required", "state enum", "httpStatus range", "reason utf8"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if calls := s.calls(); len(calls) != 0 {
			t.Errorf("it was taken: %v", calls)
		}
	})

	t.Run("refuses API calls that are not Unicode, too long or too old", func(t *testing.T) {
		s := open(t)
		for rule, change := range map[string]func(*audit.APICall){
			audit.RuleUTF8:   func(c *audit.APICall) { c.Client = "caf\xe9" },
			audit.RuleRecord: func(c *audit.APICall) { c.UserName = strings.Repeat("\x01", audit.MaxStringBytes) },
			audit.RuleTooOld: func(c *audit.APICall) {
				c.SubmittedDate = time.Now().Add(-audit.DefaultMaxAge - time.Hour).UnixMilli()
			},
		} {
			bad := callWorkload()
			change(&bad)
			var problems audit.Problems
			if err := s.sink.EmitCall(bad); !errors.As(err, &problems) || len(problems) != 1 || !problems.Has(rule) {
				t.Errorf("got %v, want one problem: %s", err, rule)
			}
		}
	})

	t.Run("refuses API calls once closed", func(t *testing.T) {
		s := open(t)
		mustEmitCall(t, s.sink, callWorkload())
		s.shut()
		if err := s.sink.EmitCall(callWorkload()); !errors.Is(err, emit.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

func fullEvent(t *testing.T) audit.Event {
	t.Helper()
	e := workload()
	e.ID = "0195c9f1-2d4a-7b3c-8d5e-6f708192a3b4"
	e.EndpointType = audit.EndpointWebUI
	e.BusinessUnit = "Éire & UK"
	e.Origin = audit.OriginAutoUpdate
	e.RequestID = "req-1"
	e.TargetName = "quoted \"name\"\n🙂"
	if err := e.SetChanges([]audit.Change{{Field: "title", Before: "a", After: map[string]any{"x": 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := e.SetExtra(map[string]any{"region": "eu", "ticket": []int{1, 2}}); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRecorder(t *testing.T) {
	var r emittest.Recorder
	boom := errors.New("boom")
	r.Fail(boom)
	if err := r.Emit(workload()); !errors.Is(err, boom) {
		t.Errorf("got %v, want boom", err)
	}
	if err := r.Emit(audit.Event{}); errors.Is(err, boom) {
		t.Error("an invalid event got the failure for valid ones")
	}
	r.Fail(nil)
	mustEmit(t, &r, workload())
	if n := len(r.Events()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	mustEmitCall(t, &r, callWorkload())
	calls := r.Calls()
	calls[0].API = "changed"
	if got := r.Calls(); len(got) != 1 || got[0].API != callWorkload().API {
		t.Errorf("calls are %v, want one that is not the caller's", got)
	}
	r.Fail(boom)
	if err := r.EmitCall(callWorkload()); !errors.Is(err, boom) {
		t.Errorf("got %v, want boom", err)
	}
	r.Close()
	r.Reset()
	if n := len(r.Calls()); n != 0 {
		t.Errorf("%d calls after Reset, want none", n)
	}
	if n := len(r.Events()); n != 0 {
		t.Errorf("%d events after Reset, want none", n)
	}
	mustEmit(t, &r, workload())

	old := workload()
	old.CreatedDate = time.Now().Add(-time.Hour).UnixMilli()
	strict := emittest.Recorder{MaxAge: time.Minute}
	if err := strict.Emit(old); err == nil {
		t.Error("MaxAge was not applied")
	}
}

// A module that accepts a Sink shows that its code audits what it does.
func ExampleSink() {
	rename := func(sink emit.Sink, user, asset string) error {
		return sink.Emit(audit.Event{
			ModuleCode:   "AM",
			CustomerUUID: "33fe8ca3-d843-53ac-82e3-21cfb833d389",
			UserName:     user,
			CreatedDate:  time.Now().UnixMilli(),
			Action:       "Update",
			TargetType:   "Asset",
			TargetName:   asset,
		})
	}

	var recorder emittest.Recorder // in production: emit.New
	if err := rename(&recorder, "jack", "srv-17"); err != nil {
		fmt.Println(err)
	}
	fmt.Println(rename(&recorder, "", "srv-18"))
	for _, e := range recorder.Events() {
		fmt.Println(e.UserName, e.Action, e.TargetName)
	}
	// Output:
	// invalid audit event: userName or userUuid is required
	// jack Update srv-17
}
