package query

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/report"
)

// TestTheQueueHasItsLimit: one more is blocked, said so, and listed as a call that
// was; another subscription is not.
func TestTheQueueHasItsLimit(t *testing.T) {
	b := newReportBench(t, away(t), func(c *Config) { c.ReportQueued = 2 })
	first, other := b.submit(t, manager, smallReport).ReportID, manager
	other.CustomerUUID = "tenant-two"
	failed := b.submit(t, manager, smallReport).ReportID
	b.fail(t, failed)
	b.submit(t, manager, smallReport)
	b.submit(t, other, smallReport)

	const says = "2 reports of your subscription are queued; the limit is 2 (--report-queued)."
	for _, path := range []string{reportPath, reportAt(failed, "/rerun")} {
		body := ""
		if path == reportPath {
			body = smallReport
		}
		w := b.do(t, &manager, http.MethodPost, path, body)
		if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), says+" Wait until one has begun, or cancel one of yours; a Manager can cancel others'.") || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
	}
	if st := b.shows(t, manager, failed); st.State != report.StateFailed {
		t.Errorf("%+v", st)
	}
	blocked := slices.DeleteFunc(b.told(t, -1), func(c audit.APICall) bool { return c.API != report.API || c.State != audit.StateBlockedConcurrency })
	ids := map[string]bool{}
	for _, c := range blocked {
		ids[c.CallID] = true
		if c.Reason != says || c.UserName != "jack" || c.CustomerUUID != manager.CustomerUUID || c.SourceIP == "" || c.RequestID == "" {
			t.Errorf("%+v", c)
		}
	}
	if len(ids) != 2 || ids[b.shows(t, manager, failed).CallID] {
		t.Errorf("%d calls were blocked: %+v", len(ids), blocked)
	}
	b.audited(t, 8) // what was blocked is none
	b.claim(t, first)
	b.submit(t, manager, smallReport)
}

// TestARaceForTheLastPlaces: many at once, on two replicas, get exactly as many
// as there are; who gives way leaves nothing.
func TestARaceForTheLastPlaces(t *testing.T) {
	const most, crowd = 4, 16
	b := newReportBench(t, away(t), func(c *Config) { c.ReportQueued = most })
	second := b.replica(t)
	token := b.token(t, manager)
	codes := make([]int, crowd)
	var asking sync.WaitGroup
	for i := range crowd {
		asking.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, reportPath, strings.NewReader(smallReport))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			[]*Service{b.Service, second}[i%2].Handler().ServeHTTP(w, r)
			codes[i] = w.Code
		})
	}
	asking.Wait()
	slices.SortFunc(codes, cmp.Compare)
	want := slices.Concat(slices.Repeat([]int{200}, most), slices.Repeat([]int{429}, crowd-most))
	if !slices.Equal(codes, want) {
		t.Errorf("got %v", codes)
	}
	for i, s := range []*Service{b.Service, second} {
		if err := s.reports.table.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.reports.table.Jobs()); n != most {
			t.Errorf("replica %d has %d reports", i, n)
		}
	}
}

// replica is another service with the same Kafka, tokens and files.
func (b *bench) replica(t *testing.T) *Service {
	t.Helper()
	s, err := New(b.cfg, Deps{Log: zap.NewNop(), Ops: ops.New(zap.NewNop()), CallLimits: unlimited{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	until(t, "the second replica is ready", func() bool { return s.reports.ready(t.Context()) == nil && s.settings.ready(t.Context()) == nil })
	return s
}

// TestReportsAreListed: filtered, sorted and in pages.
func TestReportsAreListed(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	ann := manager
	ann.UserUUID, ann.Name = "u2", "Ann"
	var created []int64
	for i, c := range []struct{ name, format string }{{"Beta", "csv"}, {"alpha 1", "jsonl"}, {"Alpha 2", "parquet"}, {"gamma", "csv"}} {
		id := manager
		if i == 3 {
			id = ann
		}
		created = append(created, b.submit(t, id, changedReport(t, "reportName", `"`+c.name+`"`, "format", `"`+c.format+`"`)).CreatedDate)
		until(t, "the clock moves on", func() bool { return time.Now().UnixMilli() > created[i] })
	}
	b.finish(t, 2, []byte("123"))
	ended := b.reports.table.Job(2).Ended
	until(t, "the clock moves on", func() bool { return time.Since(ended) > time.Millisecond })
	b.fail(t, 1)
	for query, want := range map[string]string{
		"":                                       "4 3 2 1 of 4",
		"?state=failed&state=FINISHED":           "2 1 of 2",
		"?state=Queued":                          "4 3 of 2",
		"?format=csv":                            "4 1 of 2",
		"?requester=ANN":                         "4 of 1",
		"?requester=u1":                          "3 2 1 of 3",
		"?requester=u":                           " of 0",
		"?reportName=ALPHA":                      "3 2 of 2",
		"?reportName=":                           "4 3 2 1 of 4",
		"?sort=reportName":                       "2 3 1 4 of 4",
		"?sort=reportName:desc":                  "4 1 3 2 of 4",
		"?sort=REPORTID:asc":                     "1 2 3 4 of 4",
		"?sort=userName":                         "4 3 2 1 of 4",
		"?sort=state":                            "4 3 2 1 of 4",
		"?sort=bytes:DESC":                       "2 4 3 1 of 4",
		"?sort=endedDate:desc":                   "1 2 4 3 of 4",
		"?pageSize=2":                            "4 3 of 4",
		"?pageSize=3&pageNumber=1":               "1 of 4",
		"?pageSize=3&pageNumber=7":               " of 4",
		"?state=finished&format=csv":             " of 0",
		fmt.Sprintf("?startDate=%d", created[2]): "4 3 of 2",
		fmt.Sprintf("?startDate=%d&endDate=%d", created[1], created[2]): "3 2 of 2",
	} {
		a := b.list(t, manager, query)
		var ids []string
		for _, st := range a.Reports {
			ids = append(ids, fmt.Sprint(st.ReportID))
		}
		if got := fmt.Sprintf("%s of %d", strings.Join(ids, " "), a.TotalCount); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, says := range map[string]string{
		"?state=done":                "must be one of Queued, Running, Finished, Failed, Cancelled, Expired",
		"?format=xls":                "must be one of csv, jsonl, parquet",
		"?sort=colour":               "must be one of reportId, createdDate, endedDate, reportName, state, userName, rows, bytes",
		"?sort=rows:up":              "must be asc or desc",
		"?pageNumber=101":            "0 to 100",
		"?pageSize=0":                "1 to 200",
		"?startDate=2&endDate=3":     "looks like seconds",
		"?name=x":                    "did you mean reportName",
		"?reportName=a&reportName=b": "is given more than once",
	} {
		if w := b.do(t, &manager, "GET", reportPath+query, ""); w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}
