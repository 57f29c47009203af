package loadgen

import (
	"errors"
	"fmt"
	"time"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// Config says what load to make. Its tags are flags; see auditrail --help.
type Config struct {
	Kafka   kafka.Config `embed:""`
	Rate    float64      `help:"Events a second. What a slow broker holds up is caught up with. 0: as fast as possible." default:"1000"`
	Count   int64        `help:"Events to send. 0: until stopped." default:"0"`
	Seed    uint64       `help:"Chooses customers, users and events: the same seed, the same ones." default:"1"`
	Tenants int          `help:"Customers the events belong to; the first are the largest." default:"200"`
	Users   int          `help:"Users over all customers, roughly." default:"5000"`
	Days    int          `help:"Days before --end to spread the events over; needs --count. 0: every event happens as it is sent." default:"0"`
	End     int64        `help:"End of the days, in epoch milliseconds. 0: now, and every event gets a new id. Only with an end do the same flags give the same events, ids included." default:"0"`
	Module  string       `help:"Code of the one module to emit as. Empty: all 20 that the events are made up for." default:""`
	Full    bool         `help:"Also fill in endpoint type, business unit, changes and request id."`
}

// Validate names the first wrong value.
func (c Config) Validate() error {
	switch {
	case !(c.Rate >= 0 && c.Rate <= maxRate): // NaN too
		return fmt.Errorf("--rate must be 0 to %d, not %g", int64(maxRate), c.Rate)
	case c.Count < 0:
		return fmt.Errorf("--count must not be negative, not %d", c.Count)
	case c.Tenants < 1:
		return fmt.Errorf("--tenants must be at least 1, not %d", c.Tenants)
	case c.Users < 1:
		return fmt.Errorf("--users must be at least 1, not %d", c.Users)
	case c.Days < 0:
		return fmt.Errorf("--days must not be negative, not %d", c.Days)
	case c.Days > 0 && c.Count == 0:
		return errors.New("--days needs --count: the events are spread over the days")
	case c.End < 0:
		return fmt.Errorf("--end must not be negative, not %d", c.End)
	}
	return nil
}

// maxRate is far above what one process can send.
const maxRate = 1e9

// workload is what the events are drawn from, at the time of the start.
func (c Config) workload(now time.Time) workload.Config {
	w := workload.Default()
	w.Seed, w.Tenants, w.Users, w.Days, w.Full = c.Seed, c.Tenants, c.Users, c.Days, c.Full
	w.Events = c.Count
	if w.End = c.End; w.End == 0 {
		w.End = now.UnixMilli()
	}
	return w
}
