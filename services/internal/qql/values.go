package qql

import (
	"net/netip"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

// getters read the fields of one kind of record, by name.
type getters[T any] struct {
	of        *field.Table
	texts     map[string]func(T) string
	numbers   map[string]func(T) uint32
	instants  map[string]func(T) int64
	ids       map[string]func(T) string
	addresses map[string]func(T) string
}

var events = &getters[*audit.Event]{
	of: field.Events,
	texts: map[string]func(*audit.Event) string{
		"applicationName":    func(e *audit.Event) string { return e.ApplicationName },
		"moduleCode":         func(e *audit.Event) string { return e.ModuleCode },
		"moduleName":         func(e *audit.Event) string { return e.ModuleName },
		"userName":           func(e *audit.Event) string { return e.UserName },
		"userRole":           func(e *audit.Event) string { return e.UserRole },
		"userUuid":           func(e *audit.Event) string { return e.UserUUID },
		"customerUuid":       func(e *audit.Event) string { return e.CustomerUUID },
		"client":             func(e *audit.Event) string { return e.Client },
		"targetType":         func(e *audit.Event) string { return e.TargetType },
		"targetName":         func(e *audit.Event) string { return e.TargetName },
		"action":             func(e *audit.Event) string { return e.Action },
		"status":             func(e *audit.Event) string { return e.Status },
		"auditComment":       func(e *audit.Event) string { return e.AuditComment },
		"externalChangeLink": func(e *audit.Event) string { return e.ExternalChangeLink },
		"endpointType":       func(e *audit.Event) string { return e.EndpointType },
		"businessUnit":       func(e *audit.Event) string { return e.BusinessUnit },
		"origin":             func(e *audit.Event) string { return e.Origin },
		"changes":            func(e *audit.Event) string { return string(e.Changes) },
		"requestId":          func(e *audit.Event) string { return e.RequestID },
		"extra":              func(e *audit.Event) string { return string(e.Extra) },
	},
	numbers:   map[string]func(*audit.Event) uint32{"auditEnabledAppId": func(e *audit.Event) uint32 { return e.AuditEnabledAppID }},
	instants:  map[string]func(*audit.Event) int64{"createdDate": func(e *audit.Event) int64 { return e.CreatedDate }},
	ids:       map[string]func(*audit.Event) string{"id": func(e *audit.Event) string { return e.ID }},
	addresses: map[string]func(*audit.Event) string{"sourceIp": func(e *audit.Event) string { return e.SourceIP }},
}

var calls = &getters[*audit.APICall]{
	of: field.Calls,
	texts: map[string]func(*audit.APICall) string{
		"customerUuid": func(c *audit.APICall) string { return c.CustomerUUID },
		"moduleCode":   func(c *audit.APICall) string { return c.ModuleCode },
		"api":          func(c *audit.APICall) string { return c.API },
		"method":       func(c *audit.APICall) string { return c.Method },
		"state":        func(c *audit.APICall) string { return c.State },
		"reason":       func(c *audit.APICall) string { return c.Reason },
		"userName":     func(c *audit.APICall) string { return c.UserName },
		"userRole":     func(c *audit.APICall) string { return c.UserRole },
		"userUuid":     func(c *audit.APICall) string { return c.UserUUID },
		"businessUnit": func(c *audit.APICall) string { return c.BusinessUnit },
		"client":       func(c *audit.APICall) string { return c.Client },
		"requestId":    func(c *audit.APICall) string { return c.RequestID },
	},
	numbers: map[string]func(*audit.APICall) uint32{
		"durationMs": func(c *audit.APICall) uint32 { return c.DurationMs },
		"httpStatus": func(c *audit.APICall) uint32 { return c.HTTPStatus },
	},
	instants: map[string]func(*audit.APICall) int64{
		"submittedDate": func(c *audit.APICall) int64 { return c.SubmittedDate },
		"updatedDate":   func(c *audit.APICall) int64 { return c.UpdatedDate },
	},
	ids:       map[string]func(*audit.APICall) string{"callId": func(c *audit.APICall) string { return c.CallID }},
	addresses: map[string]func(*audit.APICall) string{"sourceIp": func(c *audit.APICall) string { return c.SourceIP }},
}

// address is a record's address as it is stored; the zero Addr when it has none.
func address(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() && a.Is6() {
		return netip.Addr{} // stored as ::
	}
	return a.Unmap()
}

// id is a record's id as it is stored.
func id(s string) uuid.UUID {
	u, err := uuid.Parse(s)
	if err != nil {
		return uuid.Nil
	}
	return u
}

// change is an entry of changes: the values of field.ChangeFields.
type change [3]string

// changes reads the entries of the JSON array raw. A string's value is its
// text, that of null and of an absent member is empty, and of anything else the
// JSON as it was written, without white space. It goes by the tokens of JSON
// alone, as the SQL does, so that both say the same of what is no good JSON:
// an entry begins at a brace at depth 2, a member at a comma or brace there.
func changes(raw string) []change {
	var (
		entries []change
		depth   int
		member  int             // tokens since the member began
		name    string          // of the member
		value   strings.Builder // of the member
		seen    map[string]bool
	)
	end := func() {
		if member < 1 || seen[name] || len(entries) == 0 {
			return
		}
		seen[name] = true
		e := &entries[len(entries)-1]
		switch name {
		case "field":
			e[0] = jsonText(value.String())
		case "before":
			e[1] = jsonText(value.String())
		case "after":
			e[2] = jsonText(value.String())
		}
	}
	for t := range jsonTokens(toValid(raw)) {
		switch t {
		case "{", "[":
			depth++
		case "}", "]":
			depth--
		}
		switch {
		case depth < 2:
		case depth == 2 && t == "{":
			end()
			entries = append(entries, change{})
			seen = map[string]bool{}
			member, name = 0, ""
			value.Reset()
		case depth == 2 && t == ",":
			end()
			member, name = 0, ""
			value.Reset()
		default:
			member++
			switch member {
			case 1:
				name = unquote(t)
			case 2: // the colon
			default:
				value.WriteString(t)
			}
		}
	}
	end()
	return entries
}

// jsonTokens yields the strings, the punctuation and the other words of JSON.
func jsonTokens(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := 0; i < len(s); {
			j := i + 1
			switch c := s[i]; {
			case c == '"':
				j = stringEnd(s, i)
				if j < 0 {
					i++
					continue
				}
			case strings.IndexByte("{}[],:", c) >= 0:
			case isSpace(c):
				i++
				continue
			default:
				for j < len(s) && !isSpace(s[j]) && strings.IndexByte(`{}[],:"`, s[j]) < 0 {
					j++
				}
			}
			if !yield(s[i:j]) {
				return
			}
			i = j
		}
	}
}

// stringEnd is the index after the JSON string at s[i], -1 when it does not end.
func stringEnd(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '"':
			return j + 1
		case '\\':
			j++
		}
	}
	return -1
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// jsonText is what a JSON value is compared as.
func jsonText(v string) string {
	switch {
	case strings.HasPrefix(v, `"`):
		return unquote(v)
	case v == "null":
		return ""
	}
	return v
}

// unquote reads a JSON string; anything else is empty.
func unquote(v string) string {
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(b)
}
