package audit

import (
	"bytes"
	"math"
)

// Decode reads one event from its JSON form into e, which it resets first.
//
// It holds everything about the form: one JSON object and nothing after it,
// valid UTF-8, no name twice in an object at any level, values of the right
// JSON type, bounded nesting, the shape of changes. What the values may be is
// Validate's part, and a valid event has passed both. Names are case-sensitive;
// members that the contract does not know go to e.Extra. null stands for an
// absent field.
//
// Strings of e and e.Changes point into data, so data must not be written to
// as long as e is used; only strings with escapes and Extra are copies. The
// error is a *DecodeError, and e is then of no use.
func Decode(data []byte, e *Event) error {
	*e = Event{}
	if len(data) > MaxRecordBytes {
		return fail(MaxRecordBytes, RuleRecord, "is longer than "+bytesOf(MaxRecordBytes)+": shorten its texts or emit several events")
	}
	if err := decode(data, e); err != nil {
		return err
	}
	return nil
}

func decode(p []byte, e *Event) *DecodeError {
	i := space(p, 0)
	if i >= len(p) || p[i] != '{' {
		return noObject(p, i)
	}
	if i = space(p, i+1); i < len(p) && p[i] == '}' {
		return trailing(p, i+1)
	}
	var (
		seen  uint32 // known fields, by fieldID
		extra extraFields
		next  fieldID // the one that comes next when all are there, in their order
	)
	for {
		f, at := expectedMember(p, i, next)
		if f < 0 {
			f, at = knownMember(p, i)
		}
		if f < 0 {
			// Not as most writers put it: look at it with care.
			m, err := scanMember(p, i)
			if err != nil {
				return err
			}
			if f, at = fieldOf(m.key), m.at; f < 0 {
				if i, err = extra.add(p, m); err != nil {
					return err
				}
			}
		}
		if f >= 0 {
			if seen&(1<<f) != 0 {
				return duplicate(i, fieldNames[f])
			}
			seen |= 1 << f
			next = f + 1
			var err *DecodeError
			if i, err = decodeField(p, at, e, f); err != nil {
				err.Field = fieldNames[f]
				return err
			}
		}
		if i < len(p) && p[i] <= ' ' {
			i = space(p, i)
		}
		if i < len(p) && p[i] == ',' {
			i = space(p, i+1)
			continue
		}
		if i >= len(p) || p[i] != '}' {
			return fail(i, RuleJSON, "needs a comma or a brace after a member")
		}
		e.Extra = extra.object()
		return trailing(p, i+1)
	}
}

// expectedMember is knownMember for one field: events mostly hold their fields
// in the order of the struct, as AppendJSON writes them.
func expectedMember(p []byte, i int, f fieldID) (_ fieldID, at int) {
	if f >= fieldCount || !hasWord(p, i, fieldStarts[f]) {
		return fieldUnknown, 0
	}
	at = i + len(fieldStarts[f])
	if at < len(p) && p[at] <= ' ' {
		at = space(p, at)
	}
	return f, at
}

// knownMember reads the name of a known field at p[i] and its colon, when
// neither an escape nor white space is among them. The value starts at at.
func knownMember(p []byte, i int) (f fieldID, at int) {
	if i >= len(p) || p[i] != '"' {
		return fieldUnknown, 0
	}
	j := asciiRun(p, i+1)
	if j+1 >= len(p) || p[j] != '"' || p[j+1] != ':' {
		return fieldUnknown, 0
	}
	at = j + 2
	if at < len(p) && p[at] <= ' ' {
		at = space(p, at)
	}
	return fieldOf(view(p[i+1 : j])), at
}

// decodeField reads the value at p[i] into the known field f.
func decodeField(p []byte, i int, e *Event, f fieldID) (int, *DecodeError) {
	if i >= len(p) {
		return 0, fail(i, RuleJSON, "ends where a value must stand")
	}
	if dst := e.text(f); dst != nil && p[i] == '"' {
		start := i + 1
		end := asciiRun(p, start)
		if end < len(p) && p[end] == '"' {
			*dst = view(p[start:end])
			return end + 1, nil
		}
		t, err := scanTextSlow(p, start, end)
		if err != nil {
			return 0, err
		}
		*dst = t.value(p)
		return t.end + 1, nil
	}
	if hasWord(p, i, "null") {
		return i + 4, nil
	}
	switch f {
	case fieldCreatedDate:
		v, end, err := integer(p, i, math.MinInt64, math.MaxInt64)
		e.CreatedDate = v
		return end, err
	case fieldAuditEnabledAppID:
		v, end, err := integer(p, i, 0, math.MaxUint32)
		e.AuditEnabledAppID = uint32(v)
		return end, err
	case fieldChanges:
		w := walker{p: p}
		end, err := w.changes(i)
		if err == nil {
			e.Changes = p[i:end:end]
		}
		return end, err
	default:
		return 0, wrongType(p, i, "must be a string")
	}
}

// integer reads the whole number at p[i].
func integer(p []byte, i int, low, high int64) (v int64, end int, err *DecodeError) {
	end = i
	for end < len(p) && p[end]-'0' <= 9 {
		v = v*10 + int64(p[end]-'0')
		end++
	}
	if n := end - i; n == 0 || n > 18 || p[i] == '0' || end < len(p) && (p[end] == '.' || p[end]|0x20 == 'e') {
		if p[i] != '-' && p[i]-'0' > 9 {
			return 0, 0, wrongType(p, i, "must be a whole number, not in quotes")
		}
		if end = scanNumber(p, i); end < 0 {
			return 0, 0, fail(i, RuleJSON, "is not a JSON number")
		}
		var whole, fits bool
		v, whole, fits = integerValue(p[i:end])
		switch {
		case !whole:
			return 0, 0, fail(i, RuleType, "must be a whole number, without a fraction")
		case !fits:
			return 0, 0, fail(i, RuleRange, "is a number out of range")
		}
	}
	if v < low || v > high {
		return 0, 0, fail(i, RuleRange, "is a number out of range")
	}
	return v, end, nil
}

// wrongType tells a value of another type from no value at all.
func wrongType(p []byte, i int, reason string) *DecodeError {
	w := walker{p: p}
	if _, err := w.value(i, 0); err != nil {
		return err
	}
	return fail(i, RuleType, reason)
}

// noObject says what stands at p[i] in place of an object.
func noObject(p []byte, i int) *DecodeError {
	switch {
	case i >= len(p):
		return fail(i, RuleJSON, "is empty: send one JSON object a record")
	case bytes.HasPrefix(p[i:], []byte("\xef\xbb\xbf")):
		return fail(i, RuleJSON, "starts with a byte order mark: send UTF-8 without one")
	}
	return wrongType(p, i, "must be a JSON object")
}

// trailing refuses anything but white space after the object.
func trailing(p []byte, i int) *DecodeError {
	if i = space(p, i); i < len(p) {
		return fail(i, RuleJSON, "has data after its object: send one JSON object a record")
	}
	return nil
}

// UnmarshalJSON is Decode of a copy of data, so that e may outlive it.
func (e *Event) UnmarshalJSON(data []byte) error {
	return Decode(bytes.Clone(data), e)
}
