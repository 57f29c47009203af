package query

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Parameters of GET /audit-log/admin/report; of those in listLists one of the
// values must hold.
var (
	listParameters = []string{"reportName", "startDate", "endDate", "sort", "pageNumber", "pageSize"}
	listLists      = []string{"state", "format", "requester"}
)

// listSorts are what reports may be sorted by.
var listSorts = []struct {
	name    string
	compare func(a, b *reportStatus) int
}{
	{"reportId", func(a, b *reportStatus) int { return cmp.Compare(a.ReportID, b.ReportID) }},
	{"createdDate", func(a, b *reportStatus) int { return cmp.Compare(a.Created, b.Created) }},
	{"endedDate", func(a, b *reportStatus) int { return cmp.Compare(orZero(a.Ended), orZero(b.Ended)) }},
	{"reportName", func(a, b *reportStatus) int { return cmp.Compare(qql.Fold(a.Name), qql.Fold(b.Name)) }},
	{"state", func(a, b *reportStatus) int {
		return cmp.Compare(slices.Index(report.States, a.State), slices.Index(report.States, b.State))
	}},
	{"userName", func(a, b *reportStatus) int { return cmp.Compare(qql.Fold(a.UserName), qql.Fold(b.UserName)) }},
	{"rows", func(a, b *reportStatus) int { return cmp.Compare(a.Rows, b.Rows) }},
	{"bytes", func(a, b *reportStatus) int { return cmp.Compare(a.Bytes, b.Bytes) }},
}

func orZero(ms *int64) int64 {
	if ms == nil {
		return 0
	}
	return *ms
}

// listRequest is which reports are asked for.
type listRequest struct {
	states, formats, requesters []string // folded; nil: any
	name                        string   // folded; a part of it
	start, end                  *int64
	compare                     func(a, b *reportStatus) int
	pageNumber, pageSize        int64
}

// readList reads the parameters. The error tells every broken rule.
func readList(r *http.Request) (req listRequest, err error) {
	f, err := readParameters(r, field.Events, listParameters, listLists)
	if err != nil {
		return req, err
	}
	req.states = choices(f, "state", report.States)
	req.formats = choices(f, "format", reportFormats)
	req.requesters = choices[string](f, "requester", nil)
	if text, ok := f.short("reportName", report.MaxName); ok {
		req.name = qql.Fold(text)
	}
	req.start, req.end = f.dateRange()
	req.compare = f.listSort()
	req.pageNumber, req.pageSize = f.page()
	return req, f.err()
}

// choices reads a list of texts, folded. They must be among values, in any case,
// where there are some.
func choices[T ~string](f *form, name string, values []T) (folded []string) {
	elements, _ := f.list(name, qql.MaxFilterValues)
	for _, raw := range elements {
		value := unquote(raw)
		if values != nil && !slices.ContainsFunc(values, func(v T) bool { return strings.EqualFold(string(v), value) }) {
			f.violate(oneOfThese(name, value, values))
		}
		folded = append(folded, qql.Fold(value))
	}
	return folded
}

// listSort reads the parameter sort: a name, and asc (the default) or desc behind
// a colon. nil: newest first.
func (f *form) listSort() func(a, b *reportStatus) int {
	text, ok := f.text("sort")
	if !ok {
		return nil
	}
	name, order, _ := strings.Cut(text, ":")
	var names []string
	var by func(a, b *reportStatus) int
	for _, s := range listSorts {
		if names = append(names, s.name); strings.EqualFold(s.name, name) {
			by = s.compare
		}
	}
	if by == nil {
		f.violate(oneOfThese("sort", name, names))
	}
	switch strings.ToLower(order) {
	case "", "asc":
		return by
	case "desc":
		return func(a, b *reportStatus) int { return by(b, a) }
	}
	f.violate(problem.Violation{Field: "sort", Value: problem.Shorten(order), Limit: "asc or desc", Message: "must be asc or desc behind the colon, as in reportName:desc"})
	return nil
}

// page reads which page is asked for.
func (f *form) page() (number, size int64) {
	size = defaultPageSize
	if n, ok := f.number("pageNumber", 0, maxPageNumber); ok {
		number = n
	}
	if n, ok := f.number("pageSize", 1, maxPageSize); ok {
		size = n
	}
	return number, size
}

// keeps says whether a job is among those that are asked for.
func (req *listRequest) keeps(j *report.Job) bool {
	created := j.Created.UnixMilli()
	in := func(some []string, values ...string) bool {
		return some == nil || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(some, qql.Fold(v)) })
	}
	return in(req.states, string(j.State)) && in(req.formats, string(j.Spec.Format)) &&
		in(req.requesters, j.Spec.Requester.UserName, j.Spec.Requester.UserUUID) &&
		strings.Contains(qql.Fold(j.Spec.Name), req.name) &&
		(req.start == nil || created >= *req.start) && (req.end == nil || created <= *req.end)
}

// listReports answers GET /audit-log/admin/report: a page of the reports that the
// caller sees, newest first unless asked otherwise.
func (s *Service) listReports(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	req, err := readList(r)
	if err != nil {
		return err
	}
	if err := s.reports.opened(r.Context()); err != nil {
		return err
	}
	see := visibility.ForReports(id)
	jobs := s.reports.table.Sorted(func(j *report.Job) bool {
		return see.Sees(j.Spec.Requester.CustomerUUID, j.Spec.Requester.UserUUID) && req.keeps(j)
	})
	now := time.Now()
	all := make([]reportStatus, 0, len(jobs))
	for _, j := range slices.Backward(jobs) {
		all = append(all, s.status(j, now))
	}
	if req.compare != nil {
		slices.SortStableFunc(all, func(a, b reportStatus) int { return req.compare(&a, &b) })
	}
	from := min(req.pageNumber*req.pageSize, int64(len(all)))
	body, err := json.Marshal(struct {
		Reports    []reportStatus `json:"reports"`
		TotalCount int            `json:"totalCount"`
		PageNumber int64          `json:"pageNumber"`
		PageSize   int64          `json:"pageSize"`
	}{all[from:min(from+req.pageSize, int64(len(all)))], len(all), req.pageNumber, req.pageSize})
	if err != nil {
		return err
	}
	return writeJSON(w, body)
}
