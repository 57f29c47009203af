package query

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

func ptr[T any](v T) *T { return &v }

// told is the status and the violated fields of a parse error.
func told(err error) string {
	e := problem.From(err)
	if e == nil {
		return "ok"
	}
	s := strconv.Itoa(e.HTTPStatus())
	for _, v := range e.Violations {
		s += " " + v.Field
	}
	return s
}

// parseSearch reads a search request as search does.
func parseSearch(body []byte) (req searchRequest, err error) {
	req.asked, err = parseAsked(body, searchMembers, req.read)
	return req, err
}

func between(start, end *int64) asked {
	return asked{of: field.Events, filter: sqlgen.Filter{Start: start, End: end}}
}

func TestParseSearchAccepts(t *testing.T) {
	for _, c := range []struct {
		body string
		want searchRequest
	}{
		{``, searchRequest{pageSize: 10}},
		{`{}`, searchRequest{pageSize: 10}},
		{" {\n} ", searchRequest{pageSize: 10}},
		{`{"pageNumber":3,"pageSize":200}`, searchRequest{pageNumber: 3, pageSize: 200}},
		{`{"pageNumber":"100","pageSize":"1"}`, searchRequest{pageNumber: 100, pageSize: 1}},
		{`{"pageNumber":5.0,"pageSize":2e1}`, searchRequest{pageNumber: 5, pageSize: 20}},
		{`{"pageNumber":null,"pageSize":null,"qql":null,"startDate":null,"endDate":null,"customerUuid":null,"userUuid":null}`, searchRequest{pageSize: 10}},
		{`{"pageNumber":"","pageSize":"","qql":"","startDate":"","endDate":"","customerUuid":"","userUuid":""}`, searchRequest{pageSize: 10}},
		{`{"qql":"  "}`, searchRequest{pageSize: 10}},
		{`{"startDate":1650444199730}`, searchRequest{pageSize: 10, asked: between(ptr[int64](1650444199730), nil)}},
		{`{"endDate":"1650444199730"}`, searchRequest{pageSize: 10, asked: between(nil, ptr[int64](1650444199730))}},
		{`{"startDate":0,"endDate":1.65044419973e12}`, searchRequest{pageSize: 10, asked: between(ptr[int64](0), ptr[int64](1650444199730))}},
		{`{"startDate":5000000000000,"endDate":5000000000000}`, searchRequest{pageSize: 10, asked: between(ptr[int64](5e12), ptr[int64](5e12))}},
		{`{"startDate":-100000000000,"endDate":10413791999999}`, searchRequest{pageSize: 10, asked: between(ptr[int64](-1e11), ptr[int64](sqlgen.MaxInstant))}},
		{`{"customerUuid":"c","userUuid":"\u0075"}`, searchRequest{pageSize: 10, asked: asked{customerUUID: ptr("c"), userUUID: ptr("u")}}},
	} {
		got, err := parseSearch([]byte(c.body)[:len(c.body):len(c.body)])
		if len(c.body) == 0 {
			got, err = parseSearch(nil)
		}
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		c.want.of = field.Events
		if d := cmp.Diff(got, c.want, cmp.AllowUnexported(searchRequest{}, asked{}, cursor{})); d != "" {
			t.Errorf("%s (-got +want)\n%s", c.body, d)
		}
	}
}

func TestParseSearchRefuses(t *testing.T) {
	long := strings.Repeat("é", 501)
	for body, want := range map[string]string{
		`{`:                               "400",
		`[]`:                              "400",
		`null`:                            "400",
		`"x"`:                             "400",
		`{} {}`:                           "400",
		`{}x`:                             "400",
		"{\"qql\":\"\xff\"}":              "400",
		`{"pageNumber":}`:                 "400",
		`{"pageNumber":01}`:               "400",
		`{"pageNumber":-1}`:               "400 pageNumber",
		`{"pageNumber":101}`:              "400 pageNumber",
		`{"pageNumber":1.5}`:              "400 pageNumber",
		`{"pageNumber":true}`:             "400 pageNumber",
		`{"pageNumber":[1]}`:              "400 pageNumber",
		`{"pageNumber":" "}`:              "400 pageNumber",
		`{"pageNumber":" 1"}`:             "400 pageNumber",
		`{"pageNumber":"+1"}`:             "400 pageNumber",
		`{"pageNumber":"0x1"}`:            "400 pageNumber",
		`{"pageNumber":"1e-1"}`:           "400 pageNumber",
		`{"pageNumber":1e999999999}`:      "400 pageNumber",
		`{"pageNumber":1e-999999999}`:     "400 pageNumber",
		`{"pageSize":0}`:                  "400 pageSize",
		`{"pageSize":201}`:                "400 pageSize",
		`{"startDate":1650444199}`:        "400 startDate",
		`{"endDate":-1}`:                  "400 endDate",
		`{"endDate":"99999999999"}`:       "400 endDate",
		`{"endDate":1736942490000000}`:    "400 endDate",
		`{"endDate":9223372036854775808}`: "400 endDate",
		`{"startDate":"2022-04-20"}`:      "400 startDate",
		`{"startDate":2000000000000,"endDate":1000000000000}`: "400 startDate",
		`{"qql":5}`:              "400 qql",
		`{"qql":"` + long + `"}`: "400 qql",
		`{"customerUuid":7}`:     "400 customerUuid",
		`{"userUuid":"` + strings.Repeat("x", 65) + `"}`: "400 userUuid",
		`{"pagesize":5}`:                      "400 pagesize",
		`{"x":1,"y":{"z":[]}}`:                "400 x y",
		`{"pageSize":5,"pageSize":6}`:         "400 pageSize",
		`{"pageSize":null,"page\u0053ize":6}`: "400 pageSize",
		`{"pageSize":0,"pageNumber":-1,"u":1,"qql":5,"startDate":1,"endDate":"x","customerUuid":0,"userUuid":1}`: "400 u pageNumber pageSize qql startDate endDate customerUuid userUuid",
	} {
		_, err := parseSearch([]byte(body))
		if got := told(err); got != want {
			t.Errorf("%.80s: got %q, want %q", body, got, want)
		}
	}
}

func TestSecondsAreToldInMilliseconds(t *testing.T) {
	_, err := parseSearch([]byte(`{"startDate":"1650444199"}`))
	want := []problem.Violation{{
		Field: "startDate", Value: "1650444199", Limit: "milliseconds since 1970-01-01 UTC",
		Message: "looks like seconds; in milliseconds it is 1650444199000",
	}}
	if d := cmp.Diff(problem.From(err).Violations, want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

func TestUnknownMemberSuggestsTheRightCase(t *testing.T) {
	_, err := parseSearch([]byte(`{"PageSize":1,"limit":1}`))
	v := problem.From(err).Violations
	if len(v) != 2 || !strings.Contains(v[0].Message, "did you mean pageSize") || !strings.Contains(v[1].Message, strings.Join(append(searchMembers, askedMembers...), ", ")) {
		t.Errorf("got %+v", v)
	}
}

func TestViolationsAreBounded(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"a":1`)
	for i := range 5000 {
		fmt.Fprintf(&b, `,"x%d":1`, i)
	}
	b.WriteByte('}')
	_, err := parseSearch(b.Bytes())
	if n := len(problem.From(err).Violations); n != maxViolations {
		t.Errorf("told %d violations", n)
	}
}

func TestReadBody(t *testing.T) {
	for _, c := range []struct {
		body, media, encoding, want string
	}{
		{"", "", "", "ok"},
		{"", "text/plain", "", "ok"},
		{" \n", "", "", "ok"},
		{"{}", "application/json", "", "ok"},
		{"{}", "Application/JSON; charset=UTF-8", "identity", "ok"},
		{"{}", "", "", "415"},
		{"{}", "text/plain", "", "415"},
		{"{}", "application/json; charset=latin1", "", "415"},
		{"{}", "application/json", "gzip", "415"},
		{strings.Repeat(" ", maxBody), "application/json", "", "ok"},
		{strings.Repeat(" ", maxBody+1), "application/json", "", "413"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
		if c.media != "" {
			r.Header.Set("Content-Type", c.media)
		}
		r.Header.Set("Content-Encoding", c.encoding)
		_, err := readBody(httptest.NewRecorder(), r)
		if got := told(err); got != c.want {
			t.Errorf("%.10q %q %q: got %s, want %s", c.body, c.media, c.encoding, got, c.want)
		}
	}
}

func TestParseWholeIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		zeros := rapid.IntRange(0, 5).Draw(t, "zeros")
		forms := []string{
			strconv.FormatInt(n, 10),
			strconv.FormatInt(n, 10) + "." + strings.Repeat("0", zeros+1),
			strconv.FormatInt(n, 10) + strings.Repeat("0", zeros) + "e-" + strconv.Itoa(zeros),
			strconv.FormatInt(n, 10) + "." + strings.Repeat("0", zeros+1) + "E+0",
		}
		s := rapid.SampledFrom(forms).Draw(t, "form")
		if n == 0 && strings.Contains(s, "0"+strings.Repeat("0", zeros)+"e-") && zeros > 0 {
			return // 00e-1 is not JSON
		}
		got, err := parseWhole(s)
		if err != nil || got != n {
			t.Fatalf("parseWhole(%q) = %d, %v", s, got, err)
		}
	})
	for s, want := range map[string]error{
		"0.5": strconv.ErrSyntax, "10e-2": strconv.ErrSyntax, "1e19": strconv.ErrRange, "1e30": strconv.ErrRange,
		"-9223372036854775809": strconv.ErrRange, "": strconv.ErrSyntax, "1 ": strconv.ErrSyntax, "null": strconv.ErrSyntax,
	} {
		if _, err := parseWhole(s); !errors.Is(err, want) {
			t.Errorf("parseWhole(%q): %v, want %v", s, err, want)
		}
	}
}

func FuzzParseSearch(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"pageNumber":"1","pageSize":2e1,"qql":" ","startDate":1650444199730,"endDate":null,"customerUuid":"c","userUuid":"u"}`,
		`{"a":1,"a":2}`, `{"pageSize":1e-400}`, `[[[[`, "\x00", `{"qql":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseSearch(slices.Clone(body))
		if err != nil {
			e := problem.From(err)
			if e.Kind != problem.KindInvalid || len(e.Violations) > maxViolations {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if req.pageNumber < 0 || req.pageNumber > maxPageNumber || req.pageSize < 1 || req.pageSize > maxPageSize {
			t.Errorf("%q: %+v", body, req)
		}
		for _, ms := range []*int64{req.filter.Start, req.filter.End} {
			if ms != nil && *ms != 0 && *ms > -secondsBelow && *ms < secondsBelow {
				t.Errorf("%q: seconds accepted: %d", body, *ms)
			}
		}
	})
}
