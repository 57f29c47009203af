package native

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// shape says how a type's values lie in a column.
type shape uint8

const (
	shapeFixed    shape = iota // width bytes a value
	shapeString                // length and bytes
	shapeNullable              // a byte a value, then the values
	shapeArray                 // an offset a value, then the elements
	shapeTuple                 // one column an element
	shapeDict                  // LowCardinality: keys and indexes
	shapeJSON                  // as strings, after a version
)

// maxTypeDepth bounds nesting; real schemas stay below ten.
const maxTypeDepth = 100

// dataType is a parsed type name, reduced to what finding a column's end needs.
type dataType struct {
	shape shape
	width int // of shapeFixed, in bytes
	elems []*dataType
}

// UnsupportedTypeError names a column type that cannot be carried.
type UnsupportedTypeError struct{ Type string }

func (e *UnsupportedTypeError) Error() string {
	return fmt.Sprintf("type %s is not supported by the embedded engine's native protocol", e.Type)
}

var widths = map[string]int{
	"Nothing": 1, "Bool": 1, "UInt8": 1, "Int8": 1, "Enum8": 1,
	"UInt16": 2, "Int16": 2, "Enum16": 2, "Date": 2, "BFloat16": 2,
	"UInt32": 4, "Int32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "IPv4": 4, "Decimal32": 4, "Time": 4,
	"UInt64": 8, "Int64": 8, "Float64": 8, "DateTime64": 8, "Decimal64": 8, "Time64": 8,
	"UInt128": 16, "Int128": 16, "UUID": 16, "IPv6": 16, "Decimal128": 16,
	"UInt256": 32, "Int256": 32, "Decimal256": 32,
}

// aliases are types that print under their own name and lie as another.
var aliases = map[string]string{
	"Point":           "Tuple(Float64, Float64)",
	"Ring":            "Array(Point)",
	"LineString":      "Array(Point)",
	"Polygon":         "Array(Ring)",
	"MultiLineString": "Array(LineString)",
	"MultiPolygon":    "Array(Polygon)",
}

// Type names come from the wire too: what is kept of them is bounded in number
// and in size. Longer ones, such as large Enums, are parsed each time.
const (
	maxCachedTypes = 10_000
	maxCachedName  = 1 << 10
)

var typeCache = struct {
	sync.Mutex
	m map[string]*dataType
}{m: map[string]*dataType{}}

// parseType parses a type name as ClickHouse prints it. The error is an
// *UnsupportedTypeError with the innermost name at fault.
func parseType(name string) (*dataType, error) {
	if len(name) > maxCachedName {
		return parseNested(name, 0)
	}
	typeCache.Lock()
	t := typeCache.m[name]
	typeCache.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := parseNested(name, 0)
	if err != nil {
		return nil, err
	}
	typeCache.Lock()
	defer typeCache.Unlock()
	if len(typeCache.m) >= maxCachedTypes {
		clear(typeCache.m)
	}
	typeCache.m[name] = t
	return t, nil
}

func parseNested(name string, depth int) (*dataType, error) {
	name = strings.TrimSpace(name)
	bad := &UnsupportedTypeError{Type: name}
	if name == "" || depth > maxTypeDepth {
		return nil, bad
	}
	base, inner := name, ""
	if open := strings.IndexByte(name, '('); open > 0 {
		if name[len(name)-1] != ')' {
			return nil, bad
		}
		base, inner = name[:open], name[open+1:len(name)-1]
	}
	if w, ok := widths[base]; ok {
		return &dataType{shape: shapeFixed, width: w}, nil
	}
	if as, ok := aliases[base]; ok {
		return parseNested(as, depth+1)
	}
	if strings.HasPrefix(base, "Interval") {
		return &dataType{shape: shapeFixed, width: 8}, nil
	}
	args := splitArgs(inner)
	switch base {
	case "String":
		return &dataType{shape: shapeString}, nil
	case "FixedString":
		n, err := strconv.Atoi(inner)
		if err != nil || n <= 0 || n > maxFixedString {
			return nil, bad
		}
		return &dataType{shape: shapeFixed, width: n}, nil
	case "Decimal":
		if len(args) == 0 {
			return nil, bad
		}
		p, err := strconv.Atoi(args[0])
		if err != nil || p < 1 || p > 76 {
			return nil, bad
		}
		return &dataType{shape: shapeFixed, width: decimalWidth(p)}, nil
	case "Nullable":
		return parseOne(shapeNullable, inner, depth, bad)
	case "Array":
		return parseOne(shapeArray, inner, depth, bad)
	case "LowCardinality":
		t, err := parseOne(shapeDict, inner, depth, bad)
		if err == nil && t.elems[0].shape == shapeNullable {
			t.elems[0] = t.elems[0].elems[0] // the dictionary holds plain values; NULL is key 0
		}
		return t, err
	case "Map", "Nested":
		t, err := parseMany(args, depth, bad)
		if err != nil || (base == "Map" && len(t.elems) != 2) {
			return nil, firstError(err, bad)
		}
		return &dataType{shape: shapeArray, elems: []*dataType{t}}, nil
	case "Tuple":
		if len(args) == 0 {
			return &dataType{shape: shapeFixed, width: 1}, nil // an empty tuple is a byte
		}
		return parseMany(args, depth, bad)
	case "SimpleAggregateFunction":
		if len(args) < 2 {
			return nil, bad
		}
		return parseNested(args[1], depth+1)
	case "JSON":
		return &dataType{shape: shapeJSON}, nil
	}
	return nil, bad
}

// maxFixedString is ClickHouse's own limit.
const maxFixedString = 0xffffff

func decimalWidth(precision int) int {
	switch {
	case precision <= 9:
		return 4
	case precision <= 18:
		return 8
	case precision <= 38:
		return 16
	}
	return 32
}

func firstError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func parseOne(s shape, inner string, depth int, bad error) (*dataType, error) {
	if inner == "" {
		return nil, bad
	}
	t, err := parseNested(inner, depth+1)
	if err != nil {
		return nil, err
	}
	return &dataType{shape: s, elems: []*dataType{t}}, nil
}

func parseMany(args []string, depth int, bad error) (*dataType, error) {
	if len(args) == 0 {
		return nil, bad
	}
	t := &dataType{shape: shapeTuple}
	for _, a := range args {
		e, err := parseNested(dropName(a), depth+1)
		if err != nil {
			return nil, err
		}
		t.elems = append(t.elems, e)
	}
	return t, nil
}

// splitArgs cuts at the commas that are outside parentheses and quotes.
func splitArgs(s string) []string {
	var out []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\'', '`', '"':
			i = skipQuoted(s, i) - 1
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, strings.TrimSpace(s[start:i]))
				start = i + 1
			}
		}
	}
	if rest := strings.TrimSpace(s[start:]); rest != "" || len(out) > 0 {
		out = append(out, rest)
	}
	return out
}

// skipQuoted returns the index after the quoted text that starts at i, or
// len(s) when it does not end.
func skipQuoted(s string, i int) int {
	quote := s[i]
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case quote:
			return i + 1
		}
	}
	return len(s)
}

// dropName takes the name off a tuple element: "a String" is "String".
func dropName(s string) string {
	if s == "" {
		return s
	}
	if s[0] == '`' || s[0] == '"' {
		return strings.TrimSpace(s[skipQuoted(s, 0):])
	}
	for i := range len(s) {
		switch s[i] {
		case '(', '\'':
			return s
		case ' ':
			return strings.TrimSpace(s[i+1:])
		}
	}
	return s
}

// CheckType tells whether columns of a type can be carried. The error is an
// *UnsupportedTypeError.
func CheckType(name string) error {
	_, err := parseType(name)
	return err
}
