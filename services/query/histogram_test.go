package query

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
)

// TestBucketsCoverTheirSpan holds what every histogram needs, in zones whose
// clocks change at midnight, by half an hour, or skip a day: starts rise, the
// first is not after the span's begin, the next is; and those of days, weeks
// and months are the first moments of such.
func TestBucketsCoverTheirSpan(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/Havana", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/New_York"}
	rapid.Check(t, func(rt *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		in := rapid.SampledFrom(intervals).Draw(rt, "interval")
		from := rapid.Int64Range(0, 1<<41).Draw(rt, "from") // until 2039
		to := from + rapid.Int64Range(0, 900).Draw(rt, "buckets")*max(in.within.Milliseconds(), int64(in.days+30*in.months)*86_400_000)
		starts := in.cover(from, to, zone)
		if !slices.IsSorted(starts) || len(slices.Compact(slices.Clone(starts))) != len(starts) {
			rt.Fatalf("%s %s: starts do not rise", zone, in.name)
		}
		if starts[0] > from || len(starts) > 1 && starts[1] <= from || starts[len(starts)-1] > to {
			rt.Fatalf("%s %s: %d and on do not begin at %d", zone, in.name, starts[0], from)
		}
		if next := in.next(time.UnixMilli(starts[len(starts)-1]).In(zone)).UnixMilli(); next <= to {
			rt.Fatalf("%s %s: ends at %d, before %d", zone, in.name, next, to)
		}
		for _, s := range starts {
			at, before := time.UnixMilli(s).In(zone), time.UnixMilli(s-1).In(zone)
			if in.within > 0 && s%60_000 == 0 {
				continue
			}
			if at.Day() == before.Day() || in.months > 0 && at.Day() != 1 || in.days == 7 && at.Weekday() != time.Monday {
				rt.Fatalf("%s %s: %s follows %s", zone, in.name, at, before)
			}
		}
	})
}

func TestHistogramShowsTheQuietTimesToo(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	day := func(d, h int) int64 { return time.Date(2026, 3, d, h, 30, 0, 0, time.UTC).UnixMilli() }
	for _, at := range []int64{day(27, 1), day(29, 0), day(29, 1), day(30, 1)} {
		db.insert(t, t, audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: at})
	}
	ask := func(more string) string {
		w := b.do(t, &manager, "POST", searchPath+"/histogram", fmt.Sprintf(`{"startDate":%d,"endDate":%d%s}`, day(27, 0), day(30, 2), more))
		var got struct {
			Buckets  []struct{ Start, Count int64 }
			Interval string
			Total    int64 `json:"totalCount"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatal(w.Code, w.Body, err)
		}
		text := []string{got.Interval}
		for _, b := range got.Buckets {
			text = append(text, fmt.Sprintf("%s=%d", time.UnixMilli(b.Start).UTC().Format("02T15"), b.Count))
		}
		return strings.Join(append(text, fmt.Sprint(got.Total)), " ")
	}
	for more, want := range map[string]string{
		`,"interval":"1d"`: "1d 27T00=1 28T00=0 29T00=2 30T00=1 4",
		// The clocks change in the night to the 29th, from UTC+1 to UTC+2.
		`,"interval":"1d","timezone":"Europe/Berlin"`: "1d 26T23=1 27T23=0 28T23=2 29T22=1 4",
		`,"interval":"1w"`:                            "1w 23T00=3 30T00=1 4",
		`,"interval":"1M"`:                            "1M 01T00=4 4",
	} {
		if d := cmp.Diff(ask(more), want); d != "" {
			t.Errorf("%s (-got +want)\n%s", more, d)
		}
	}
	if got := ask(""); !strings.HasPrefix(got, "1h 27T00=0 27T01=1 27T02=0") || !strings.HasSuffix(got, " 30T01=1 30T02=0 4") {
		t.Errorf("auto: %s", got)
	}
}

// TestHistogramOfOpenRanges holds that nothing is left out where no dates bound
// the search: not what lies in the future, not the first event.
func TestHistogramOfOpenRanges(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	now := time.Now()
	for _, ago := range []time.Duration{-23 * time.Hour, time.Minute, 48 * time.Hour, 400 * 24 * time.Hour} {
		db.insert(t, t, audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: now.Add(-ago).UnixMilli()})
	}
	for body, want := range map[string]int64{
		`{}`:                3,
		`{"interval":"1h"}`: 3,
		fmt.Sprintf(`{"endDate":%d}`, now.UnixMilli()):                                   3,
		fmt.Sprintf(`{"startDate":%d}`, now.Add(-401*24*time.Hour).UnixMilli()):          4,
		fmt.Sprintf(`{"startDate":%d,"interval":"1m"}`, now.Add(-time.Hour).UnixMilli()): -1, // the event of tomorrow is too far
		fmt.Sprintf(`{"startDate":%d}`, now.Add(time.Hour).UnixMilli()):                  1,
		fmt.Sprintf(`{"startDate":%d}`, now.Add(100*24*time.Hour).UnixMilli()):           0,
		fmt.Sprintf(`{"endDate":%d}`, now.AddDate(-10, 0, 0).UnixMilli()):                0,
		`{"startDate":0,"interval":"1d"}`:                                                4,
		`{"startDate":0,"endDate":9223372036854775807}`:                                  -1,
		`{"startDate":-100000000000000,"endDate":-90000000000000}`:                       0,
	} {
		w := b.do(t, &manager, "POST", searchPath+"/histogram", body)
		if want < 0 {
			if w.Code != 400 || !strings.Contains(w.Body.String(), "1000 buckets") {
				t.Errorf("%s: %d %.300s", body, w.Code, w.Body)
			}
			continue
		}
		var got struct {
			Buckets []struct{ Count int64 }
			Total   int64 `json:"totalCount"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatal(body, w.Code, w.Body, err)
		}
		sum := int64(0)
		for _, b := range got.Buckets {
			sum += b.Count
		}
		if sum != want || got.Total != want {
			t.Errorf("%s: %d events in %d buckets, total %d, want %d", body, sum, len(got.Buckets), got.Total, want)
		}
	}
}
