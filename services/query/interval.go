package query

import (
	"strings"
	"time"
	_ "time/tzdata" // for machines without it
)

const (
	// maxBuckets bounds a histogram.
	maxBuckets = 1000
	// autoBuckets is how many the interval "auto" makes at most, if it can.
	autoBuckets = 120
)

// interval is the width of a histogram's buckets: so many months, days or, from
// the local midnight on, hours and minutes. On a day that a clock change makes
// shorter or longer, so is the last bucket.
type interval struct {
	name   string
	months int
	days   int // 7: from Monday
	within time.Duration
}

// intervals from the shortest on.
var intervals = []interval{
	{name: "1m", within: time.Minute},
	{name: "5m", within: 5 * time.Minute},
	{name: "10m", within: 10 * time.Minute},
	{name: "15m", within: 15 * time.Minute},
	{name: "30m", within: 30 * time.Minute},
	{name: "1h", within: time.Hour},
	{name: "3h", within: 3 * time.Hour},
	{name: "6h", within: 6 * time.Hour},
	{name: "12h", within: 12 * time.Hour},
	{name: "1d", days: 1},
	{name: "1w", days: 7},
	{name: "1M", months: 1},
}

// intervalNames lists them for people.
var intervalNames = func() string {
	names := []string{"auto"}
	for _, i := range intervals {
		names = append(names, i.name)
	}
	return strings.Join(names, ", ")
}()

// most is about how many buckets a span needs.
func (in interval) most(from, to int64) int64 {
	width := in.within.Milliseconds()
	if in.days+in.months > 0 {
		width = int64(in.days+30*in.months) * 24 * time.Hour.Milliseconds()
	}
	return (to-from)/width + 2
}

// cover returns the starts of the buckets that hold the span from the first to
// the last of two moments, both included: none when they are the wrong way
// round, and not many more than maxBuckets.
func (in interval) cover(from, to int64, zone *time.Location) []int64 {
	if from > to {
		return nil
	}
	day := time.UnixMilli(from).In(zone)
	switch {
	case in.months > 0:
		day = startOfDay(day.Year(), day.Month(), 1, zone)
	case in.days == 7:
		day = startOfDay(day.Year(), day.Month(), day.Day()-(int(day.Weekday())+6)%7, zone)
	default:
		day = startOfDay(day.Year(), day.Month(), day.Day(), zone)
	}
	starts := in.starts([]int64{day.UnixMilli()}, to, zone, maxBuckets+int(24*time.Hour/time.Minute)+1)
	// The first day's buckets before the first moment are not wanted.
	first := 0
	for first+1 < len(starts) && starts[first+1] <= from {
		first++
	}
	return starts[first:]
}

// starts goes on after the last of some starts, up to a moment or so many.
func (in interval) starts(starts []int64, to int64, zone *time.Location, most int) []int64 {
	at := time.UnixMilli(starts[len(starts)-1]).In(zone)
	for len(starts) < most {
		at = in.next(at)
		if at.UnixMilli() > to {
			break
		}
		starts = append(starts, at.UnixMilli())
	}
	return starts
}

// next is the start of the bucket after the one that starts at a moment.
func (in interval) next(at time.Time) time.Time {
	days := in.days
	if in.within > 0 {
		days = 1
	}
	next := startOfDay(at.Year(), at.Month()+time.Month(in.months), at.Day()+days, at.Location())
	for !next.After(at) { // a day that was left out
		days++
		next = startOfDay(at.Year(), at.Month()+time.Month(in.months), at.Day()+days, at.Location())
	}
	if within := at.Add(in.within); in.within > 0 && within.Before(next) {
		return within
	}
	return next
}

// startOfDay is the first moment of a day. A change of the clocks at midnight
// can leave that out, or repeat it.
func startOfDay(year int, month time.Month, day int, zone *time.Location) time.Time {
	at := time.Date(year, month, day, 0, 0, 0, 0, zone)
	change, end := at.ZoneBounds()
	if hour, minute, second := at.Clock(); hour+minute+second > 0 { // midnight was left out
		if noon := time.Date(year, month, day, 12, 0, 0, 0, zone); at.Day() == noon.Day() {
			return change
		}
		return end
	}
	if change.IsZero() {
		return at
	}
	_, now := at.Zone()
	_, before := change.Add(-time.Second).Zone()
	if earlier := at.Add(time.Duration(now-before) * time.Second); earlier.Before(change) && earlier.Before(at) {
		return earlier // midnight came twice
	}
	return at
}
