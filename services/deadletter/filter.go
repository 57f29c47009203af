package deadletter

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Filter chooses dead letters: those that meet every filter that is set.
// Of a filter with several values one is enough. None has an environment
// variable: what is chosen is said on the command line.
type Filter struct {
	Reason   []string `help:"Only those with this reason, such as too-old (repeatable or comma separated)." sep:"," env:"-"`
	Module   []string `help:"Only those of the topic of this module code (repeatable or comma separated)." sep:"," env:"-"`
	Topic    []string `help:"Only those of this topic (repeatable or comma separated)." sep:"," env:"-"`
	Customer []string `help:"Only those of this customerUuid: the value's, as far as it can be read, else the record's key (repeatable)." sep:"none" env:"-"`
	Since    When     `help:"Only records that Kafka took at this time or later: RFC 3339, or how long ago, such as 24h." placeholder:"TIME" env:"-"`
	Until    When     `help:"Only records that Kafka took before this time: RFC 3339, or how long ago." placeholder:"TIME" env:"-"`
}

// When is an instant on a command line.
type When struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *When) UnmarshalText(text []byte) error {
	if ago, err := time.ParseDuration(string(text)); err == nil && ago >= 0 {
		w.Time = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%.100q is neither a time such as 2026-05-01T12:00:00Z nor a duration such as 24h", text)
	}
	w.Time = at
	return nil
}

// Validate names the first wrong value.
func (f Filter) Validate() error {
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until.Time) {
		return errors.New("--since must be before --until")
	}
	return nil
}

func (f Filter) empty() bool {
	return len(f.Reason)+len(f.Module)+len(f.Topic)+len(f.Customer) == 0 && f.Since.IsZero() && f.Until.IsZero()
}

// match says whether l meets every filter.
func (f Filter) match(l *letter) bool {
	switch {
	case len(f.Reason) > 0 && !slices.Contains(f.Reason, l.reason):
	case len(f.Module) > 0 && !slices.ContainsFunc(f.Module, func(m string) bool { return l.topic == audit.Topic(m) }):
	case len(f.Topic) > 0 && !slices.Contains(f.Topic, l.topic):
	case !f.Since.IsZero() && l.appendedAt.Before(f.Since.Time):
	case !f.Until.IsZero() && !l.appendedAt.Before(f.Until.Time):
	case len(f.Customer) > 0 && !slices.Contains(f.Customer, l.customer()):
	default:
		return true
	}
	return false
}
