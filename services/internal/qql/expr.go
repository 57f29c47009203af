// Package qql is the query language: text such as
//
//	action: delete AND sourceIp: 10.0.0.0/8 AND createdDate > now-7d
//
// becomes an Expr over the fields of a table (field.Table), which prints back to
// text (String), decides about events and API calls in memory (Compile, CompileCall) and becomes SQL (package sqlgen). The two decide alike: a
// property test holds them together. docs/query-language.md is the reference.
package qql

import (
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
)

// Expr is a condition on an event or an API call: And, Or, Not, Nested or Test. Treat it as
// read-only. A nil Expr holds for every record.
type Expr interface {
	// String returns the condition as a query that parses to the same Expr.
	String() string
	expr()
}

// And holds where all of two or more conditions hold. None of them is an And.
type And []Expr

// Or holds where any of two or more conditions holds. None of them is an Or.
type Or []Expr

// Not holds where X does not.
type Not struct{ X Expr }

// Nested holds where one entry of a list field (changes) satisfies X. The
// fields in X are rows of the table's Entries. There is no Nested within.
type Nested struct {
	Field *field.Field
	X     Expr
}

// Test compares one field. Field is a row of the table's Fields or, inside a
// Nested, of its Entries; nil stands for its Texts, and Cond is Words or Phrase
// then: each word is found in one of the texts, not all of them
// in the same (jack report: who did it and what), a phrase within one. Which
// Cond goes with which type: field.Type.
type Test struct {
	Field *field.Field
	Cond  Cond
}

func (And) expr()    {}
func (Or) expr()     {}
func (Not) expr()    {}
func (Nested) expr() {}
func (Test) expr()   {}

// Cond is what a field's value is compared with.
type Cond interface{ cond() }

// Words holds where every word begins a token of the value, in any order, upper
// and lower case alike: [add us] holds for "New user added". At least one word.
type Words []Word

// Word is one or more tokens, in lower case, that the value must have in
// sequence; the last may be the beginning of one. A host name or a UUID is one
// Word of several tokens: web-01.example.com is [web 01 example com]. Tokens are
// those of Tokens.
type Word []string

// Phrase holds where the value has these tokens in sequence, each whole, upper
// and lower case alike. At least one.
type Phrase []string

// Equal holds where the value is Text, byte for byte: `...` and =. For texts
// (field types Keyword, Text, Opaque and JSON).
type Equal struct{ Text string }

// Like holds where the whole value fits the pattern, upper and lower case
// alike: between two parts anything may stand, also nothing. {"jo", "n"} is
// jo*n, {"", "smith"} is *smith. Two parts at least; not for ["", ""], which is
// Not{Null{}}.
type Like []string

// In holds where the value is one of the members. Not empty.
type In []Member

// Member is one value of a list: a whole text (in any case, unless Exact), or
// what the field's type has: a Bound's value or a network.
type Member struct {
	Text  string
	Exact bool // from `...`; always with Opaque
	Value Value
}

// Range holds where the value lies between two ends; one of them may be nil.
// field: 5 is Range{5, 5}. For Number, Instant and Address, and for UUID with two
// ends that are the same. An event without an address is in no range, network or
// list of them, and a range with an end of IPv4 holds IPv4 addresses alone, one
// of IPv6 the others; the number 0 is a number like any.
type Range struct{ Low, High *Bound }

// Bound is one end of a Range.
type Bound struct {
	Value Value
	Open  bool // the value itself is outside
}

// Null holds where the event has no value in the field: an empty text, the
// number 0, no address.
type Null struct{}

func (Words) cond()  {}
func (Phrase) cond() {}
func (Equal) cond()  {}
func (Like) cond()   {}
func (In) cond()     {}
func (Range) cond()  {}
func (Null) cond()   {}

// Value is a Number, Date, Addr, Network or ID.
type Value interface{ value() }

// Number is for fields of type Number.
type Number uint64

// Date is for fields of type Instant: a span of time, because 2026-01-31 is a
// whole day. A range from or up to it, inclusive, has all of the span; an open
// end none of it.
type Date struct {
	// Now says that the date is relative: now, moved by Move.
	Now  bool
	Move []Step // now-1d-2h has two
	// From is the first millisecond, To the last, since the Unix epoch; the same
	// for an exact time. Not set when Now.
	From, To int64
	// Text is the date as it was written.
	Text string
}

// Step moves a date by N units of 's', 'm' (minutes), 'h', 'd', 'w', 'M'
// (months) or 'y', as time.Time.AddDate does for the last four, in UTC.
type Step struct {
	N    int
	Unit byte
}

// Addr is for fields of type Address: an IPv4 or IPv6 address, without a zone,
// never an IPv4 address mapped into IPv6.
type Addr netip.Addr

// Network is for fields of type Address, in Member and alone as Range{n, n}:
// 10.0.0.0/8. Masked.
type Network netip.Prefix

// ID is for fields of type UUID, in Member and alone as Range{id, id}.
type ID uuid.UUID

func (Number) value()  {}
func (Date) value()    {}
func (Addr) value()    {}
func (Network) value() {}
func (ID) value()      {}

// Span returns the first and last millisecond of a date, taking now for now.
func (d Date) Span(now time.Time) (from, to int64) {
	if !d.Now {
		return d.From, d.To
	}
	t := now.UTC()
	for _, s := range d.Move {
		switch s.Unit {
		case 's':
			t = t.Add(time.Duration(s.N) * time.Second)
		case 'm':
			t = t.Add(time.Duration(s.N) * time.Minute)
		case 'h':
			t = t.Add(time.Duration(s.N) * time.Hour)
		case 'd':
			t = t.AddDate(0, 0, s.N)
		case 'w':
			t = t.AddDate(0, 0, 7*s.N)
		case 'M':
			t = t.AddDate(0, s.N, 0)
		case 'y':
			t = t.AddDate(s.N, 0, 0)
		}
	}
	return t.UnixMilli(), t.UnixMilli()
}

// MaxLength is the longest query, in characters.
const MaxLength = 500
