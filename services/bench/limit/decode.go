// Package limit is how fast the work of ingest could be done at all: events
// are decoded without copies and without a check, and built into columns
// without a promise. It is a yardstick for the product, never a part of it.
package limit

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unsafe"

	"github.com/auditrail/auditrail/pkg/audit"
)

var errForm = errors.New("not an event")

// Decode reads the flat JSON object of an event into e, which it does not
// reset. It takes whatever resembles JSON. Strings point into p; only those
// with escapes are copies. Fields that e does not have are passed over.
func Decode(p []byte, e *audit.Event) error {
	i := space(p, 0)
	if i >= len(p) || p[i] != '{' {
		return errForm
	}
	for i++; ; i++ {
		i = space(p, i)
		if i >= len(p) || p[i] != '"' {
			return errForm
		}
		end, plain := quote(p, i+1)
		if end < 0 || !plain {
			return errForm
		}
		key := view(p[i+1 : end])
		i = space(p, end+1)
		if i >= len(p) || p[i] != ':' {
			return errForm
		}
		if i = value(p, space(p, i+1), key, e); i < 0 {
			return errForm
		}
		i = space(p, i)
		switch {
		case i >= len(p):
			return errForm
		case p[i] == '}':
			return nil
		case p[i] != ',':
			return errForm
		}
	}
}

// value reads the value at p[i] into the field named key and returns the index
// after it, -1 when there is none.
func value(p []byte, i int, key string, e *audit.Event) int {
	if i >= len(p) {
		return -1
	}
	switch c := p[i]; {
	case c == '"':
		s, end := text(p, i+1)
		if end >= 0 {
			if dst := field(e, key); dst != nil {
				*dst = s
			}
		}
		return end
	case c-'0' <= 9:
		return number(p, i, key, e)
	case c == '[' || c == '{':
		end := nested(p, i)
		if key == "changes" && end >= 0 {
			e.Changes = p[i:end:end]
		}
		return end
	}
	for i < len(p) && p[i] != ',' && p[i] != '}' {
		i++
	}
	return i
}

func number(p []byte, i int, key string, e *audit.Event) int {
	var v int64
	for ; i < len(p) && p[i]-'0' <= 9; i++ {
		v = v*10 + int64(p[i]-'0')
	}
	switch key {
	case "createdDate":
		e.CreatedDate = v
	case "auditEnabledAppId":
		e.AuditEnabledAppID = uint32(v)
	}
	return i
}

// nested passes over the array or object at p[i].
func nested(p []byte, i int) int {
	depth := 0
	for ; i < len(p); i++ {
		switch p[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			if _, i = text(p, i+1); i < 0 {
				return -1
			}
			i--
		}
	}
	return -1
}

// text reads a string from the byte after its quote on, and returns it and the
// index after its closing quote.
func text(p []byte, start int) (string, int) {
	i, plain := quote(p, start)
	if plain {
		return view(p[start:i]), i + 1
	}
	var out []byte
	for i >= 0 && p[i] == '\\' && i+1 < len(p) {
		out = append(out, p[start:i]...)
		switch c := p[i+1]; c {
		case 'u':
			return "", -1 // the workload has none
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		default:
			out = append(out, c)
		}
		start = i + 2
		if i, plain = quote(p, start); plain {
			return view(append(out, p[start:i]...)), i + 1
		}
	}
	return "", -1
}

// quote finds the next quote from p[i] on, eight bytes a step. When a
// backslash or control character comes first it returns that one's index and
// false, and -1 when neither comes.
func quote(p []byte, i int) (int, bool) {
	const low, high = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(p); i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		q := w ^ (low * '"')
		s := w ^ (low * '\\')
		if m := ((q-low)&^q | (s-low)&^s | (w-low*' ')&^w) & high; m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			return i, p[i] == '"'
		}
	}
	for ; i < len(p); i++ {
		if c := p[i]; c == '"' {
			return i, true
		} else if c == '\\' || c < ' ' {
			return i, false
		}
	}
	return -1, false
}

func space(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return i
}

func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // the bytes are not written to while the event is used
}

func field(e *audit.Event, key string) *string {
	switch key {
	case "id":
		return &e.ID
	case "applicationName":
		return &e.ApplicationName
	case "moduleCode":
		return &e.ModuleCode
	case "moduleName":
		return &e.ModuleName
	case "userName":
		return &e.UserName
	case "userRole":
		return &e.UserRole
	case "userUuid":
		return &e.UserUUID
	case "customerUuid":
		return &e.CustomerUUID
	case "client":
		return &e.Client
	case "sourceIp":
		return &e.SourceIP
	case "targetType":
		return &e.TargetType
	case "targetName":
		return &e.TargetName
	case "action":
		return &e.Action
	case "status":
		return &e.Status
	case "auditComment":
		return &e.AuditComment
	case "externalChangeLink":
		return &e.ExternalChangeLink
	case "endpointType":
		return &e.EndpointType
	case "businessUnit":
		return &e.BusinessUnit
	case "origin":
		return &e.Origin
	case "requestId":
		return &e.RequestID
	}
	return nil
}
