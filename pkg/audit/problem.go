package audit

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Rules, as named by Problem.Rule and DecodeError.Rule. The set is closed, so
// a rule may be a metric's label. The examples of broken events in
// schemas/audit/v1/examples carry the same names.
const (
	RuleJSON      = "json"      // not one JSON object
	RuleUTF8      = "utf8"      // text that is not Unicode
	RuleDuplicate = "duplicate" // a name occurs twice in one object
	RuleDepth     = "depth"     // nested too deep
	RuleType      = "type"      // a value of the wrong JSON type
	RuleRange     = "range"     // a number out of range
	RuleRequired  = "required"  // a required field is missing
	RuleLength    = "length"    // a string too long
	RuleCount     = "count"     // too many entries
	RuleFormat    = "format"    // a string of the wrong form
	RuleEnum      = "enum"      // not one of the values allowed
	RuleTooOld    = "too-old"   // createdDate before retention
	RuleTooNew    = "too-new"   // createdDate in the future
	RuleLoginAPI  = "login-api" // a login event of an API call
	RuleCollision = "collision" // an extra field with a known field's name
	RuleRecord    = "record"    // the record is too long
	RuleTopic     = "topic"     // moduleCode does not match the topic
	RuleUnknown   = "unknown"   // a member that must not be there
	RuleState     = "state"     // a member that does not go with the state of an API call
)

// Problem is one rule that a record breaks.
type Problem struct {
	Field   string // JSON name of the field
	Rule    string // one of the Rule constants
	Message string // what is wrong and what to do, without the value
}

// Kinds of records, in the words of errors.
const (
	auditEvent = "audit event"
	apiCall    = "API call"
)

// Problems are all the rules that a record breaks. It is never empty when
// returned as an error; that of an API call wraps it: use errors.As.
type Problems []Problem

// Error names every problem in one line.
func (ps Problems) Error() string { return ps.text(auditEvent) }

// callProblems are the Problems of an API call.
type callProblems struct{ ps Problems }

func (c callProblems) Error() string { return c.ps.text(apiCall) }
func (c callProblems) Unwrap() error { return c.ps }

func (ps Problems) text(kind string) string {
	var b strings.Builder
	b.WriteString("invalid " + kind + ": ")
	for i, p := range ps {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Field)
		b.WriteByte(' ')
		b.WriteString(p.Message)
	}
	return b.String()
}

// Has says whether one of the problems is of the rule.
func (ps Problems) Has(rule string) bool {
	for _, p := range ps {
		if p.Rule == rule {
			return true
		}
	}
	return false
}

func (ps Problems) add(field, rule, message string) Problems {
	return append(ps, Problem{Field: field, Rule: rule, Message: message})
}

// DecodeError says why bytes are no event, or no API call. It never holds
// values.
type DecodeError struct {
	Offset int    // byte of the record where the trouble begins
	Field  string // the top-level member it is in, quoted and cut when unknown, "" when in none
	Rule   string // one of the Rule constants
	Reason string // what is wrong and what to do

	of string // the kind of record, "" for an event
}

func (e *DecodeError) Error() string {
	kind, field := cmp.Or(e.of, auditEvent), e.Field
	if field != "" {
		field += " "
	}
	return fmt.Sprintf("decode %s at byte %d: %s%s", kind, e.Offset, field, e.Reason)
}

// shortName makes a name from a payload fit for a message.
func shortName(s string) string {
	const limit = 48
	if len(s) > limit {
		return strconv.QuoteToASCII(s[:limit]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
