package ingest

import (
	"context"

	"github.com/auditrail/auditrail/services/internal/settings"
)

// A subscription may switch its auto update activity log off: events of origin
// auto-update that Kafka appends while it is off are skipped and counted. They
// are part of their batch's range, like duplicates, and neither rows nor dead
// letters.
//
// Whoever makes a batch, again or in a replay next year, must decide alike. So
// the append time of a record decides, not ours, and a switch counts
// settings.SwitchDelay after its own record's append time. Before a record is
// judged, memory must have every switch that counts for it. It has those that
// were written before the table was last known to be fresh; any other was
// written less than switchesAge before the record was appended, and counts only
// later, as long as brokers' clocks differ by less than what is left of the
// delay.

// switchesAge is how long ago the table of settings may have been fresh.
const switchesAge = settings.SwitchDelay / 4

// skippedAutoUpdate is the reason in the metric.
const skippedAutoUpdate = "auto-update-off"

// knowsSwitches returns true once memory has every switch that counts for the
// records at hand. While Kafka does not tell, the records before go ahead, and
// the lane waits until open ends: the next owner judges the others. False says
// that it should come back for more.
func (l *lane) knowsSwitches(open context.Context, b *batch) bool {
	fresh := func(ctx context.Context) error { return l.in.settings.Fresh(ctx, switchesAge) }
	if fresh(open) == nil {
		return true
	}
	if !b.empty() && l.recovery == nil {
		b.sealed = true
		return false
	}
	return l.in.retry(open, "settings", l.at.String(), fresh) == nil
}
