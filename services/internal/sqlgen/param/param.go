// Package param carries values beside SQL: a condition names a parameter,
// {name:Type}, and the value travels apart from the text, so that no value
// can change what a statement means.
package param

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Set holds parameter values by name, in the text form that ClickHouse reads
// for {name:Type}: fit for clickhouse.WithParameters and, each under the name
// "param_" + name, for the HTTP interface. Not safe for concurrent use.
type Set map[string]string

// Text adds a String and returns its placeholder.
func (s Set) Text(name, value string) string {
	return s.add(name, "String", textEscaper.Replace(value))
}

// Texts adds an Array(String) and returns its placeholder.
func (s Set) Texts(name string, values []string) string {
	return s.add(name, "Array(String)", list(values, func(v string) string { return "'" + quotedEscaper.Replace(v) + "'" }))
}

// Int adds an Int64 and returns its placeholder.
func (s Set) Int(name string, value int64) string {
	return s.add(name, "Int64", strconv.FormatInt(value, 10))
}

// Uint adds a UInt64 and returns its placeholder.
func (s Set) Uint(name string, value uint64) string {
	return s.add(name, "UInt64", strconv.FormatUint(value, 10))
}

// Uints adds an Array(UInt64) and returns its placeholder.
func (s Set) Uints(name string, values []uint64) string {
	return s.add(name, "Array(UInt64)", list(values, func(v uint64) string { return strconv.FormatUint(v, 10) }))
}

// Ints adds an Array(Int64) and returns its placeholder.
func (s Set) Ints(name string, values []int64) string {
	return s.add(name, "Array(Int64)", list(values, func(v int64) string { return strconv.FormatInt(v, 10) }))
}

// IntLists adds an Array(Array(Int64)) and returns its placeholder.
func (s Set) IntLists(name string, values [][]int64) string {
	return s.add(name, "Array(Array(Int64))", list(values, func(v []int64) string {
		return list(v, func(v int64) string { return strconv.FormatInt(v, 10) })
	}))
}

// UUIDs adds an Array(UUID) and returns its placeholder.
func (s Set) UUIDs(name string, values []uuid.UUID) string {
	return s.add(name, "Array(UUID)", list(values, func(v uuid.UUID) string { return "'" + v.String() + "'" }))
}

// Addresses adds an Array(IPv6) and returns its placeholder. IPv4 addresses
// are mapped into IPv6.
func (s Set) Addresses(name string, values []netip.Addr) string {
	return s.add(name, "Array(IPv6)", list(values, func(v netip.Addr) string { return "'" + netip.AddrFrom16(v.As16()).String() + "'" }))
}

// list writes the elements of an array.
func list[T any](values []T, text func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = text(v)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// add panics when a name is given two values: two parts of a statement would
// silently share one.
func (s Set) add(name, typ, value string) string {
	if old, ok := s[name]; ok && old != value {
		panic(fmt.Sprintf("param: two values for %q", name))
	}
	s[name] = value
	return "{" + name + ":" + typ + "}"
}

// textEscaper writes a whole value as ClickHouse's TSV escapes: that is how
// a String parameter is read.
var textEscaper = strings.NewReplacer(
	`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`,
)

// quotedEscaper writes a value inside quotes, as elements of arrays are read.
var quotedEscaper = strings.NewReplacer(
	`\`, `\\`, `'`, `\'`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`,
)
