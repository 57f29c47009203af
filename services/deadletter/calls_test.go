package deadletter

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestARecordOfAnAPICallIsRedriven: it is judged by its own contract, listed
// with its own customer, and stored once.
func TestARecordOfAnAPICallIsRedriven(t *testing.T) {
	t.Parallel()
	e, b := newEnv(t), newTable(t)
	stop := e.ingest(b, 1)
	then := time.Now().Add(-3 * 24 * time.Hour).UnixMilli()
	call := audit.APICall{CallID: uuid.NewString(), CustomerUUID: "customer-1", ModuleCode: "PM", API: "api/v1/jobs", State: audit.StateFinished, SubmittedDate: then, UpdatedDate: then + 5, UserUUID: "u"}
	value, err := call.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	e.produce(&kgo.Record{Topic: audit.APICallsTopic, Key: []byte(call.CallID), Value: value},
		&kgo.Record{Topic: audit.APICallsTopic, Key: []byte(call.CallID), Value: []byte("broken for ever")})
	testenv.Until(t, deadline, nil, "two dead letters", func() (bool, string) {
		rows, _ := e.list()
		return len(rows) == 2, fmt.Sprint(rows)
	})
	rows, _ := e.list()
	listed := []string{rows[0].CustomerUUID + " " + rows[0].Reason, rows[1].CustomerUUID + " " + rows[1].Reason}
	slices.Sort(listed)
	if diff := cmp.Diff(listed, []string{" json", "customer-1 too-old"}); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	stop()
	e.ingest(b, 400)
	said, err := e.redrive(func(c *RedriveConfig) { c.All = true })
	if err != nil || !told(said, []string{
		"TOPIC REASON LETTERS OUTCOME",
		"audit.api-calls.v1 json 1 skipped: would fail again (json)",
		"audit.api-calls.v1 too-old 1 sent",
		"1 sent, 1 skipped, 0 failed in",
	}) {
		t.Fatalf("%v\n%s", err, said)
	}
	stored := func(want uint64) {
		t.Helper()
		var states, latest uint64
		testenv.Until(t, deadline, nil, "the call to be stored", func() (bool, string) {
			err := b.conn.QueryRow(t.Context(), "SELECT (SELECT count() FROM api_call_events), (SELECT count() FROM api_calls FINAL)").Scan(&states, &latest)
			return err == nil && states >= want && latest >= want, fmt.Sprint(states, latest, err)
		})
		if states != want || latest != want {
			t.Errorf("got %d states of %d calls, want %d of each", states, latest, want)
		}
	}
	stored(1)
	if said, err := e.redrive(func(c *RedriveConfig) { c.Filter.Reason, c.IncludeRedriven = []string{"too-old"}, true }); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	e.settled()
	stored(1)
}
