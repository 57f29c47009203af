package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/report"
)

// Members of a report request: those of the seed's sample, then ours.
var (
	reportMembers = []string{
		"customerUuid", "userUuid", "userName", "reportName", "reportSummary", "reportColumns", "filters",
		"format", "compression", "timezone", "qql", "where",
	}
	reportFiltersMembers = []string{"fields", "startDate", "endDate"}
	reportFilterMembers  = []string{"key", "value", "operator"}
)

// maxReportValues is how many values a key of filters.fields may have.
const maxReportValues = 5

// moduleKey is the key that every request has, allModules its value for all.
const (
	moduleKey  = "moduleCode"
	allModules = "All"
)

// reportKeys are the keys of filters.fields.
var reportKeys = []string{moduleKey, "userName", "userRole", "targetType", "action"}

// reportColumns are the fields that may be a column: those of one value.
var reportColumns = slices.DeleteFunc(allOf(field.Events), func(f *field.Field) bool { return f.Type == field.JSON })

// What a report's file may be; the first is the default.
var (
	reportFormats      = []report.Format{report.CSV, report.JSONLines, report.Parquet}
	reportCompressions = []report.Compression{report.None, report.Gzip, report.Zstd}
)

// reportRequest is what POST /audit-log/admin/report asks for.
type reportRequest struct {
	asked
	name, summary string
	columns       []string // names of fields
	format        report.Format
	compression   report.Compression
	zone          *time.Location

	modules   []string // nil: all
	modulesAt string   // where they stand
}

// parseReport reads a request's body. The form has the rules that it breaks: the
// caller may find more. The error is of text that is no JSON object.
func parseReport(body []byte) (req reportRequest, f *form, err error) {
	if f, err = readForm(body, reportMembers); err != nil {
		return req, nil, err
	}
	if v, ok := f.id("customerUuid"); ok {
		req.customerUUID = &v
	}
	if v, ok := f.id("userUuid"); ok {
		req.userUUID = &v
	}
	f.userName()
	req.name = f.reportName()
	if f.required("reportSummary") {
		req.summary, _ = f.short("reportSummary", report.MaxSummary)
	}
	req.columns = f.reportColumns()
	req.output(f)
	req.fileName(f)
	req.of = f.of
	req.filters(f)
	return req, f, nil
}

// required says whether a member is given, and tells when it is not.
func (f *form) required(name string) bool {
	_, given := f.members[name]
	_, blank := f.blank[name]
	switch {
	case given:
	case blank:
		f.violate(problem.Violation{Field: name, Message: "must not be empty"})
	default:
		f.violate(problem.Violation{Field: name, Message: "is missing"})
	}
	return given
}

// userName reads the member of that name: the subscription's, says the seed, so it
// filters nothing. Some send the filter's list there.
func (f *form) userName() {
	raw, given := f.members["userName"]
	switch {
	case !given || raw.Kind() == '"':
	case raw.Kind() == '[':
		if elements, ok := f.list("userName", qql.MaxFilterValues); ok {
			f.names("userName", elements)
		}
	default:
		f.violate(problem.Violation{Field: "userName", Value: problem.Shorten(string(raw)), Message: "must be a string or a list of strings"})
	}
}

// reportName reads the name: it becomes a file's.
func (f *form) reportName() string {
	if !f.required("reportName") {
		return ""
	}
	name, ok := f.short("reportName", report.MaxName)
	if !ok {
		return ""
	}
	if strings.TrimSpace(name) == "" || strings.Trim(name, ".") == "" {
		f.violate(problem.Violation{Field: "reportName", Value: name, Message: "must be a name: a file is called so"})
	}
	if i := strings.IndexFunc(name, unfitForFile); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		f.violate(problem.Violation{
			Field: "reportName", Value: problem.Shorten(name), Limit: `no /, \ or control characters`,
			Message: fmt.Sprintf("has the character %q: a file is called so, which has no /, no \\ and no control characters", r),
		})
	}
	return name
}

// maxFileName is how long a name of a file may be, in bytes, on common systems.
const maxFileName = 255

// fileName tells when the name of the file would be too long.
func (req *reportRequest) fileName(f *form) {
	suffix := (&report.Spec{Format: req.format, Compression: req.compression}).Suffix()
	if n := len(req.name) + len(suffix); n > maxFileName {
		f.violate(problem.Violation{
			Field: "reportName", Value: problem.Shorten(req.name), Limit: fmt.Sprintf("%d bytes with %s", maxFileName, suffix),
			Message: fmt.Sprintf("is %d bytes long in UTF-8, with %s behind it; a name of a file has at most %d: shorten it by %d bytes", n, suffix, maxFileName, n-maxFileName),
		})
	}
}

// unfitForFile says what no name of a file has: what parts folders, and what
// hides or turns around what stands beside it.
func unfitForFile(r rune) bool {
	return r == '/' || r == '\\' || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// reportColumns reads the columns, by their titles as the seed has them or by
// the names of their fields, in any case.
func (f *form) reportColumns() (names []string) {
	if !f.required("reportColumns") {
		return nil
	}
	elements, ok := f.list("reportColumns", 2*len(reportColumns))
	if !ok {
		return nil
	}
	if len(elements) == 0 {
		f.violate(problem.Violation{Field: "reportColumns", Message: "must not be an empty list"})
	}
	titles := make([]string, len(reportColumns))
	for i, c := range reportColumns {
		titles[i] = c.Title
	}
	known := strings.Join(titles, ", ")
	for i, title := range f.names("reportColumns", elements) {
		at := fmt.Sprintf("reportColumns[%d]", i)
		n := slices.IndexFunc(reportColumns, func(c *field.Field) bool {
			return strings.EqualFold(c.Title, title) || strings.EqualFold(c.Name, title)
		})
		switch {
		case n < 0:
			f.violate(problem.Violation{Field: at, Value: problem.Shorten(title), Limit: known, Message: "is no column; there are " + known})
		case slices.Contains(names, reportColumns[n].Name):
			f.violate(problem.Violation{Field: at, Value: problem.Shorten(title), Message: "is given more than once"})
		default:
			names = append(names, reportColumns[n].Name)
		}
	}
	return names
}

// output reads what the file is to be.
func (req *reportRequest) output(f *form) {
	req.format = among(f, "format", reportFormats)
	req.compression = among(f, "compression", reportCompressions)
	if req.format == report.Parquet && req.compression != report.None {
		f.violate(problem.Violation{
			Field: "compression", Value: string(req.compression), Limit: string(report.None),
			Message: "does not go with format parquet, which compresses its columns itself",
		})
	}
	req.zone = f.zone("timezone")
	if _, given := f.members["timezone"]; given && req.format != report.CSV {
		f.violate(problem.Violation{Field: "timezone", Message: "goes with format csv only: the others have instants"})
	}
}

// among reads a member that is one of some texts; the first is the default.
func among[T ~string](f *form, name string, values []T) T {
	text, ok := f.text(name)
	switch {
	case !ok:
		return values[0]
	case slices.Contains(values, T(text)):
		return T(text)
	}
	f.violate(oneOfThese(name, text, values))
	return values[0]
}

// oneOfThese tells that a value is none of those that there are.
func oneOfThese[T ~string](name, value string, values []T) problem.Violation {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	all := strings.Join(names, ", ")
	return problem.Violation{Field: name, Value: problem.Shorten(value), Limit: all, Message: "must be one of " + all}
}

// filters reads which events the report is of: filters, qql and where, which
// must all hold.
func (req *reportRequest) filters(f *form) {
	var parts []qql.Expr
	if f.required("filters") {
		if inner, ok := f.object("filters", f.members["filters"], reportFiltersMembers); ok {
			parts = req.fields(inner)
			req.filter.Start, req.filter.End = inner.dateRange()
			if !inner.has("startDate") && !inner.has("endDate") {
				inner.violate(problem.Violation{Field: "startDate", Message: `is missing, and so is endDate: give one or both; "startDate": 0 asks for all that is kept`})
			}
			f.within("filters", inner)
		}
	}
	if x := f.condition(); x != nil {
		parts = append(parts, x)
	}
	req.filter.Where = both(parts)
}

func (f *form) has(name string) bool {
	_, given := f.members[name]
	return given
}

// fields reads filters.fields: the values of a key are alternatives, and of each
// key one must hold.
func (req *reportRequest) fields(f *form) (parts []qql.Expr) {
	elements, ok := f.list("fields", qql.MaxFilters)
	if !ok && f.has("fields") {
		return nil // told
	}
	seen := map[string]bool{}
	for i, raw := range elements {
		at := fmt.Sprintf("fields[%d]", i)
		inner, ok := f.object(at, raw, reportFilterMembers)
		if !ok {
			continue
		}
		key := inner.reportKey(seen)
		values := inner.reportValues(key)
		if text, ok := inner.text("operator"); ok && !strings.EqualFold(text, "AND") {
			inner.violate(problem.Violation{Field: "operator", Value: problem.Shorten(text), Limit: "AND", Message: "must be AND, or absent: keys combine with it, and the values of one key are alternatives"})
		}
		f.within(at, inner)
		if key == "" || len(inner.violations) > 0 {
			continue
		}
		if key == moduleKey {
			if req.modulesAt = "filters." + at + ".value"; strings.EqualFold(values[0], allModules) {
				continue
			}
			req.modules = values
		}
		x, errs := qql.FromFilters(f.of, []qql.Filter{{Field: key, Operator: "in", Values: values}})
		if err := errs[0]; err != nil {
			f.violate(problem.Violation{Field: at + ".value", Message: err.Error()})
			continue
		}
		parts = append(parts, x)
	}
	if !seen[moduleKey] {
		f.violate(problem.Violation{Field: "fields", Message: fmt.Sprintf(`has no key moduleCode: name 1 to %d modules, or "All"`, maxReportValues)})
	}
	return parts
}

// reportKey reads the key of one of filters.fields; empty when it is broken.
func (f *form) reportKey(seen map[string]bool) string {
	if !f.required("key") {
		return ""
	}
	text, ok := f.text("key")
	if !ok {
		return ""
	}
	n := slices.IndexFunc(reportKeys, func(k string) bool { return strings.EqualFold(k, text) })
	if n < 0 {
		f.violate(oneOfThese("key", text, reportKeys))
		return ""
	}
	key := reportKeys[n]
	if seen[key] {
		f.violate(problem.Violation{Field: "key", Value: problem.Shorten(text), Message: "is given more than once: put all of its values into one list"})
	}
	seen[key] = true
	return key
}

// reportValues reads the values of a key, each once.
func (f *form) reportValues(key string) (values []string) {
	if !f.required("value") {
		return nil
	}
	folded := map[string]bool{}
	for _, v := range f.values("value") {
		if at := qql.Fold(v); !folded[at] { // as they are compared
			folded[at] = true
			values = append(values, v)
		}
	}
	if n := len(values); n > maxReportValues {
		f.violate(problem.Violation{Field: "value", Limit: fmt.Sprint(maxReportValues), Message: fmt.Sprintf("has %d different values; the limit is %d", n, maxReportValues)})
	}
	if key == moduleKey && len(values) > 1 && folded[qql.Fold(allModules)] {
		f.violate(problem.Violation{Field: "value", Value: allModules, Message: "has All, which is every module, and others beside it: leave one or the others out"})
	}
	return values
}

// kept is a body as the table keeps it, to ask for the same again.
func kept(body []byte) (json.RawMessage, error) {
	v := jsontext.Value(slices.Clone(body))
	if err := v.Compact(); err != nil {
		return nil, errors.Join(errors.New("a body that was read is no JSON"), err)
	}
	return json.RawMessage(v), nil
}
