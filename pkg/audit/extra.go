package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// extraFields gathers members that the contract does not know. The zero value
// is ready; nothing is allocated before the first member.
type extraFields struct {
	raw   []byte   // the object so far, without its closing brace
	names []string // unescaped, to refuse duplicates
}

// add checks and copies a member. It returns the index after its value.
func (x *extraFields) add(p []byte, m member) (int, *DecodeError) {
	if len(x.names) == MaxExtraFields {
		return 0, fail(m.start, RuleCount, "has more than "+strconv.Itoa(MaxExtraFields)+" fields that the contract does not know: put them into one object")
	}
	if len(m.key) > MaxExtraNameBytes {
		return 0, fail(m.start, RuleLength, "has a field name longer than "+bytesOf(MaxExtraNameBytes))
	}
	for _, have := range x.names {
		if have == m.key {
			return 0, duplicate(m.start, m.key)
		}
	}
	x.names = append(x.names, m.key)
	w := walker{p: p}
	end, err := w.value(m.at, 0)
	if err != nil {
		err.Field = shortName(m.key)
		return 0, err
	}
	if x.raw == nil {
		x.raw = make([]byte, 0, min(len(p)-m.start+2, 512))
		x.raw = append(x.raw, '{')
	} else {
		x.raw = append(x.raw, ',')
	}
	x.raw = append(x.raw, p[m.start:m.end]...)
	x.raw = append(x.raw, ':')
	x.raw = append(x.raw, p[m.at:end]...)
	return end, nil
}

// object is the JSON object of all members, nil without any.
func (x *extraFields) object() json.RawMessage {
	if x.raw == nil {
		return nil
	}
	return append(x.raw, '}')
}

// readExtra checks raw as a value of Event.Extra. The members it returns stand
// beside the known fields, so they may not have the name of one.
func readExtra(raw []byte) (x extraFields, err *DecodeError) {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return x, fail(i, RuleType, "must be a JSON object")
	}
	if i = space(raw, i+1); i < len(raw) && raw[i] == '}' {
		return x, trailing(raw, i+1)
	}
	for {
		m, err := scanMember(raw, i)
		if err != nil {
			return x, err
		}
		if fieldOf(m.key) >= 0 {
			return x, fail(i, RuleCollision, "has the known field "+m.key+": set it on the event")
		}
		if i, err = x.add(raw, m); err != nil {
			return x, err
		}
		i = space(raw, i)
		if i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
			continue
		}
		if i >= len(raw) || raw[i] != '}' {
			return x, fail(i, RuleJSON, "needs a comma or a brace after a member")
		}
		return x, trailing(raw, i+1)
	}
}

// SetExtra fills Extra from fields that the contract does not know; an empty
// map clears it. It fails on the name of a known field, on a value that JSON
// cannot hold, and on what Decode would refuse.
func (e *Event) SetExtra(fields map[string]any) error {
	if len(fields) == 0 {
		e.Extra = nil
		return nil
	}
	raw, err := marshal(fields)
	if err != nil {
		return fmt.Errorf("set extra fields: %w", err)
	}
	if _, err := readExtra(raw); err != nil {
		return fmt.Errorf("set extra fields: the object %s", err.Reason)
	}
	e.Extra = raw
	return nil
}

// marshal is json.Marshal that leaves <, > and & readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// misspelled finds an extra field whose name is that of f in other case.
func misspelled(extra []byte, f fieldID) string {
	if len(extra) == 0 {
		return ""
	}
	x, err := readExtra(extra)
	if err != nil {
		return ""
	}
	for _, name := range x.names {
		if strings.EqualFold(name, fieldNames[f]) {
			return name
		}
	}
	return ""
}
