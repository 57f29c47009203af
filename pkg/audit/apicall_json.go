package audit

import (
	"math"
	"slices"
	"strconv"
)

// DecodeAPICall reads one record of an API call from its JSON form into c,
// which it resets first. It is as strict as Decode, and refuses members that
// the contract does not know. What the values may be is Validate's part.
//
// Strings of c point into data, so data must not be written to as long as c is
// used; only strings with escapes are copies. The error is a *DecodeError, and
// c is then of no use.
func DecodeAPICall(data []byte, c *APICall) error {
	*c = APICall{}
	err := decodeCall(data, c)
	if err == nil {
		return nil
	}
	err.of = apiCall
	return err
}

func decodeCall(p []byte, c *APICall) *DecodeError {
	if len(p) > MaxRecordBytes {
		return fail(MaxRecordBytes, RuleRecord, "is longer than "+bytesOf(MaxRecordBytes)+": shorten its texts")
	}
	i := space(p, 0)
	if i >= len(p) || p[i] != '{' {
		return noObject(p, i)
	}
	if i = space(p, i+1); i < len(p) && p[i] == '}' {
		return trailing(p, i+1)
	}
	var seen uint32 // by callField
	for {
		m, err := scanMember(p, i)
		if err != nil {
			return err
		}
		f := callFieldOf(m.key)
		if f < 0 {
			return unknownCallMember(m)
		}
		if seen&(1<<f) != 0 {
			return duplicate(i, callNames[f])
		}
		seen |= 1 << f
		end, err := decodeCallField(p, m.at, c, f)
		if err != nil {
			err.Field = callNames[f]
			return err
		}
		i = space(p, end)
		if i < len(p) && p[i] == ',' {
			i = space(p, i+1)
			continue
		}
		if i >= len(p) || p[i] != '}' {
			return fail(i, RuleJSON, "needs a comma or a brace after a member")
		}
		return trailing(p, i+1)
	}
}

func unknownCallMember(m member) *DecodeError {
	reason := "is no field of an API call"
	if meant := likelyCallField(m.key); meant != "" {
		reason += ": did you mean " + meant + "?"
	} else {
		reason += ": leave it out"
	}
	err := fail(m.start, RuleUnknown, reason)
	err.Field = shortName(m.key)
	return err
}

// decodeCallField reads the value at p[i] into the field f.
func decodeCallField(p []byte, i int, c *APICall, f callField) (int, *DecodeError) {
	if i >= len(p) {
		return 0, fail(i, RuleJSON, "ends where a value must stand")
	}
	if hasWord(p, i, "null") {
		return i + len("null"), nil
	}
	if dst := c.text(f); dst != nil {
		if p[i] != '"' {
			return 0, wrongType(p, i, "must be a string")
		}
		t, err := scanText(p, i+1)
		if err != nil {
			return 0, err
		}
		*dst = t.value(p)
		return t.end + 1, nil
	}
	var (
		v   int64
		end int
		err *DecodeError
	)
	switch f {
	case callHeartbeat:
		return flag(p, i, &c.Heartbeat)
	case callDurable:
		return flag(p, i, &c.Durable)
	case callSubmittedDate:
		c.SubmittedDate, end, err = integer(p, i, math.MinInt64, math.MaxInt64)
	case callUpdatedDate:
		c.UpdatedDate, end, err = integer(p, i, math.MinInt64, math.MaxInt64)
	case callDurationMs:
		v, end, err = integer(p, i, 0, math.MaxUint32)
		c.DurationMs = uint32(v)
	default: // callHTTPStatus
		v, end, err = integer(p, i, 0, math.MaxUint32)
		c.HTTPStatus = uint32(v)
	}
	return end, err
}

// flag reads true or false at p[i].
func flag(p []byte, i int, dst *bool) (int, *DecodeError) {
	for _, word := range [...]string{"false", "true"} {
		if hasWord(p, i, word) {
			*dst = word == "true"
			return i + len(word), nil
		}
	}
	return 0, wrongType(p, i, "must be true or false")
}

// AppendJSON appends c as one JSON object, its fields in the order of the
// struct and without those that are empty, and returns the longer slice.
//
// It holds the form, as DecodeAPICall does: Problems name strings that are not
// Unicode and a record longer than MaxRecordBytes, and dst is then returned as
// it came. It allocates only to grow dst.
func (c *APICall) AppendJSON(dst []byte) ([]byte, error) {
	out := slices.Grow(dst, c.sizeHint())
	mark := len(out)
	out = append(out, '{')
	ok := true
	out = appendText(out, `"callId":"`, c.CallID, &ok)
	out = appendText(out, `"customerUuid":"`, c.CustomerUUID, &ok)
	out = appendText(out, `"moduleCode":"`, c.ModuleCode, &ok)
	out = appendText(out, `"api":"`, c.API, &ok)
	out = appendText(out, `"method":"`, c.Method, &ok)
	out = appendText(out, `"state":"`, c.State, &ok)
	if c.Heartbeat {
		out = append(out, `"heartbeat":true,`...)
	}
	if c.Durable {
		out = append(out, `"durable":true,`...)
	}
	out = appendText(out, `"reason":"`, c.Reason, &ok)
	out = appendInteger(out, `"submittedDate":`, c.SubmittedDate)
	out = appendInteger(out, `"updatedDate":`, c.UpdatedDate)
	out = appendInteger(out, `"durationMs":`, int64(c.DurationMs))
	out = appendInteger(out, `"httpStatus":`, int64(c.HTTPStatus))
	out = appendText(out, `"userName":"`, c.UserName, &ok)
	out = appendText(out, `"userRole":"`, c.UserRole, &ok)
	out = appendText(out, `"userUuid":"`, c.UserUUID, &ok)
	out = appendText(out, `"businessUnit":"`, c.BusinessUnit, &ok)
	out = appendText(out, `"client":"`, c.Client, &ok)
	out = appendText(out, `"sourceIp":"`, c.SourceIP, &ok)
	out = appendText(out, `"requestId":"`, c.RequestID, &ok)
	if !ok {
		return dst, callProblems{c.form(nil)}
	}
	if len(out) == mark+1 {
		return append(out, '}'), nil
	}
	out[len(out)-1] = '}'
	if n := len(out) - mark; n > MaxRecordBytes {
		return dst, callProblems{Problems(nil).add("record", RuleRecord, "takes "+bytesOf(n)+" as JSON, at most "+strconv.Itoa(MaxRecordBytes)+" are allowed: shorten its texts")}
	}
	return out, nil
}

// sizeHint is the length of c on the wire when nothing needs an escape.
func (c *APICall) sizeHint() int {
	const names = 400 // names, quotes, commas and numbers of all fields
	return names + len(c.CallID) + len(c.CustomerUUID) + len(c.ModuleCode) +
		len(c.API) + len(c.Method) + len(c.State) + len(c.Reason) +
		len(c.UserName) + len(c.UserRole) + len(c.UserUUID) +
		len(c.BusinessUnit) + len(c.Client) + len(c.SourceIP) + len(c.RequestID)
}

// appendInteger appends one number member and a comma, nothing when v is 0.
func appendInteger(dst []byte, name string, v int64) []byte {
	if v == 0 {
		return dst
	}
	dst = append(dst, name...)
	dst = strconv.AppendInt(dst, v, 10)
	return append(dst, ',')
}
