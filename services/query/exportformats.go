package query

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// csvFormat writes RFC 4180: UTF-8, CRLF, a header of titles. Dates are ISO 8601
// with milliseconds in a time zone.
type csvFormat struct {
	columns []column
	zone    *time.Location
}

func (csvFormat) media() string { return "text/csv; charset=utf-8; header=present" }

func (f csvFormat) head(b []byte) []byte {
	for i, c := range f.columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, c.title...)
	}
	return append(b, "\r\n"...)
}

func (f csvFormat) row(b []byte, dest []any) []byte {
	start := len(b)
	for i, c := range f.columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = f.cell(b, c.Type, dest[i])
	}
	if len(b) == start { // readers pass over an empty line
		b = append(b, `""`...)
	}
	return append(b, "\r\n"...)
}

// cell appends one value. What is text may be a formula to a spreadsheet.
func (f csvFormat) cell(b []byte, t field.Type, v any) []byte {
	switch v := v.(type) {
	case *uuid.UUID:
		return append(b, v.String()...)
	case *uint32:
		return strconv.AppendUint(b, uint64(*v), 10)
	case *int64:
		return time.UnixMilli(*v).In(f.zone).AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	case *netip.Addr:
		if !v.IsValid() || *v == netip.IPv6Unspecified() {
			return b
		}
		return v.Unmap().AppendTo(b)
	case *string:
		if t == field.JSON && (*v == "null" || *v == "[]" || *v == "{}") {
			return b
		}
		return appendCell(b, *v)
	}
	return b
}

// appendCell appends text, in quotes where RFC 4180 or a careless reader needs
// them. A text that could be a formula gets an apostrophe before it, as OWASP
// advises. Whoever wants the text itself takes one apostrophe away from every
// cell for which formula holds: that is exact, because formula looks through
// apostrophes.
func appendCell(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	guard := formula(s)
	if !guard && !strings.ContainsAny(s, "\",;\t\r\n") && !strings.HasPrefix(s, "#") && strings.TrimSpace(s) == s {
		return append(b, s...)
	}
	b = append(b, '"')
	if guard {
		b = append(b, '\'')
	}
	for {
		before, after, more := strings.Cut(s, `"`)
		b = append(b, before...)
		if !more {
			return append(b, '"')
		}
		b, s = append(b, '"', '"'), after
	}
}

// formula says whether a spreadsheet might take a cell for a formula: it begins
// with = + - @, a tab or a line end, or a wide form of them; spaces, invisible
// characters and apostrophes before that do not count.
func formula(s string) bool {
	if s == visibility.Hidden { // a dash alone is none
		return false
	}
	for _, r := range s {
		switch r {
		case '=', '+', '-', '@', '\t', '\r', '\n',
			'\uFF1D', '\uFF0B', '\uFF0D', '\uFF20', // full width
			'\uFE66', '\uFE62', '\uFE63', '\uFE6B', // small forms
			'\u2212': // minus sign
			return true
		case '\'':
			continue
		}
		if !unicode.IsSpace(r) && !unicode.In(r, unicode.Cc, unicode.Cf) {
			return false
		}
	}
	return false
}

// broken is one cell that is not quoted, on the last line: no event's row looks
// so, because a cell that begins with # is quoted.
func (csvFormat) broken(b []byte, rows int64, why string) []byte {
	b = append(b, "# incomplete after "...)
	b = strconv.AppendInt(b, rows, 10)
	b = append(b, " rows: "...)
	return append(append(b, strings.NewReplacer(",", ";", `"`, "'", "\r", " ", "\n", " ").Replace(why)...), "\r\n"...)
}

// jsonLines writes an object a line: the record of a search answer, with the
// columns that were asked for, in that order.
type jsonLines struct{ columns []column }

func (jsonLines) media() string { return "application/jsonl" }

func (jsonLines) head(b []byte) []byte { return b }

func (f jsonLines) row(b []byte, dest []any) []byte {
	b = append(b, '{')
	first := true
	for i, c := range f.columns {
		start := len(b)
		if !first {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, c.Name...)
		b = append(b, '"', ':')
		value := len(b)
		var empty bool
		if b, empty = appendValue(b, c.Type, dest[i]); empty && !c.always {
			b = b[:start]
			continue
		}
		if c.Type == field.JSON {
			oneLine(b[value:])
		}
		first = false
	}
	return append(b, '}', '\n')
}

// oneLine makes spaces of the line ends in JSON, which stand between its tokens
// only: a line of an event's own JSON must not pass for another event.
func oneLine(json []byte) {
	for i, c := range json {
		if c == '\n' || c == '\r' {
			json[i] = ' '
		}
	}
}

func (jsonLines) broken(b []byte, rows int64, why string) []byte {
	b = append(b, `{"error":{"detail":`...)
	b = appendText(b, why)
	b = append(b, `,"events":`...)
	b = strconv.AppendInt(b, rows, 10)
	return append(b, "}}\n"...)
}
