package audit

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Validate checks what the values of e may be against the clock at, which is
// the caller's. maxAge is how far back createdDate may lie, the retention;
// zero or less stands for DefaultMaxAge. It returns nil or Problems, with
// every broken rule named.
//
// The form (Unicode, the JSON of Changes and Extra) is held by Decode and by
// AppendJSON, one of which every event passes; Validate looks at it only to
// name all problems of an event that has some. It does not allocate for a
// valid event.
func (e *Event) Validate(at time.Time, maxAge time.Duration) error {
	if maxAge <= 0 {
		maxAge = DefaultMaxAge
	}
	var ps Problems
	if e.ID != "" && !isUUID(e.ID) {
		ps = ps.add("id", RuleFormat, "must be a UUID of 8-4-4-4-12 hexadecimal digits, or empty; it has "+bytesOf(len(e.ID)))
	}
	if !isModuleCode(e.ModuleCode) {
		ps = ps.moduleCode(e)
	}
	if e.CustomerUUID == "" {
		ps = ps.required(e, fieldCustomerUUID)
	}
	if e.Action == "" {
		ps = ps.required(e, fieldAction)
	}
	if e.UserName == "" && e.UserUUID == "" {
		ps = ps.required(e, fieldUserName)
	}
	switch ms := at.UnixMilli(); {
	case e.CreatedDate == 0:
		ps = ps.required(e, fieldCreatedDate)
	case e.CreatedDate < max(1, ms-maxAge.Milliseconds()):
		ps = ps.tooOld("createdDate", e.CreatedDate, ms, maxAge)
	case e.CreatedDate > ms+MaxAhead.Milliseconds():
		ps = ps.tooNew("createdDate", e.CreatedDate, ms)
	}
	if e.SourceIP != "" && !isIPv4(e.SourceIP) && !isAddress(e.SourceIP) {
		ps = ps.badAddress()
	}
	switch e.EndpointType {
	case "", EndpointWebUI, EndpointBackgroundTask:
	case EndpointAPI:
		if len(e.Action) == len("login") && strings.EqualFold(e.Action, "login") {
			ps = ps.add("endpointType", RuleLoginAPI, `must not be "API" when action is Login: only logins through the user interface are events`)
		}
	default:
		ps = ps.add("endpointType", RuleEnum, `must be "Web UI", "API" or "Background Task", or empty`)
	}
	ps = ps.atMost("userUuid", len(e.UserUUID), MaxIDBytes)
	ps = ps.atMost("customerUuid", len(e.CustomerUUID), MaxIDBytes)
	ps = ps.atMost("applicationName", len(e.ApplicationName), MaxNameBytes)
	ps = ps.atMost("moduleName", len(e.ModuleName), MaxNameBytes)
	ps = ps.atMost("userRole", len(e.UserRole), MaxNameBytes)
	ps = ps.atMost("client", len(e.Client), MaxNameBytes)
	ps = ps.atMost("targetType", len(e.TargetType), MaxNameBytes)
	ps = ps.atMost("action", len(e.Action), MaxNameBytes)
	ps = ps.atMost("status", len(e.Status), MaxNameBytes)
	ps = ps.atMost("businessUnit", len(e.BusinessUnit), MaxNameBytes)
	ps = ps.atMost("requestId", len(e.RequestID), MaxNameBytes)
	ps = ps.atMost("origin", len(e.Origin), MaxOriginBytes)
	ps = ps.atMost("userName", len(e.UserName), MaxStringBytes)
	ps = ps.atMost("targetName", len(e.TargetName), MaxStringBytes)
	ps = ps.atMost("auditComment", len(e.AuditComment), MaxStringBytes)
	ps = ps.atMost("externalChangeLink", len(e.ExternalChangeLink), MaxStringBytes)
	if ps == nil {
		return nil
	}
	return ps.form(e)
}

func (ps Problems) atMost(field string, n, limit int) Problems {
	if n <= limit {
		return ps
	}
	return ps.tooLong(field, n, limit)
}

func (ps Problems) tooLong(field string, n, limit int) Problems {
	return ps.add(field, RuleLength, "has "+bytesOf(n)+", at most "+strconv.Itoa(limit)+" are allowed")
}

// required names a missing field, and the extra field that was likely meant.
func (ps Problems) required(e *Event, f fieldID) Problems {
	message := "is required"
	switch f {
	case fieldUserName:
		message = "or userUuid is required"
	case fieldCreatedDate:
		message = requiredDate
	default:
	}
	if name := misspelled(e.Extra, f); name != "" {
		message += "; " + shortName(name) + " is another name: did you mean " + fieldNames[f] + "?"
	}
	return ps.add(fieldNames[f], RuleRequired, message)
}

func (ps Problems) moduleCode(e *Event) Problems {
	if e.ModuleCode == "" {
		return ps.required(e, fieldModuleCode)
	}
	return ps.badModuleCode(e.ModuleCode)
}

// missing names a missing field of a kind of record that has no other fields
// than the known ones.
func (ps Problems) missing(field string) Problems {
	return ps.add(field, RuleRequired, "is required")
}

const requiredDate = "is required: milliseconds since 1970-01-01 UTC"

func (ps Problems) missingDate(field string) Problems {
	return ps.add(field, RuleRequired, requiredDate)
}

func (ps Problems) badModuleCode(code string) Problems {
	if len(code) > MaxModuleCodeBytes {
		return ps.tooLong("moduleCode", len(code), MaxModuleCodeBytes)
	}
	return ps.add("moduleCode", RuleFormat, "must be upper-case letters and digits, a letter first")
}

func (ps Problems) badAddress() Problems {
	return ps.add("sourceIp", RuleFormat, "must be an IPv4 or IPv6 address without a zone, or empty")
}

func (ps Problems) tooOld(field string, date, now int64, maxAge time.Duration) Problems {
	message := "is older than the " + days(maxAge) + " that events are kept"
	// A date in seconds reads as one in January 1970.
	if ms := date * 1000; date > 0 && date < now/100 && ms >= now-maxAge.Milliseconds() && ms <= now+MaxAhead.Milliseconds() {
		message += ": it looks like seconds, give milliseconds"
	}
	return ps.add(field, RuleTooOld, message)
}

func (ps Problems) tooNew(field string, date, now int64) Problems {
	message := "is more than " + days(MaxAhead) + " in the future"
	if ms := date / 1000; ms > now/2 && ms < now*2 {
		message += ": it looks like microseconds, give milliseconds"
	} else {
		message += ": check the clock of the host"
	}
	return ps.add(field, RuleTooNew, message)
}

// form adds the problems of form, in the words of AppendJSON.
func (ps Problems) form(e *Event) Problems {
	for f := range fieldCount {
		if s := e.text(f); s != nil && !utf8.ValidString(*s) {
			ps = ps.add(fieldNames[f], RuleUTF8, "is not valid UTF-8")
		}
	}
	if len(e.Changes) > 0 && !isNull(e.Changes) {
		if err := checkChanges(e.Changes); err != nil {
			ps = ps.add("changes", err.Rule, err.Reason)
		}
	}
	if len(e.Extra) > 0 && !isNull(e.Extra) {
		if _, err := readExtra(e.Extra); err != nil {
			ps = ps.add("extra", err.Rule, err.Reason)
		}
	}
	return ps
}

// isUUID says whether s is 8-4-4-4-12 hexadecimal digits.
func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	var bad int8
	for i := range 36 {
		switch i {
		case 8, 13, 18, 23:
		default:
			bad |= hexDigit[s[i]]
		}
	}
	return bad >= 0
}

// isModuleCode says whether s is 1 to 32 upper-case letters and digits, a
// letter first.
func isModuleCode(s string) bool {
	if s == "" || len(s) > MaxModuleCodeBytes || s[0]-'A' > 'Z'-'A' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i]-'A' > 'Z'-'A' && s[i]-'0' > 9 {
			return false
		}
	}
	return true
}

// isIPv4 says whether s is four decimal numbers below 256 without leading
// zeros, as netip.ParseAddr would.
func isIPv4(s string) bool {
	value, digits, dots := 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c-'0' <= 9:
			if digits > 0 && value == 0 {
				return false
			}
			value = value*10 + int(c-'0')
			if digits++; value > 255 {
				return false
			}
		case c == '.' && digits > 0 && dots < 3:
			value, digits = 0, 0
			dots++
		default:
			return false
		}
	}
	return dots == 3 && digits > 0
}

// isAddress says whether s is an address without a zone.
func isAddress(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Zone() == ""
}

func isNull(raw []byte) bool { return string(raw) == "null" }

func bytesOf(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return strconv.Itoa(n) + " bytes"
}

func days(d time.Duration) string {
	if d%(24*time.Hour) != 0 {
		return d.String()
	}
	if n := int(d / (24 * time.Hour)); n != 1 {
		return strconv.Itoa(n) + " days"
	}
	return "1 day"
}
