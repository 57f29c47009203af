package sqlgen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Shape is what the rows of a report are formatted as. ClickHouse does it: its
// output is the bytes of the file. Columns are those of field.Events that are
// titled and are no field.JSON, one at least.
type Shape interface {
	// format is ClickHouse's name of the format, with the settings that it needs.
	format() (name string, settings map[string]string)
	// list is what stands behind SELECT.
	list(columns []*field.Field, params param.Set) string
}

// ReportRows makes the statement for the rows of a report in a span, newest
// first, ties by id as in Rows. Statement.Output says how it must be asked.
func ReportRows(p visibility.Predicate, f Filter, pin Pin, span TimeSpan, columns []*field.Field, as Shape) Statement {
	params := param.Set{}
	s := Statement{
		// The columns are computed outside, and the order is of e: no alias of a
		// column meets a condition or the order.
		sql: "SELECT " + as.list(columns, params) + " FROM (SELECT " + columnsOf(field.Events, withOrder(columns)) +
			reported(p, f, pin, span, params) + ") AS e ORDER BY e.created_date DESC, toUInt128(e.id) DESC",
		params: params,
	}
	s.format, s.settings = as.format()
	return s
}

// withOrder adds the columns that the order needs.
func withOrder(columns []*field.Field) []*field.Field {
	all := slices.Clone(columns)
	for _, f := range []*field.Field{field.Events.Date, field.Events.ID} {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// CSV writes rows as RFC 4180 has them, ended by CRLF, without a header. Dates
// are ISO 8601 with milliseconds in Zone, nil for UTC. A text that a spreadsheet could take
// for a formula gets an apostrophe before it.
type CSV struct{ Zone *time.Location }

func (CSV) format() (string, map[string]string) {
	return "CSV", map[string]string{
		"output_format_csv_crlf_end_of_line": "1",
		"format_csv_delimiter":               ",",
		"date_time_output_format":            "iso", // of dates in UTC
	}
}

func (s CSV) list(columns []*field.Field, params param.Set) string {
	list := make([]string, len(columns))
	for i, f := range columns {
		switch f.Type {
		case field.Instant:
			list[i] = f.Column
			if s.Zone.String() != "UTC" {
				list[i] = zoned(f.Column, params.Text("zone", s.Zone.String()))
			}
		case field.Address:
			list[i] = plainAddress(f.Column)
		case field.Keyword, field.Opaque, field.Text:
			list[i] = unformula(f.Column)
		case field.UUID, field.Number:
			list[i] = f.Column
		case field.JSON:
			panic("sqlgen: no report has " + f.Name)
		}
	}
	return strings.Join(list, ", ")
}

// zoned writes a date with the offset of a time zone, Z for none.
func zoned(column, zone string) string {
	offset := "formatDateTime(" + column + ", '%z', " + zone + ")"
	return "concat(replaceOne(toString(" + column + ", " + zone + "), ' ', 'T'), if(" + offset + " = '+0000', 'Z', concat(substring(" +
		offset + ", 1, 3), ':', substring(" + offset + ", 4))))"
}

// plainAddress writes an address as Go does: IPv4 is not mapped, an absent one is
// empty, and ::1:2 does not become ::0.1.0.2.
func plainAddress(column string) string {
	text := "toString(" + column + ")"
	word := func(n string) string {
		return "replaceRegexpOne(lower(hex(reinterpretAsUInt16(reverse(substring(reinterpretAsFixedString(" + column + "), " + n + ", 2))))), '^0(.)', '\\\\1')"
	}
	return "multiIf(" + column + ofIPv4 + ", substring(" + text + ", 8), " + column + " = " + absent + ", '', " +
		column + " > toIPv6('::ffff') AND " + column + " < toIPv6('::1:0:0'), concat('::', " + word("13") + ", ':', " + word("15") + "), " + text + ")"
}

// unformula puts an apostrophe before a text that a spreadsheet might take for a
// formula. In a LowCardinality column the engine replaces once for each value of
// the dictionary, as long as it is one function of the column. In others the
// regular expression costs more than all else: texts that begin with a letter or
// a digit do not meet it.
func unformula(column string) string {
	guarded := "replaceRegexpOne(" + column + ", '" + formulas + "', '\\'\\\\1')"
	if !plainTexts[column] {
		return guarded
	}
	first := "ascii(" + column + ")"
	return "if(" + first + " BETWEEN 65 AND 122 OR " + first + " BETWEEN 48 AND 57, " + column + ", " + guarded + ")"
}

// plainTexts are the columns of texts that are not LowCardinality.
var plainTexts = map[string]bool{"target_name": true, "audit_comment": true, "external_change_link": true, "request_id": true}

// formulas is a regular expression, in SQL, of what such texts begin with: = + -
// @, a tab or a line end, or a wide form of them; spaces, invisible characters and
// apostrophes before that do not count. A dash alone is none.
var formulas = func() string {
	const signs = `=+@\\t\\r\\n\\x{FF1D}\\x{FF0B}\\x{FF0D}\\x{FF20}\\x{FE66}\\x{FE62}\\x{FE63}\\x{FE6B}\\x{2212}`
	skipped := class(unicode.White_Space, unicode.Cc, unicode.Cf) + `\'`
	return `(?s)^([` + skipped + `]*[` + signs + `]|[` + skipped + `]+-|-.)`
}()

// class is the inside of a character class. It is made of Go's tables, whatever
// Unicode the engine knows.
func class(tables ...*unicode.RangeTable) string {
	var b strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.In(r, tables...) {
			continue
		}
		first := r
		for unicode.In(r+1, tables...) {
			r++
		}
		fmt.Fprintf(&b, `\\x{%X}-\\x{%X}`, first, r)
	}
	return b.String()
}

// JSONLines writes the record of a search answer on each line.
type JSONLines struct{}

func (JSONLines) format() (string, map[string]string) {
	return "TSVRaw", map[string]string{ // a line is one text, and holds no line end
		"output_format_json_quote_64bit_integers":            "0",
		"output_format_json_escape_forward_slashes":          "0",
		"output_format_json_skip_null_value_in_named_tuples": "1",
		"output_format_json_named_tuples_as_objects":         "1",
		"output_format_tsv_crlf_end_of_line":                 "0",
	}
}

func (JSONLines) list(columns []*field.Field, _ param.Set) string {
	values, types := make([]string, len(columns)), make([]string, len(columns))
	for i, f := range columns {
		value, typ := f.Column, "String"
		switch f.Type {
		case field.Instant:
			value, typ = "toUnixTimestamp64Milli("+value+")", "Int64"
		case field.Number:
			typ = "UInt32"
		case field.Address:
			value = plainAddress(value)
		case field.UUID:
			typ = "UUID"
		case field.Keyword, field.Opaque, field.Text:
			value = "toValidUTF8(" + value + ")"
		case field.JSON:
			panic("sqlgen: no report has " + f.Name)
		}
		if !f.Always { // left out where it is empty
			value, typ = "nullIf("+value+", '')", "Nullable(String)"
		}
		values[i], types[i] = value, f.Name+" "+typ
	}
	return "toJSONString(CAST(tuple(" + strings.Join(values, ", ") + "), 'Tuple(" + strings.Join(types, ", ") + ")'))"
}

// Parquet writes a Parquet file of its own: texts for ids and addresses, numbers,
// and timestamps in milliseconds, in UTC.
type Parquet struct{}

// ParquetGroupRows is how many rows a row group has, about.
const ParquetGroupRows = 250_000

func (Parquet) format() (string, map[string]string) {
	return "Parquet", map[string]string{
		"output_format_parquet_string_as_string":   "1",
		"output_format_parquet_compression_method": "zstd",
		"output_format_parquet_row_group_size":     strconv.Itoa(ParquetGroupRows),
		// Both would hold offsets that do not survive when files are joined.
		"output_format_parquet_write_page_index":   "0",
		"output_format_parquet_write_bloom_filter": "0",
	}
}

func (Parquet) list(columns []*field.Field, _ param.Set) string {
	list := make([]string, len(columns))
	for i, f := range columns {
		value := f.Column
		switch f.Type {
		case field.UUID:
			value = "toString(" + value + ")"
		case field.Address:
			value = plainAddress(value)
		case field.Keyword, field.Opaque, field.Text:
			value = "toValidUTF8(" + value + ")"
		case field.Instant, field.Number:
		case field.JSON:
			panic("sqlgen: no report has " + f.Name)
		}
		list[i] = value + " AS " + f.Name
	}
	return strings.Join(list, ", ")
}
