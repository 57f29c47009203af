package audit

import (
	"slices"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends e as one JSON object, known fields in the order of the
// struct and then those of Extra, and returns the longer slice. Empty fields
// are left out.
//
// It holds the form, as Decode does: Problems name strings that are not
// Unicode, Changes or Extra that are not what they must be, and members of
// Extra that have the name of a known field. On an error dst is returned as it
// came. It allocates only to grow dst, and when Extra is set.
func (e *Event) AppendJSON(dst []byte) ([]byte, error) {
	out := slices.Grow(dst, e.sizeHint())
	mark := len(out)
	out = append(out, '{')
	ok := true
	out = appendText(out, `"id":"`, e.ID, &ok)
	if e.AuditEnabledAppID != 0 {
		out = append(out, `"auditEnabledAppId":`...)
		out = strconv.AppendUint(out, uint64(e.AuditEnabledAppID), 10)
		out = append(out, ',')
	}
	out = appendText(out, `"applicationName":"`, e.ApplicationName, &ok)
	out = appendText(out, `"moduleCode":"`, e.ModuleCode, &ok)
	out = appendText(out, `"moduleName":"`, e.ModuleName, &ok)
	out = appendText(out, `"userName":"`, e.UserName, &ok)
	out = appendText(out, `"userRole":"`, e.UserRole, &ok)
	out = appendText(out, `"userUuid":"`, e.UserUUID, &ok)
	out = appendText(out, `"customerUuid":"`, e.CustomerUUID, &ok)
	out = appendText(out, `"client":"`, e.Client, &ok)
	out = appendText(out, `"sourceIp":"`, e.SourceIP, &ok)
	if e.CreatedDate != 0 {
		out = append(out, `"createdDate":`...)
		out = strconv.AppendInt(out, e.CreatedDate, 10)
		out = append(out, ',')
	}
	out = appendText(out, `"targetType":"`, e.TargetType, &ok)
	out = appendText(out, `"targetName":"`, e.TargetName, &ok)
	out = appendText(out, `"action":"`, e.Action, &ok)
	out = appendText(out, `"status":"`, e.Status, &ok)
	out = appendText(out, `"auditComment":"`, e.AuditComment, &ok)
	out = appendText(out, `"externalChangeLink":"`, e.ExternalChangeLink, &ok)
	out = appendText(out, `"endpointType":"`, e.EndpointType, &ok)
	out = appendText(out, `"businessUnit":"`, e.BusinessUnit, &ok)
	out = appendText(out, `"origin":"`, e.Origin, &ok)
	if len(e.Changes) > 0 && !isNull(e.Changes) {
		ok = ok && checkChanges(e.Changes) == nil
		out = append(out, `"changes":`...)
		out = append(out, e.Changes...)
		out = append(out, ',')
	}
	out = appendText(out, `"requestId":"`, e.RequestID, &ok)
	if len(e.Extra) > 0 && !isNull(e.Extra) {
		x, err := readExtra(e.Extra)
		ok = ok && err == nil
		if len(x.raw) > 0 {
			out = append(out, x.raw[1:]...)
			out = append(out, ',')
		}
	}
	if !ok {
		return dst, Problems(nil).form(e)
	}
	if len(out) == mark+1 {
		return append(out, '}'), nil
	}
	out[len(out)-1] = '}'
	return out, nil
}

// MarshalJSON is AppendJSON for encoding/json.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil) }

// sizeHint is the length of e on the wire when nothing needs an escape.
func (e *Event) sizeHint() int {
	const names = 400 // names, quotes, commas and numbers of all known fields
	return names + len(e.ID) + len(e.ApplicationName) + len(e.ModuleCode) +
		len(e.ModuleName) + len(e.UserName) + len(e.UserRole) +
		len(e.UserUUID) + len(e.CustomerUUID) + len(e.Client) +
		len(e.SourceIP) + len(e.TargetType) + len(e.TargetName) +
		len(e.Action) + len(e.Status) + len(e.AuditComment) +
		len(e.ExternalChangeLink) + len(e.EndpointType) +
		len(e.BusinessUnit) + len(e.Origin) + len(e.Changes) +
		len(e.RequestID) + len(e.Extra)
}

// appendText appends one string member and a comma, nothing when s is empty.
// It clears ok when s is not Unicode.
func appendText(dst []byte, name, s string, ok *bool) []byte {
	if s == "" {
		return dst
	}
	dst = append(dst, name...)
	if n := asciiRun(bytesView(s), 0); n < len(s) {
		return appendEscaped(dst, s, n, ok)
	}
	dst = append(dst, s...)
	return append(dst, '"', ',')
}

// appendEscaped does the same for a string that is plain up to n only.
func appendEscaped(dst []byte, s string, n int, ok *bool) []byte {
	const digits = "0123456789abcdef"
	start := 0
	for i := n; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && width == 1 {
				*ok = false
			}
			i += width
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i = asciiRun(bytesView(s), i)
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"', ',')
}
