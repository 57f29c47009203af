package apicall

import (
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

type keep struct{ records []audit.APICall }

func (k *keep) EmitCall(c audit.APICall) error {
	k.records = append(k.records, c)
	return nil
}

// TestACallThatEndsWhileItIsDueIsSilent: the end is the last of it.
func TestACallThatEndsWhileItIsDueIsSilent(t *testing.T) {
	sink := &keep{}
	calls, err := New(Config{ModuleCode: "PM", Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := calls.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	run, err := calls.Begin(t.Context(), Call{API: "jobs", Caller: Caller{CustomerUUID: "c", UserName: "u"}})
	if err != nil {
		t.Fatal(err)
	}
	due := calls.due(time.Now().Add(HeartbeatEvery))
	if len(due) != 1 || due[0] != run {
		t.Fatalf("%d calls are due", len(due))
	}
	run.End(0, "")
	if holds := run.beat(); holds {
		t.Error("it holds a place")
	}
	if n := len(sink.records); n != 2 || sink.records[n-1].State != audit.StateFinished {
		t.Errorf("%d records, the last one %+v", n, sink.records[n-1])
	}
}
