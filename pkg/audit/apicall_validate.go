package audit

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Validate checks what the values of c may be against the clock at, which is
// the caller's. maxAge is how far back submittedDate may lie, the retention;
// zero or less stands for DefaultMaxAge. It returns nil or an error that
// unwraps to Problems, with every broken rule named. Like Event.Validate it
// leaves the form to DecodeAPICall and AppendJSON, and does not allocate for a
// valid record.
func (c *APICall) Validate(at time.Time, maxAge time.Duration) error {
	if maxAge <= 0 {
		maxAge = DefaultMaxAge
	}
	var ps Problems
	switch {
	case c.CallID == "":
		ps = ps.missing("callId")
	case !isUUID(c.CallID):
		ps = ps.add("callId", RuleFormat, "must be a UUID of 8-4-4-4-12 hexadecimal digits; it has "+bytesOf(len(c.CallID)))
	}
	if c.CustomerUUID == "" {
		ps = ps.missing("customerUuid")
	}
	switch {
	case c.ModuleCode == "":
		ps = ps.missing("moduleCode")
	case !isModuleCode(c.ModuleCode):
		ps = ps.badModuleCode(c.ModuleCode)
	}
	if c.API == "" {
		ps = ps.missing("api")
	}
	switch {
	case c.State == "":
		ps = ps.missing("state")
	case StateRank(c.State) == 0:
		ps = ps.add("state", RuleEnum, "must be one of "+strings.Join(APICallStates, ", "))
	default:
		ps = c.stateFits(ps)
	}
	ps = c.dates(ps, at.UnixMilli(), maxAge)
	if c.HTTPStatus != 0 && (c.HTTPStatus < 100 || c.HTTPStatus > 599) {
		ps = ps.add("httpStatus", RuleRange, "must be 100 to 599, or 0 when there is no answer")
	}
	if c.UserName == "" && c.UserUUID == "" {
		ps = ps.add("userName", RuleRequired, "or userUuid is required")
	}
	if c.SourceIP != "" && !isIPv4(c.SourceIP) && !isAddress(c.SourceIP) {
		ps = ps.badAddress()
	}
	ps = ps.atMost("customerUuid", len(c.CustomerUUID), MaxIDBytes)
	ps = ps.atMost("api", len(c.API), MaxAPIBytes)
	ps = ps.atMost("method", len(c.Method), MaxMethodBytes)
	ps = ps.atMost("reason", len(c.Reason), MaxReasonBytes)
	ps = ps.atMost("userName", len(c.UserName), MaxStringBytes)
	ps = ps.atMost("userRole", len(c.UserRole), MaxNameBytes)
	ps = ps.atMost("userUuid", len(c.UserUUID), MaxIDBytes)
	ps = ps.atMost("businessUnit", len(c.BusinessUnit), MaxNameBytes)
	ps = ps.atMost("client", len(c.Client), MaxNameBytes)
	ps = ps.atMost("requestId", len(c.RequestID), MaxNameBytes)
	if ps == nil {
		return nil
	}
	return callProblems{c.form(ps)}
}

// stateFits checks the members that go with some states only.
func (c *APICall) stateFits(ps Problems) Problems {
	if c.Heartbeat && c.State != StateQueued && c.State != StateRunning {
		ps = ps.add("heartbeat", RuleState, "may be true only while the state is Queued or Running")
	}
	if c.Heartbeat && c.Durable {
		ps = ps.add("heartbeat", RuleState, "may not be true of a durable call: it does not expire for its silence")
	}
	if c.DurationMs != 0 && c.State != StateFinished && c.State != StateExpired {
		ps = ps.add("durationMs", RuleState, "may be set only when the state is Finished or Expired")
	}
	return ps
}

// dates checks submittedDate, and updatedDate as far as that allows.
func (c *APICall) dates(ps Problems, now int64, maxAge time.Duration) Problems {
	ahead := now + MaxAhead.Milliseconds()
	switch {
	case c.SubmittedDate == 0:
		ps = ps.missingDate("submittedDate")
	case c.SubmittedDate < max(1, now-maxAge.Milliseconds()):
		ps = ps.tooOld("submittedDate", c.SubmittedDate, now, maxAge)
	case c.SubmittedDate > ahead:
		ps = ps.tooNew("submittedDate", c.SubmittedDate, now)
	}
	switch {
	case c.UpdatedDate == 0:
		ps = ps.missingDate("updatedDate")
	case c.SubmittedDate > ahead: // said once
	case c.UpdatedDate < max(1, c.SubmittedDate):
		ps = ps.add("updatedDate", RuleRange, "must not be before submittedDate")
	case c.UpdatedDate > ahead:
		ps = ps.tooNew("updatedDate", c.UpdatedDate, now)
	}
	return ps
}

// form adds the problems of form, in the words of AppendJSON.
func (c *APICall) form(ps Problems) Problems {
	for f := range callFieldCount {
		if s := c.text(f); s != nil && !utf8.ValidString(*s) {
			ps = ps.add(callNames[f], RuleUTF8, "is not valid UTF-8")
		}
	}
	return ps
}
