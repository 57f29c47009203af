package qql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
)

// The dates that a query may name: those that the column can hold.
var (
	firstDate = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	lastDate  = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() - 1
)

// leastMillis is the least number that is read as milliseconds since 1970;
// what is below, other than 0, can only be seconds.
const leastMillis = 100_000_000_000

// forms are the absolute dates, with what the date spans.
var forms = []struct {
	layout              string
	years, months, days int
	span                time.Duration
}{
	{"2006", 1, 0, 0, 0},
	{"2006-01", 0, 1, 0, 0},
	{"2006-01-02", 0, 0, 1, 0},
	{"2006-01-02T15:04", 0, 0, 0, time.Minute},
	{"2006-01-02T15:04Z07:00", 0, 0, 0, time.Minute},
	{"2006-01-02T15:04:05", 0, 0, 0, time.Second},
	{"2006-01-02T15:04:05Z07:00", 0, 0, 0, time.Second},
}

var (
	relative = regexp.MustCompile(`^(?i:now)(?:[+-][0-9]{1,6}[smhdwMy])*$`)
	step     = regexp.MustCompile(`([+-][0-9]+)([smhdwMy])`)
	digits   = regexp.MustCompile(`^[0-9]+$`)
)

// parseDate reads a date; without a zone it is UTC.
func parseDate(f *field.Field, written string) (Value, error) {
	text := strings.TrimSpace(written)
	if len(text) >= 3 && strings.EqualFold(text[:3], "now") {
		return parseRelative(f, strings.Join(strings.Fields(text), ""))
	}
	if len(text) > 10 && text[10] == ' ' {
		text = text[:10] + "T" + strings.TrimSpace(text[11:])
	}
	if digits.MatchString(text) && len(text) != 4 {
		return parseMillis(f, text)
	}
	for _, form := range forms {
		from, err := time.Parse(form.layout, text)
		if err != nil || strings.Contains(text, ",") {
			continue
		}
		to := from.AddDate(form.years, form.months, form.days).Add(form.span)
		d := Date{From: from.UnixMilli(), To: to.UnixMilli() - 1, Text: text}
		if strings.Contains(text, ".") { // a fraction of a second
			d.To = d.From
		}
		if d.From < firstDate || d.To > lastDate {
			return nil, fmt.Errorf("%s: dates are possible from 1900 to 2299", clip(text))
		}
		return d, nil
	}
	return nil, fmt.Errorf("%s is a date: %s is not one; write one such as now-7d or 2026-01-31", f.Name, quoteForMessage(written))
}

func parseMillis(f *field.Field, text string) (Value, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || n > lastDate:
		return nil, fmt.Errorf("%s: dates are possible from 1900 to 2299", clip(text))
	case n == 0 || n >= leastMillis:
		return Date{From: n, To: n, Text: text}, nil
	}
	if day, err := time.Parse("20060102", text); err == nil {
		return nil, fmt.Errorf("%s is no date: write %s", text, day.Format(time.DateOnly))
	}
	return nil, fmt.Errorf("%s can only be seconds since 1970: %s is in milliseconds, so write %d", text, f.Name, n*1000)
}

func parseRelative(f *field.Field, text string) (Value, error) {
	if !relative.MatchString(text) {
		return nil, fmt.Errorf("%s is no date: behind now stands + or -, a number of at most 6 digits and one of "+
			"s, m (minutes), h, d, w, M (months), y; such as now-3M or now-1d-2h", clip(text))
	}
	d := Date{Now: true, Text: text}
	for _, m := range step.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", clip(text), err)
		}
		d.Move = append(d.Move, Step{N: n, Unit: m[2][0]})
	}
	// A date that is possible in any year that this runs in.
	for _, year := range []int{2000, 2100} {
		from, _ := d.Span(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		if from < firstDate || from > lastDate {
			return nil, fmt.Errorf("%s for %s is too far away: dates are possible from 1900 to 2299", clip(text), f.Name)
		}
	}
	return d, nil
}
