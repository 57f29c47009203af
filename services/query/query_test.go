package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
)

// TestSeedSample holds the answer for the seeds' record to the seeds' sample,
// byte for byte but for the layout.
func TestSeedSample(t *testing.T) {
	want, err := os.ReadFile("testdata/search_sample.json")
	if err != nil {
		t.Fatal(err)
	}
	var sample struct {
		AuditRecords []audit.Event `json:"auditRecords"`
	}
	if err := json.Unmarshal(want, &sample); err != nil {
		t.Fatal(err)
	}
	db := newDatabase(t)
	db.insert(t, t, sample.AuditRecords...)
	b := newBench(t, db.cfg, nil)
	e := sample.AuditRecords[0]
	jack := identity.Identity{UserUUID: e.UserUUID, CustomerUUID: e.CustomerUUID, Name: "Jack", Role: identity.RoleReader}
	for _, body := range []string{
		`{"customerUuid":"1c9a83aa-20p8-e972-8036-899e5e608855","endDate":1650444199730,"pageNumber":0,"pageSize":100,"qql":"","startDate":1650444199730,"userUuid":"1c9a83aa-20p8-e972-8036-899e5e608855"}`,
		`{"pageSize":"100","startDate":0}`,
	} {
		w := b.do(t, &jack, "POST", searchPath, body)
		var got bytes.Buffer
		if err := json.Indent(&got, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err, w.Body)
		}
		sample := strings.TrimSuffix(strings.TrimSpace(string(want)), "\n}") + ","
		if d := cmp.Diff(got.String()[:min(got.Len(), len(sample))], sample); d != "" {
			t.Errorf("%s (-got +want)\n%s", body, d)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
	}
	if got := b.do(t, &jack, "POST", searchPath, `{"endDate":1650444199729}`).Body.String(); !strings.HasPrefix(got, `{"auditRecords":[],"totalCount":0,"pageNumber":0,"pageSize":10,`) {
		t.Errorf("an empty page: %s", got)
	}
}

func TestAdditionsAndLinksComeBackUnchanged(t *testing.T) {
	db := newDatabase(t)
	db.insert(t, t, audit.Event{
		ID: "0190A0A5-B21E-7F43-9DFE-578A88AE01C9", CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000001, SourceIP: "2001:DB8::1",
		ExternalChangeLink: "http://h:1/key?a=1&b=<2>", AuditComment: "\u2028 \x00 \xff é", EndpointType: audit.EndpointAPI, BusinessUnit: "EU",
		Origin: audit.OriginAutoUpdate, Changes: []byte(`[{"field":"a","after":"<&>"}]`), RequestID: "r-1", Extra: []byte(`{"x":{"y":[1.50]}}`),
	})
	got := newBench(t, db.cfg, nil).do(t, &manager, "POST", searchPath, `{"startDate":1750000000001}`).Body.String()
	want := `{"auditRecords":[{"id":"0190a0a5-b21e-7f43-9dfe-578a88ae01c9","auditEnabledAppId":0,"applicationName":"","moduleCode":"","moduleName":"",` +
		`"userName":"","userRole":"","userUuid":"","customerUuid":"tenant-one","client":"","sourceIp":"2001:db8::1","createdDate":1750000000001,` +
		`"targetType":"","targetName":"","action":"","status":"","auditComment":"\u2028 \u0000 \ufffd é","externalChangeLink":"http://h:1/key?a=1&b=<2>",` +
		`"endpointType":"API","businessUnit":"EU","origin":"auto-update","changes":[{"field":"a","after":"<&>"}],"requestId":"r-1","extra":{"x":{"y":[1.50]}}}],` +
		`"totalCount":1,"pageNumber":0,"pageSize":10,"startDate":1750000000001,"endDate":null`
	if d := cmp.Diff(got[:min(len(got), len(want))], want); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
}

// TestTotalsHoldWhileEventsArrive searches while events are stored: an answer
// never counts fewer events than it shows, nor more than a short page allows.
func TestTotalsHoldWhileEventsArrive(t *testing.T) {
	db := newDatabase(t)
	b := newBench(t, db.cfg, nil)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		for i := range 40 {
			events := make([]audit.Event, 3)
			for j := range events {
				events[j] = audit.Event{ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000000 + int64(i)}
			}
			db.insert(t, panics{}, events...)
		}
	}()
	for done := false; !done; {
		select {
		case <-stored:
			done = true
		default:
		}
		for _, body := range []string{`{"startDate":0,"pageSize":50}`, `{"startDate":0,"pageSize":20,"pageNumber":2}`, `{"startDate":0,"pageSize":200}`} {
			a := b.searchAs(t, t, manager, body)
			rows, before := int64(len(a.AuditRecords)), a.PageNumber*a.PageSize
			if rows > 0 && a.TotalCount < before+rows || rows < a.PageSize && a.TotalCount > before+rows {
				t.Errorf("%s: %d rows, total %d", body, rows, a.TotalCount)
			}
		}
	}
	if a := b.searchAs(t, t, manager, `{"startDate":0}`); a.TotalCount != 120 {
		t.Errorf("in the end: %d", a.TotalCount)
	}
}

// panics fails where no test function may be called: off the test's goroutine.
type panics struct{}

func (panics) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
