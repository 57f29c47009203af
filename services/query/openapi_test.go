package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/content"
	validation "github.com/pb33f/libopenapi-validator/errors"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/settings"
)

// document is openapi.json as a library that knows OpenAPI reads it. What it
// does not declare is not allowed.
var document = sync.OnceValue(func() validator.Validator {
	doc, err := libopenapi.NewDocument(openAPI)
	if err != nil {
		panic(err)
	}
	v, errs := validator.NewValidator(doc, config.WithStrictMode(), config.WithFormatAssertions(),
		config.WithStrictIgnoredHeadersExtra(slices.Concat([]string{"X-Content-Type-Options", "X-Request-Id"}, limitHeaders)...),
		config.WithStrictIgnorePaths("$.body.**extra.**", "$.body.**before.**", "$.body.**after.**", "$.body[*].extra.**", "$.body[*].changes[*].**",
			// Names of APIs and of states.
			"$.body.override.apis.**", "$.body.apis.**", "$.body.states.**", "$.body.buckets[*].states.**"),
		config.WithBodyDecoder("application/jsonl", content.DecoderFunc(readLines)))
	if len(errs) > 0 {
		panic(fmt.Sprint(errs))
	}
	return v
})

// limitHeaders are on every answer of a call that was counted: the document says
// it once, and declares them where a limit blocks.
var limitHeaders = []string{"X-Ratelimit-Limit", "X-Ratelimit-Window-Sec", "X-Ratelimit-Remaining", "X-Ratelimit-Towait-Sec", "X-Concurrency-Limit-Limit", "X-Concurrency-Limit-Running"}

// readLines makes a list of JSON Lines.
func readLines(in *content.DecodeInput) (any, error) {
	all := []any{}
	for dec := json.NewDecoder(in.Body); dec.More(); {
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func TestTheDocumentIsOpenAPI(t *testing.T) {
	if ok, errs := document().ValidateDocument(); !ok {
		t.Error(words(errs))
	}
}

func words(errs []*validation.ValidationError) string {
	var b strings.Builder
	for _, e := range errs {
		fmt.Fprintf(&b, "%s: %s\n", e.Message, e.Reason)
		for _, s := range e.SchemaValidationErrors {
			fmt.Fprintf(&b, "  %s: %s\n", s.KeywordLocation, s.Reason)
		}
	}
	return b.String()
}

// conform holds a request and its answer to the document. Requests that are
// refused need not conform.
func conform(t testing.TB, r *http.Request, body string, w *httptest.ResponseRecorder) {
	t.Helper()
	if _, known := operationsMux().Handler(r); known == "" || r.URL.Path == openAPIPath {
		return // no such operation: 404 and 405 are said once, for all paths
	}
	v := document()
	r.Body = io.NopCloser(strings.NewReader(body))
	if w.Code < 300 {
		if ok, errs := v.ValidateHttpRequestSync(r); !ok {
			t.Errorf("%s %s: the request is served and not in the document\n%s\n%s", r.Method, r.URL.Path, body, words(errs))
		}
	}
	resp := w.Result()
	defer func() { _ = resp.Body.Close() }()
	resp.Body = io.NopCloser(bytes.NewReader(w.Body.Bytes()))
	if ok, errs := v.ValidateHttpResponse(r, resp); !ok {
		t.Errorf("%s %s: the answer is not in the document\n%d %s\n%s", r.Method, r.URL.Path, w.Code, w.Body, words(errs))
	}
}

// operationsMux knows the document's operations.
var operationsMux = sync.OnceValue(func() *http.ServeMux {
	mux := http.NewServeMux()
	for _, o := range operations() {
		mux.Handle(o, http.NotFoundHandler())
	}
	return mux
})

// operations lists "POST /path" of the document, sorted.
func operations() []string {
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		panic(err)
	}
	var all []string
	for path, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				all = append(all, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestTheDocumentListsEveryRoute compares it with the route table, both ways.
func TestTheDocumentListsEveryRoute(t *testing.T) {
	routes := []string{"GET " + openAPIPath}
	for _, e := range new(Service).endpoints() {
		routes = append(routes, e.method+" "+e.path)
	}
	slices.Sort(routes)
	if d := cmp.Diff(operations(), routes); d != "" {
		t.Errorf("(-openapi.json +routes.go)\n%s", d)
	}
}

// at returns what stands at a path of the document.
func at(t *testing.T, path ...string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(openAPI, &v); err != nil {
		t.Fatal(err)
	}
	for i, name := range path {
		m, ok := v.(map[string]any)
		if !ok || m[name] == nil {
			t.Fatalf("openapi.json has no %s", strings.Join(path[:i+1], "/"))
		}
		v = m[name]
	}
	return v
}

// TestTheDocumentNamesTheLimits holds its numbers to the constants.
func TestTheDocumentNamesTheLimits(t *testing.T) {
	number := func(schema any) map[string]any { return schema.(map[string]any)["anyOf"].([]any)[0].(map[string]any) }
	of := func(name string) any { return at(t, "components", "schemas", "SearchRequest", "properties", name) }
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"pageNumber", number(of("pageNumber"))["maximum"], maxPageNumber},
		{"pageSize", number(of("pageSize"))["maximum"], maxPageSize},
		{"qql", at(t, "components", "schemas", "QQL", "maxLength"), qql.MaxLength},
		{"ids", at(t, "components", "schemas", "OwnID", "maxLength"), identity.MaxID},
		{"records", at(t, "components", "schemas", "SearchAnswer", "properties", "auditRecords", "maxItems"), maxPageSize},
		{"filters", at(t, "components", "schemas", "Where", "maxItems"), qql.MaxFilters},
		{"values of a filter", at(t, "components", "schemas", "Where", "items", "properties", "value", "maxItems"), qql.MaxFilterValues},
		{"characters of a value", at(t, "components", "schemas", "Where", "items", "properties", "value", "maxLength"), qql.MaxFilterValue},
		{"facets", at(t, "components", "schemas", "FacetsRequest", "properties", "fields", "maxItems"), maxFacets},
		{"values of a facet", number(at(t, "components", "schemas", "FacetsRequest", "properties", "size"))["maximum"], maxFacetSize},
		{"buckets", at(t, "components", "schemas", "HistogramAnswer", "properties", "buckets", "maxItems"), maxBuckets},
		{"searchAfter", at(t, "components", "schemas", "SearchRequest", "properties", "searchAfter", "maxLength"), maxCursor},
		{"intervals", strings.Trim(fmt.Sprint(at(t, "components", "schemas", "HistogramAnswer", "properties", "interval", "enum")), "[]"), strings.ReplaceAll(strings.TrimPrefix(intervalNames, "auto, "), ", ", " ")},
		{"days", at(t, "components", "schemas", "SettingsChange", "properties", "retentionDays", "maximum"), settings.MaxRetentionDays},
		{"timeframes", at(t, "components", "schemas", "Settings", "properties", "defaultTimeframeDays", "enum"), settings.Timeframes},
		{"columns", at(t, "components", "schemas", "ExportRequest", "properties", "columns", "maxItems"), len(field.Events.Fields)},
		{"name of a report", at(t, "components", "schemas", "ReportRequest", "properties", "reportName", "maxLength"), report.MaxName},
		{"summary of a report", at(t, "components", "schemas", "ReportRequest", "properties", "reportSummary", "maxLength"), report.MaxSummary},
		{"columns of a report", at(t, "components", "schemas", "ReportRequest", "properties", "reportColumns", "maxItems"), len(reportColumns)},
		{"keys of a report", at(t, "components", "schemas", "ReportRequest", "properties", "filters", "properties", "fields", "maxItems"), len(reportKeys)},
		{"states of a report", at(t, "components", "schemas", "ReportState", "enum"), report.States},
		{"formats of a report", at(t, "components", "schemas", "Report", "properties", "format", "enum"), reportFormats},
		{"compressions of a report", at(t, "components", "schemas", "Report", "properties", "compression", "enum"), reportCompressions},
		{"violations", at(t, "components", "schemas", "Problem", "properties", "errors", "maxItems"), maxViolations},
	} {
		if fmt.Sprint(c.got) != fmt.Sprint(c.want) {
			t.Errorf("%s: openapi.json says %v, the code %v", c.what, c.got, c.want)
		}
	}
	if got := at(t, "components", "responses", "TooLarge", "description"); !strings.Contains(got.(string), fmt.Sprintf("%d KiB", maxBody>>10)) {
		t.Errorf("the limit of a body: %s", got)
	}
}

// TestTheDocumentNamesTheFields holds its records to the table of fields.
func TestTheDocumentNamesTheFields(t *testing.T) {
	var names, always []string
	for _, f := range field.Events.Fields {
		names = append(names, f.Name)
		if f.Always {
			always = append(always, f.Name)
		}
	}
	var got []string
	for name := range at(t, "components", "schemas", "Record", "properties").(map[string]any) {
		got = append(got, name)
	}
	slices.Sort(got)
	if d := cmp.Diff(got, slices.Sorted(slices.Values(names))); d != "" {
		t.Errorf("members (-openapi.json +fields)\n%s", d)
	}
	if d := cmp.Diff(fmt.Sprint(at(t, "components", "schemas", "Record", "required")), fmt.Sprint(always)); d != "" {
		t.Errorf("required (-openapi.json +fields)\n%s", d)
	}
}

// TestTheDocumentNamesTheProblems holds its kinds to those of the code.
func TestTheDocumentNamesTheProblems(t *testing.T) {
	var want []any
	for k := problem.KindInternal; k <= problem.KindUnavailable; k++ {
		want = append(want, "urn:auditrail:problem:"+k.String())
	}
	if d := cmp.Diff(at(t, "components", "schemas", "Problem", "properties", "type", "enum"), any(want)); d != "" {
		t.Errorf("(-openapi.json +kinds)\n%s", d)
	}
}

func TestTheDocumentIsServedToAnybody(t *testing.T) {
	b := newBench(t, away(t), nil)
	w := b.do(t, nil, "GET", openAPIPath, "")
	if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), openAPI) || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	if w := b.do(t, nil, "POST", openAPIPath, "{}"); w.Code != 405 || w.Header().Get("Allow") != "GET" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
}

// TestTheDocumentRefusesWhatTheServiceRefuses sends requests that break a
// limit: the schemas must refuse them too, and each limit's neighbour passes.
func TestTheDocumentRefusesWhatTheServiceRefuses(t *testing.T) {
	b := newBench(t, away(t), nil)
	for _, c := range []struct {
		path, body string
		ok         bool
	}{
		{searchPath, `{"pageNumber":100,"pageSize":200,"startDate":0,"endDate":null,"userUuid":""}`, true},
		{searchPath, `{"pageNumber":"7","pageSize":"","startDate":"1750000000000"}`, true},
		{searchPath, `{"pageNumber":101}`, false},
		{searchPath, `{"pageNumber":-1}`, false},
		{searchPath, `{"pageNumber":1.5}`, false},
		{searchPath, `{"pageNumber":"one"}`, false},
		{searchPath, `{"pageSize":0}`, false},
		{searchPath, `{"pageSize":201}`, false},
		{searchPath, `{"qql":"` + strings.Repeat("é", qql.MaxLength+1) + `"}`, false},
		{searchPath, `{"qql":1}`, false},
		{searchPath, `{"startDate":true}`, false},
		{searchPath, `{"customerUuid":"` + strings.Repeat("x", identity.MaxID+1) + `"}`, false},
		{searchPath, `{"pagesize":1}`, false},
		{searchPath, `[]`, false},
		{searchPath, `{"where":[{"field":"action","operator":"IS","value":"a"},{"field":"createdDate","operator":"between","value":[0,"1750000000000"]}]}`, true},
		{searchPath, `{"where":[{"field":"action","operator":"is"}]}`, false},
		{searchPath, `{"where":[{"field":"action","operator":"in","value":[]}]}`, false},
		{searchPath, `{"where":{}}`, false},
		{searchPath, `{"sort":{"field":"action","order":"DESC"},"view":"activity-log","searchAfter":""}`, true},
		{searchPath, `{"sort":{"field":"action","order":"down"}}`, false},
		{searchPath, `{"sort":{"order":"asc"}}`, false},
		{searchPath, `{"searchAfter":"` + strings.Repeat("A", maxCursor+1) + `"}`, false},
		{searchPath + "/facets", `{"fields":["action"],"size":100}`, true},
		{searchPath + "/facets", `{"fields":["action"],"size":101}`, false},
		{searchPath + "/facets", `{"fields":[]}`, false},
		{searchPath + "/facets", `{}`, false},
		{searchPath + "/histogram", `{"interval":"1d","timezone":"UTC","startDate":1750000000000,"endDate":1750000000000}`, true},
		{searchPath + "/histogram", `{"interval":"2d"}`, false},
		{exportPath, `{"format":"jsonl","columns":["id","action"],"view":"activity-log","startDate":0}`, true},
		{exportPath, `{"format":"","timezone":"Europe/Berlin","columns":null,"view":null}`, true},
		{exportPath, `{"format":"xlsx"}`, false},
		{exportPath, `{"view":"all"}`, false},
		{exportPath, `{"columns":[]}`, false},
		{exportPath, `{"columns":[1]}`, false},
		{exportPath, `{"columns":["id"` + strings.Repeat(`,"id"`, len(field.Events.Fields)) + `]}`, false},
		{exportPath, `{"timezone":1}`, false},
		{exportPath, `{"pageSize":1}`, false},
	} {
		// What passes the rules meets a store that is away.
		w := b.do(t, &manager, "POST", c.path, c.body)
		if (w.Code == 503) != c.ok {
			t.Errorf("%s %.80s: the service answers %d %s", c.path, c.body, w.Code, w.Body)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer x")
		if ok, errs := document().ValidateHttpRequestSync(r); ok != c.ok {
			t.Errorf("%s %.80s: the document says %v\n%s", c.path, c.body, ok, words(errs))
		}
	}
}
