// Package settings keeps what a subscription chose: one object a customerUuid,
// in the table audit.settings.v1. Whoever needs a setting reads it from memory.
package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Bounds of RetentionDays.
const (
	MinRetentionDays = 1
	MaxRetentionDays = 3650
)

// Timeframes are the values of DefaultTimeframeDays; the first counts when none
// is set.
var Timeframes = []uint16{30, 90, 180}

// Settings of one subscription. A field at its zero value is not set.
type Settings struct {
	// DefaultTimeframeDays is how many days back a search without dates looks,
	// one of Timeframes. Read it through Timeframe.
	DefaultTimeframeDays uint16 `json:"defaultTimeframeDays,omitempty"`
	// RestrictUserInformation restricts the view of user information for users
	// outside of the viewer's business unit.
	RestrictUserInformation bool `json:"restrictUserInformation,omitempty"`
	// AuditSearches makes searches audit events themselves.
	AuditSearches bool `json:"auditSearches,omitempty"`
	// RetentionDays is how many days after it happened an event is kept; 0: as
	// long as ingest's --retention-days says.
	RetentionDays uint16 `json:"retentionDays,omitempty"`
	// RetentionAt is when RetentionDays was chosen, or unset; 0: never. Change
	// keeps it.
	RetentionAt Moment `json:"retentionAt,omitempty"`
	// AutoUpdateSwitches are the times at which the auto update activity log was
	// switched off, on, off and so on: it is on at first. SetAutoUpdates keeps
	// them.
	AutoUpdateSwitches []Moment `json:"autoUpdateSwitches,omitempty"`

	// others are the fields of newer versions: a change keeps them.
	others map[string]json.RawMessage
}

// Moment is a time by the clock of Kafka's brokers, in ms since 1970.
type Moment int64

// now is the time of the record that it is written with: only the broker knows
// that. Readers put it in, so that a later change of something else keeps it.
const now Moment = -1

// MaxSwitches bounds AutoUpdateSwitches: beyond it the oldest two are forgotten,
// and a replay stores the events that were skipped between them.
const MaxSwitches = 1000

// names of the fields in JSON.
var names = func() (names []string) {
	for f := range reflect.TypeFor[Settings]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}()

// fields of Settings by their names in JSON.
type fields Settings

// UnmarshalJSON reads the fields, and keeps those it does not know.
func (s *Settings) UnmarshalJSON(b []byte) error {
	var known fields
	if err := json.Unmarshal(b, &known); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &known.others); err != nil {
		return err
	}
	// Names are read in any case.
	maps.DeleteFunc(known.others, func(name string, _ json.RawMessage) bool {
		return slices.ContainsFunc(names, func(ours string) bool { return strings.EqualFold(name, ours) })
	})
	*s = Settings(known)
	return nil
}

// MarshalJSON writes the fields that are set, and those it does not know.
func (s Settings) MarshalJSON() ([]byte, error) {
	known, err := json.Marshal(fields(s))
	if err != nil || len(s.others) == 0 {
		return known, err
	}
	all := maps.Clone(s.others)
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// Validate names the first wrong value and its limits.
func (s Settings) Validate() error {
	if d := s.DefaultTimeframeDays; d != 0 && !slices.Contains(Timeframes, d) {
		return fmt.Errorf("defaultTimeframeDays must be 30, 90 or 180, not %d", d)
	}
	if d := s.RetentionDays; d > MaxRetentionDays { // 0 is not set
		return fmt.Errorf("retentionDays must be between %d and %d, not %d", MinRetentionDays, MaxRetentionDays, d)
	}
	return nil
}

// Timeframe is how many days back a search without dates looks.
func (s Settings) Timeframe() int {
	if !slices.Contains(Timeframes, s.DefaultTimeframeDays) {
		return int(Timeframes[0])
	}
	return int(s.DefaultTimeframeDays)
}

// AutoUpdates says whether events of origin auto-update are stored, as last
// chosen: StoresAutoUpdate says when that counts.
func (s Settings) AutoUpdates() bool { return len(s.AutoUpdateSwitches)%2 == 0 }

// SetAutoUpdates chooses whether events of origin auto-update are stored.
func (s *Settings) SetAutoUpdates(on bool) {
	if on == s.AutoUpdates() {
		return
	}
	switches := slices.Clone(s.AutoUpdateSwitches) // others read it
	if n := len(switches); n > 0 && switches[n-1] == now {
		s.AutoUpdateSwitches = switches[:n-1] // taken back before it was written
		return
	}
	if len(switches) >= MaxSwitches {
		switches = switches[2:]
	}
	s.AutoUpdateSwitches = append(switches, now)
}

// SwitchDelay is how long after its record a switch of the auto update activity
// log counts. It is longer than a write may take from the reading of what it is
// based on, so that a switch which another write lost never counted; and whoever
// judges an event has time to read the switches that count for it.
const SwitchDelay = 20 * time.Second

// StoresAutoUpdate says whether an event of origin auto-update that Kafka
// appended at a time is stored. Every replica and every replay decides alike.
func (s Settings) StoresAutoUpdate(appended time.Time) bool {
	count := Moment(appended.UnixMilli() - SwitchDelay.Milliseconds())
	for n := len(s.AutoUpdateSwitches); n > 0; n-- {
		if s.AutoUpdateSwitches[n-1] <= count {
			return n%2 == 0
		}
	}
	return true
}

// of puts in the time of the record that s was read from.
func (s Settings) of(at time.Time) Settings {
	written := Moment(at.UnixMilli())
	// A record that somebody wrote by hand may have no time.
	if s.RetentionAt == now || s.RetentionAt == 0 && s.RetentionDays > 0 {
		s.RetentionAt = written
	}
	if i := slices.Index(s.AutoUpdateSwitches, now); i >= 0 {
		s.AutoUpdateSwitches = slices.Clone(s.AutoUpdateSwitches)
		for ; i < len(s.AutoUpdateSwitches); i++ {
			if s.AutoUpdateSwitches[i] == now {
				s.AutoUpdateSwitches[i] = written
			}
		}
	}
	return s
}

// MayDelete says that a change of RetentionDays may delete events. How many days
// ingest's default is, only ingest knows: from it and to it, any change may.
func MayDelete(before, after uint16) bool {
	switch {
	case before == after, after == MaxRetentionDays:
		return false
	default:
		return before == 0 || after < before
	}
}

// Changes lists what differs, in the names and values of the API: nil is not
// set.
func Changes(before, after Settings) (changes []audit.Change) {
	add := func(field string, before, after any) {
		if before != after {
			changes = append(changes, audit.Change{Field: field, Before: before, After: after})
		}
	}
	add("defaultTimeframeDays", days(before.DefaultTimeframeDays), days(after.DefaultTimeframeDays))
	add("autoUpdateActivityLog", before.AutoUpdates(), after.AutoUpdates())
	add("restrictUserInformation", before.RestrictUserInformation, after.RestrictUserInformation)
	add("auditSearches", before.AuditSearches, after.AuditSearches)
	add("retentionDays", days(before.RetentionDays), days(after.RetentionDays))
	return changes
}

// days are nil when not set.
func days(n uint16) any {
	if n == 0 {
		return nil
	}
	return n
}
