package audit

import (
	"fmt"
	"strconv"
)

// Members of a change, as bits of those seen.
const (
	changeField = 1 << iota
	changeBefore
	changeAfter
)

// changes checks the array of Change objects at p[i] and returns the index
// after it.
func (w *walker) changes(i int) (int, *DecodeError) {
	p := w.p
	if i >= len(p) || p[i] != '[' {
		return 0, fail(i, RuleType, "must be an array of {field, before, after}")
	}
	if i = space(p, i+1); i < len(p) && p[i] == ']' {
		return i + 1, nil
	}
	for n := 1; ; n++ {
		if n > MaxChanges {
			return 0, fail(i, RuleCount, "has more than "+strconv.Itoa(MaxChanges)+" entries: emit several events")
		}
		end, err := w.change(i)
		if err != nil {
			return 0, err
		}
		i = space(p, end)
		if i < len(p) && p[i] == ',' {
			i = space(p, i+1)
			continue
		}
		if i < len(p) && p[i] == ']' {
			return i + 1, nil
		}
		return 0, fail(i, RuleJSON, "needs a comma or a bracket in an array")
	}
}

// change checks one {field, before, after}.
func (w *walker) change(start int) (int, *DecodeError) {
	p, i := w.p, start
	if i >= len(p) || p[i] != '{' {
		return 0, fail(i, RuleType, "must hold objects of {field, before, after} only")
	}
	i = space(p, i+1)
	if i < len(p) && p[i] == '}' {
		return 0, fail(start, RuleRequired, `has an entry without "field"`)
	}
	seen := 0
	for {
		m, err := scanMember(p, i)
		if err != nil {
			return 0, err
		}
		bit := changeBit(m.key)
		switch {
		case bit == 0:
			return 0, fail(i, RuleUnknown, "has an entry with the member "+shortName(m.key)+": only field, before and after may stand there")
		case seen&bit != 0:
			return 0, duplicate(i, m.key)
		}
		seen |= bit
		var end int
		if bit == changeField {
			end, err = changedField(p, m.at)
		} else {
			end, err = w.value(m.at, 2)
		}
		if err != nil {
			return 0, err
		}
		i = space(p, end)
		if i < len(p) && p[i] == ',' {
			i = space(p, i+1)
			continue
		}
		if i >= len(p) || p[i] != '}' {
			return 0, fail(i, RuleJSON, "needs a comma or a brace in an object")
		}
		if seen&changeField == 0 {
			return 0, fail(start, RuleRequired, `has an entry without "field"`)
		}
		return i + 1, nil
	}
}

func changeBit(name string) int {
	switch name {
	case "field":
		return changeField
	case "before":
		return changeBefore
	case "after":
		return changeAfter
	}
	return 0
}

// changedField checks the value of "field" at p[i].
func changedField(p []byte, i int) (int, *DecodeError) {
	if i >= len(p) || p[i] != '"' {
		return 0, fail(i, RuleType, `has an entry whose "field" is not a string`)
	}
	t, err := scanText(p, i+1)
	switch {
	case err != nil:
		return 0, err
	case t.decoded == 0:
		return 0, fail(i, RuleRequired, `has an entry whose "field" is empty`)
	case t.decoded > MaxStringBytes:
		return 0, fail(i, RuleLength, `has an entry whose "field" is longer than `+bytesOf(MaxStringBytes))
	}
	return t.end + 1, nil
}

// SetChanges fills Changes; none of them clears it. It fails on a value that
// JSON cannot hold, and on what Decode would refuse.
func (e *Event) SetChanges(changes []Change) error {
	if len(changes) == 0 {
		e.Changes = nil
		return nil
	}
	raw, err := marshal(changes)
	if err != nil {
		return fmt.Errorf("set changes: %w", err)
	}
	if err := checkChanges(raw); err != nil {
		return fmt.Errorf("set changes: the array %s", err.Reason)
	}
	e.Changes = raw
	return nil
}

// checkChanges checks the whole of raw as the value of changes.
func checkChanges(raw []byte) *DecodeError {
	w := walker{p: raw}
	i, err := w.changes(space(raw, 0))
	if err != nil {
		return err
	}
	if i = space(raw, i); i < len(raw) {
		return fail(i, RuleJSON, "has data after its array")
	}
	return nil
}
