package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/store"
)

// seedReport is the sample request of the seed, unchanged.
const seedReport = `{
"customerUuid": "33fe8ca3-d843-53ac-82e3-21cfb833d389",
"userUuid": "7688c5b4-d815-46b2-818d-749156bb85c2",
"userName": "qweb_rm2",
"reportSummary": "PublicAPI-Automation-test-report-Zr00kaPIKM",
"reportName": "PublicAPI-Automation-test-report-Zr00kaPIKM",
"reportColumns": [
"Id",
"Action",
"Module Name",
"Module Code",
"User Name",
"User Role",
"Status",
"User Uuid",
"Customer Uuid",
"Client",
"Source Ip",
"Created Date",
"Target Type",
"Target Name",
"Details"
],
"filters": {
"fields": [
{
"key": "userName",
"value": [
"User_1",
"User_2"
],
"operator": "AND"
},
{
"key": "userRole",
"value": [
"Manager",
"Reader"
],
"operator": "AND"
},
{
"key": "targetType",
"value": [
"Account",
"Auth"
],
"operator": "AND"
},
{
"key": "action",
"value": [
"Login",
"Update"
],
"operator": "AND"
},
{
"key": "moduleCode",
"value": [
"PC",
"ADMIN",
"VM",
"VMDR",
"ADMIN"
],
"operator": "AND"
}
],
"startDate": 1736942490000,
"endDate": 1744718490000
}
}`

// sampler is the caller of the seed's sample.
var sampler = identity.Identity{
	UserUUID: "7688c5b4-d815-46b2-818d-749156bb85c2", CustomerUUID: "33fe8ca3-d843-53ac-82e3-21cfb833d389",
	Name: "qweb_rm2", Role: identity.RoleManager, BusinessUnits: []string{"EU"},
}

// newReportBench is newBench with the topics of the sample's modules.
func newReportBench(t testing.TB, db store.Config, edit func(*Config)) *bench {
	t.Helper()
	b := newBench(t, db, edit)
	b.ensureModules(t, "PC", "ADMIN", "VM", "VMDR")
	return b
}

// smallReport is a request that has what every request must.
const smallReport = `{"reportName":"r","reportSummary":"s","reportColumns":["Id"],"filters":{"fields":[{"key":"moduleCode","value":"All"}],"startDate":0}}`

// submit asks for a report, which must succeed.
func (b *bench) submit(t testing.TB, id identity.Identity, body string) (a submitted) {
	t.Helper()
	w := b.do(t, &id, http.MethodPost, reportPath, body)
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, body, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestTheSeedsRequest: its own body is accepted, unchanged, and everything that
// it asks for is in the job.
func TestTheSeedsRequest(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	before := time.Now().Truncate(time.Millisecond)
	w := b.do(t, &sampler, http.MethodPost, reportPath, seedReport, "User-Agent", "curl/8", "X-Request-Id", "r-1")
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != 200 || err != nil {
		t.Fatal(w.Code, w.Body, err)
	}
	created := time.UnixMilli(int64(got["createdDate"].(float64)))
	if want := fmt.Sprintf(`{"message":"Request for report submitted successfully","reportId":1,"createdDate":%d}`, created.UnixMilli()); w.Body.String() != want {
		t.Errorf("the answer is %s, the seed's is %s", w.Body, want)
	}
	if created.Before(before.Add(-time.Second)) || created.After(time.Now().Add(time.Second)) {
		t.Errorf("created at %s", created)
	}
	j := b.reports.table.Job(1)
	if j == nil || j.State != report.StateQueued {
		t.Fatalf("%+v", j)
	}
	spec := *j.Spec
	start, end := int64(1736942490000), int64(1744718490000)
	want := report.Spec{
		Job: spec.Job, Name: "PublicAPI-Automation-test-report-Zr00kaPIKM", Summary: "PublicAPI-Automation-test-report-Zr00kaPIKM",
		Requester: report.Requester{
			CustomerUUID: sampler.CustomerUUID, UserUUID: sampler.UserUUID, UserName: "qweb_rm2", UserRole: identity.RoleManager, BusinessUnits: []string{"EU"},
			Client: "curl/8", SourceIP: "192.0.2.1", RequestID: "r-1",
		},
		Columns: strings.Fields("id action moduleName moduleCode userName userRole status userUuid customerUuid client sourceIp createdDate targetType targetName auditComment"),
		Format:  report.CSV, Compression: report.None, Timezone: "UTC",
		Query: `userName: [User_1, User_2] AND userRole: [Manager, Reader] AND targetType: [Account, Auth] AND action: [Login, Update] AND moduleCode: [PC, ADMIN, VM, VMDR]`,
		Start: &start, End: &end, KeptSince: time.UnixMilli(spec.Now).UTC().AddDate(0, 0, -400).UnixMilli(),
		Now: spec.Now, Pin: spec.Pin, Request: spec.Request,
	}
	if d := cmp.Diff(spec, want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	if string(spec.Request) == "" || len(spec.Pin.Partitions) == 0 || spec.Pin.Watermark < before.Add(-time.Minute).UnixMilli() || spec.Now < before.UnixMilli() {
		t.Errorf("pin %+v, now %d, request %s", spec.Pin, spec.Now, spec.Request)
	}

	// Both of its audit events, and the call of its own, after that of the request.
	events := b.audited(t, 2)
	for i, status := range []string{"Requested", "Success"} {
		if e := events[i]; e.Action != "Create" || e.TargetType != "Report" || e.TargetName != want.Name || e.Status != status || e.RequestID != "r-1" ||
			!strings.Contains(e.AuditComment, "userName: [User_1, User_2]") {
			t.Errorf("%+v", e)
		}
	}
	if !strings.HasPrefix(events[1].AuditComment, "report 1: ") {
		t.Error(events[1].AuditComment)
	}
	for _, c := range b.told(t, 3) {
		if c.API == report.API && (c.State != audit.StateQueued || c.CallID != spec.Job.String() || c.UserName != "qweb_rm2" || c.RequestID != "r-1") {
			t.Errorf("%+v", c)
		}
	}
}
