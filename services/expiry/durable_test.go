package expiry

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestADurableCallNeverExpires, in whatever state it is silent, and nobody reads
// from it on again: the committed offset moves past it, and past a replica's end.
// Others of the partition expire as ever.
func TestADurableCallNeverExpires(t *testing.T) {
	t.Parallel()
	durable := func(c *audit.APICall) { c.Durable = true }
	c := newCalls(t)
	_, stop := c.start()
	c.produce(record(1, audit.StateQueued, durable), record(1, audit.StateRunning, durable),
		record(3, audit.StateQueued, durable), // and never more
		record(5, audit.StateRunning))         // told before it was known to be durable
	c.produce(record(5, audit.StateRunning, durable), record(7, audit.StateRunning))
	c.expired(7)
	var committed kadm.Offset
	testenv.Until(t, deadline, nil, "a commit past the durable calls", func() (bool, string) {
		offsets, err := c.admin.FetchOffsets(t.Context(), c.cfg.Group)
		o, _ := offsets.Lookup(audit.APICallsTopic, 1)
		committed = o.Offset
		return err == nil && committed.At >= 5, fmt.Sprint(o, err)
	})
	stop()
	c.start()
	c.produce(record(9, audit.StateRunning)) // expires when they would have long before
	c.expired(7, 9)
	c.produce(record(1, audit.StateFinished, durable), record(3, audit.StateFinished, durable), record(11, audit.StateRunning))
	c.expired(7, 9, 11)
}
