// Package param carries values beside SQL: a condition names a parameter,
// {name:Type}, and the value travels apart from the text, so that no value
// can change what a statement means.
package param

import (
	"fmt"
	"strconv"
	"strings"
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
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\'')
		b.WriteString(quotedEscaper.Replace(v))
		b.WriteByte('\'')
	}
	b.WriteByte(']')
	return s.add(name, "Array(String)", b.String())
}

// Int adds an Int64 and returns its placeholder.
func (s Set) Int(name string, value int64) string {
	return s.add(name, "Int64", strconv.FormatInt(value, 10))
}

// Ints adds an Array(Int64) and returns its placeholder.
func (s Set) Ints(name string, values []int64) string {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, v, 10)
	}
	return s.add(name, "Array(Int64)", string(append(b, ']')))
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
