package ktable

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestChangesTellWhatChanged(t *testing.T) {
	t.Parallel()
	at := testenv.Kafka(t)
	cl := newTopic(t, at)
	table := open(t, at)
	put(t, table, "a", 1)
	put(t, table, "b", 1)
	changes := table.Changes()
	take := func(wantAnew bool, want ...string) {
		t.Helper()
		changed, anew := changes.Take()
		got := []string{}
		for _, k := range slices.Sorted(maps.Keys(changed)) {
			if e := changed[k]; e != nil {
				k += fmt.Sprint(" ", e.Value.Number)
			}
			got = append(got, k)
		}
		if diff := cmp.Diff(got, append([]string{}, want...)); diff != "" || anew != wantAnew {
			t.Errorf("anew is %v, want %v; -got +want:\n%s", anew, wantAnew, diff)
		}
	}
	take(true, "a 1", "b 1")
	take(false)
	put(t, table, "b", 2)
	put(t, table, "b", 3)
	put(t, table, "c", 1)
	if err := table.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	take(false, "a", "b 3", "c 1")
	take(false)
	// A topic made anew changes all.
	if _, err := kadm.NewClient(cl).DeleteTopics(t.Context(), topic.Settings); err != nil {
		t.Fatal(err)
	}
	before := table.ID()
	testenv.Until(t, deadline, nil, "the topic to go", func() (bool, string) {
		ids, err := topic.IDs(t.Context(), cl)
		_, there := ids[topic.Settings]
		return err == nil && !there, fmt.Sprint(err)
	})
	ensure(t, cl)
	testenv.Until(t, deadline, nil, "the table to be another", func() (bool, string) {
		return table.ID() != before, table.ID().String()
	})
	put(t, table, "d", 1)
	take(true, "d 1")
	take(false)
}
