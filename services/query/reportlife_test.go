package query

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/ktable"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func reportAt(id int64, more ...string) string {
	return fmt.Sprintf("%s/%d%s", reportPath, id, strings.Join(more, ""))
}

// claim makes a test the worker of a report.
func (b *bench) claim(t testing.TB, id int64) report.Epoch {
	t.Helper()
	epoch, err := b.reports.table.Claim(t.Context(), id, 0, "test")
	if err != nil || epoch == 0 {
		t.Fatal(epoch, err)
	}
	return epoch
}

// object writes an object of the store of reports.
func (b *bench) object(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := b.reports.files.Bucket().WriteAll(t.Context(), name, content, nil); err != nil {
		t.Fatal(err)
	}
}

// finish makes a report's file of parts, as the worker does.
func (b *bench) finish(t testing.TB, id int64, parts ...[]byte) *report.Manifest {
	t.Helper()
	epoch := b.claim(t, id)
	s := b.reports.table.Job(id).Spec
	m := &report.Manifest{
		ReportID: id, Job: s.Job.String(), Name: s.Name, Summary: s.Summary, CustomerUUID: s.Requester.CustomerUUID, UserUUID: s.Requester.UserUUID,
		UserRole: string(s.Requester.UserRole), Columns: s.Columns, Format: s.Format, Compression: s.Compression, Timezone: s.Timezone,
		Request: s.Request, StartDate: s.Start, EndDate: s.End, From: s.From(), KeptSince: s.KeptSince, Clipped: s.Clipped(), Positions: s.Pin.Partitions, CompleteUpTo: s.Pin.Watermark,
		CreatedDate: time.Now().UnixMilli(), FinishedDate: time.Now().UnixMilli(), Rows: int64(len(parts)), SHA256: digestOf(bytes.Join(parts, nil)),
	}
	var sum report.Sum
	for n, p := range parts {
		before := sum
		var err error
		if sum, err = before.After(p); err != nil {
			t.Fatal(err)
		}
		name := report.ChunkObject(s, n, epoch, 1)
		b.object(t, name, append([]byte("PAR"), p...)) // parts need not begin where objects do
		m.Parts = append(m.Parts, report.Part{Object: name, Offset: 3, Bytes: int64(len(p)), SHA256: digestOf(bytes.Join(parts[:n+1], nil)), Before: before, Rows: 1, Span: &report.Span{From: 1, To: 2}})
		m.Bytes += int64(len(p))
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	manifest := report.PartObject(s, "manifest", epoch, 1, ".json")
	b.object(t, manifest, raw)
	j, err := b.reports.table.SetEnd(t.Context(), id, epoch, report.End{State: report.StateFinished, Rows: m.Rows, Bytes: m.Bytes, SHA256: m.SHA256, Manifest: manifest, ManifestSHA256: digestOf(raw)})
	if err != nil || j.State != report.StateFinished {
		t.Fatal(j, err)
	}
	return m
}

func (b *bench) fail(t testing.TB, id int64) {
	t.Helper()
	j, err := b.reports.table.SetEnd(t.Context(), id, b.claim(t, id), report.End{State: report.StateFailed, Reason: "the store is full"})
	if err != nil || j.State != report.StateFailed {
		t.Fatal(j, err)
	}
}

// shows returns how a report stands.
func (b *bench) shows(t testing.TB, id identity.Identity, n int64) (st reportStatus) {
	t.Helper()
	b.ask(t, t, id, http.MethodGet, reportAt(n), "", &st)
	return st
}

// refused asks for what must be refused, and returns what is said.
func (b *bench) refused(t testing.TB, id identity.Identity, method, path string, status int, words ...string) {
	t.Helper()
	w := b.do(t, &id, method, path, "")
	for _, word := range words {
		if !strings.Contains(w.Body.String(), word) {
			t.Errorf("%s %s: %s does not say %q", method, path, w.Body, word)
		}
	}
	if w.Code != status {
		t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, status)
	}
}

// TestTheLifeOfAReport: what is told of it in each state, and what may be done.
func TestTheLifeOfAReport(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	id := b.submit(t, manager, changedReport(t, "reportName", `"Yearly Ünit"`, ".startDate", "1500000000000", "reportColumns", `["details","Id"]`, "compression", `"gzip"`)).ReportID
	second := b.submit(t, manager, smallReport).ReportID
	download := reportAt(id, "/download")

	st := b.shows(t, manager, id)
	if st.State != report.StateQueued || st.QueuePlace != 1 || st.TotalRows != nil || st.Began != nil || st.Percent != 0 || st.FileName != "Yearly Ünit.csv.gz" || !st.Clipped ||
		*st.Start != 1500000000000 || st.KeptSince != b.reports.table.Job(id).Spec.KeptSince || st.KeptSince <= *st.Start || strings.Join(st.Columns, ",") != "Details,Id" || st.CompleteUpTo == 0 || st.UserName != "jack" {
		t.Errorf("%+v", st)
	}
	if n := b.shows(t, manager, second).QueuePlace; n != 2 {
		t.Errorf("the second is in place %d", n)
	}
	b.refused(t, manager, "GET", download, 409, "The report is Queued")
	b.refused(t, manager, "POST", reportAt(id, "/rerun"), 409, "once it is over")
	b.refused(t, manager, "DELETE", reportAt(id), 409, "Cancel it first")

	epoch := b.claim(t, id)
	if _, err := b.reports.table.SetPlan(t.Context(), id, epoch, report.Plan{Chunks: []report.PlannedChunk{{Rows: 600}, {Rows: 400}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.reports.table.SetProgress(t.Context(), id, epoch, report.Progress{Rows: 250, Bytes: 9000, Busy: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	st = b.shows(t, manager, id)
	if st.State != report.StateRunning || *st.TotalRows != 1000 || st.Rows != 250 || st.Bytes != 9000 || st.Percent != 25 || st.RowsPerSecond != 50 || st.Began == nil ||
		time.Until(time.UnixMilli(*st.EstimatedEnd)) < 14*time.Second || time.Until(time.UnixMilli(*st.EstimatedEnd)) > 16*time.Second {
		t.Errorf("%+v", st)
	}
	b.refused(t, manager, "GET", download, 409, "The report is Running: 25%, 250 of 1000 rows")
	b.refused(t, manager, "GET", reportAt(id, "/manifest"), 409, "Running")
	if n := b.shows(t, manager, second).QueuePlace; n != 1 {
		t.Errorf("then the second is in place %d", n)
	}
	if _, err := b.reports.table.SetProgress(t.Context(), id, epoch, report.Progress{Rows: 250, Busy: 5 * time.Second, Trouble: "ClickHouse is away"}); err != nil {
		t.Fatal(err)
	}
	if st = b.shows(t, manager, id); st.Trouble != "ClickHouse is away" || st.EstimatedEnd != nil {
		t.Errorf("%+v", st)
	}

	if _, err := b.reports.table.SetEnd(t.Context(), id, epoch, report.End{State: report.StateFailed, Reason: "the store is full"}); err != nil {
		t.Fatal(err)
	}
	st = b.shows(t, manager, id)
	if st.State != report.StateFailed || st.Reason != "the store is full" || *st.Expires != *st.Ended+(720*time.Hour).Milliseconds() {
		t.Errorf("%+v", st)
	}
	b.refused(t, manager, "GET", download, 409, "The report is Failed (the store is full)", "/rerun")
	b.refused(t, manager, "POST", reportAt(id, "/cancel"), 409, "nothing to cancel")

	// Its requester resumes it: the same report, a call of its own.
	var again submitted
	b.ask(t, t, manager, "POST", reportAt(id, "/rerun"), "", &again)
	if again.ReportID != id || again.Message != resumedMessage {
		t.Errorf("%+v", again)
	}
	if now := b.shows(t, manager, id); now.CallID == st.CallID || now.State != report.StateQueued || now.Created != st.Created {
		t.Errorf("%+v", now)
	}
	m := b.finish(t, id, []byte("one"), []byte("two"))
	st = b.shows(t, manager, id)
	if st.State != report.StateFinished || st.Percent != 100 || st.Rows != 2 || *st.TotalRows != 2 || st.Bytes != 6 || st.SHA256 != m.SHA256 || st.Expires == nil {
		t.Errorf("%+v", st)
	}
	var got report.Manifest
	b.ask(t, t, manager, "GET", reportAt(id, "/manifest"), "", &got)
	if d := cmp.Diff(&got, m); d != "" {
		t.Errorf("the manifest (-got +want)\n%s", d)
	}

	// Asked for again, it is another.
	b.ask(t, t, manager, "POST", reportAt(id, "/rerun"), "", &again)
	if again.ReportID <= second || again.Message != submittedMessage {
		t.Errorf("%+v", again)
	}
	old, new := b.reports.table.Job(id).Spec, b.reports.table.Job(again.ReportID).Spec
	if new.Name != old.Name || !bytes.Equal(new.Request, old.Request) || new.Job == old.Job || new.Pin.Watermark < old.Pin.Watermark {
		t.Errorf("%+v\nagain\n%+v", old, new)
	}

	if _, err := b.reports.table.Expire(t.Context(), id, "kept for 720h0m0s"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{download, reportAt(id, "/manifest")} {
		b.refused(t, manager, "GET", path, 410, "expired on 20", "kept for 720h0m0s", "/rerun")
	}
	if st = b.shows(t, manager, id); st.State != report.StateExpired || st.Rows != 2 || *st.TotalRows != 2 || st.Percent != 100 || st.Expires == nil {
		t.Errorf("%+v", st)
	}

	var cancelled reportStatus
	b.ask(t, t, manager, "POST", reportAt(second, "/cancel"), "{}", &cancelled)
	if cancelled.State != report.StateCancelled || cancelled.Reason != "cancelled by jack" || cancelled.Ended == nil {
		t.Errorf("%+v", cancelled)
	}
	b.refused(t, manager, "GET", reportAt(second, "/download"), 409, "Cancelled (cancelled by jack)")

	if w := b.do(t, &manager, "DELETE", reportAt(id), ""); w.Code != http.StatusNoContent || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	b.refused(t, manager, "GET", reportAt(id), 404)
	b.refused(t, manager, "DELETE", reportAt(id), 404)
	if objects := b.objects(t); len(objects) > 0 {
		t.Errorf("left: %v", objects)
	}

	var did []string
	for _, e := range b.audited(t, 12) {
		if e.Action == "Rerun" && !strings.Contains(e.AuditComment, fmt.Sprintf("report %d", id)) {
			t.Errorf("%+v", e)
		}
		did = append(did, e.Action+" "+e.Status)
	}
	want := "Create Requested,Create Success,Create Requested,Create Success,Rerun Requested,Rerun Success,Rerun Requested,Rerun Success," +
		"Cancel Requested,Cancel Success,Delete Requested,Delete Success"
	if d := cmp.Diff(strings.Join(did, ","), want); d != "" {
		t.Errorf("audit events (-got +want)\n%s", d)
	}
	calls := map[string][]string{}
	for _, c := range b.told(t, -1) {
		if c.API == report.API {
			calls[c.CallID] = append(calls[c.CallID], c.State+c.Reason)
		}
	}
	if n := len(calls); n != 4 { // of these the worker tells the rest
		t.Errorf("%d calls: %v", n, calls)
	}
	if got := strings.Join(calls[cancelled.CallID], ","); got != "Queued,FinishedCancelled" {
		t.Errorf("the one that was cancelled: %s", got)
	}
}

// TestWhoSeesReports compares the endpoints with visibility.Reports, for each
// role.
func TestWhoSeesReports(t *testing.T) {
	b := newReportBench(t, away(t), func(c *Config) { c.ReportQueued = 1000 })
	of := func(customer, user string, role identity.Role, viewAll bool) identity.Identity {
		return identity.Identity{CustomerUUID: customer, UserUUID: user, Name: "name " + user, Role: role, ViewAll: viewAll, BusinessUnits: []string{"EU"}}
	}
	owner, stranger := of("c1", "u1", identity.RoleReader, false), of("c2", "u1", identity.RoleManager, true)
	running, finished := b.submit(t, owner, smallReport).ReportID, b.submit(t, owner, smallReport).ReportID
	b.claim(t, running)
	b.finish(t, finished, []byte("x"))
	for _, role := range identity.Roles {
		for _, viewAll := range []bool{false, true} {
			for _, id := range []identity.Identity{of("c1", "u1", role, viewAll), of("c1", "u2", role, viewAll), of("c2", "u1", role, viewAll)} {
				own := id.CustomerUUID == "c1" && id.UserUUID == "u1"
				sees := own || id.CustomerUUID == "c1" && (viewAll || role == identity.RoleManager || role == identity.RoleAuditor)
				changes := own || sees && role == identity.RoleManager
				seen, changed := 404, 404
				if sees {
					seen, changed = 200, 403
				}
				for path, want := range map[string]int{reportAt(finished): seen, reportAt(finished, "/manifest"): seen, reportAt(finished, "/download"): seen} {
					if w := b.do(t, &id, "GET", path, ""); w.Code != want {
						t.Errorf("%+v GET %s: %d, want %d", id, path, w.Code, want)
					}
				}
				list := b.list(t, id, "")
				if (len(list.Reports) > 0) != sees || list.TotalCount != len(list.Reports) {
					t.Errorf("%+v lists %d of %d", id, len(list.Reports), list.TotalCount)
				}
				if changes {
					changed = 409 // the state does not allow it
				}
				for path, want := range map[string]int{"POST " + reportAt(finished, "/cancel"): changed, "POST " + reportAt(running, "/rerun"): changed, "DELETE " + reportAt(running): changed} {
					method, path, _ := strings.Cut(path, " ")
					if w := b.do(t, &id, method, path, ""); w.Code != want || want == 403 && !strings.Contains(w.Body.String(), "Only who asked for a report and Managers") {
						t.Errorf("%+v %s %s: %d, want %d", id, method, path, w.Code, want)
					}
				}
			}
		}
	}
	// A Manager who repeats the report of somebody else has a report of the own view.
	boss := of("c1", "u9", identity.RoleManager, false)
	var again submitted
	b.ask(t, t, boss, "POST", reportAt(finished, "/rerun"), "", &again)
	if r := b.reports.table.Job(again.ReportID).Spec.Requester; r.UserUUID != "u9" || r.UserRole != identity.RoleManager {
		t.Errorf("%+v", r)
	}
	b.refused(t, stranger, "GET", reportAt(again.ReportID), 404)
	b.refused(t, owner, "GET", reportAt(again.ReportID), 404)
	failed := b.submit(t, owner, smallReport).ReportID
	b.fail(t, failed)
	b.ask(t, t, boss, "POST", reportAt(failed, "/rerun"), "", &again)
	if again.ReportID == failed || b.reports.table.Job(failed).State != report.StateFailed {
		t.Errorf("a Manager resumed the report of somebody else: %+v", again)
	}
	var st reportStatus
	b.ask(t, t, boss, "POST", reportAt(running, "/cancel"), "", &st)
	if st.State != report.StateCancelled || st.Reason != "cancelled by name u9" {
		t.Errorf("%+v", st)
	}
}

// TestNoSuchReport: ids that are none, and none that is there.
func TestNoSuchReport(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	for text, want := range map[string]int{"1": 404, "9223372036854775807": 404, "0": 400, "-1": 400, "01": 400, "x": 400, "1.0": 400, "9223372036854775808": 400, "%20": 400} {
		for _, path := range []string{"GET ", "GET /manifest", "GET /download", "GET /events", "POST /cancel", "POST /rerun", "DELETE "} {
			method, more, _ := strings.Cut(path, " ")
			b.refused(t, manager, method, reportPath+"/"+text+more, want)
		}
	}
	id := b.submit(t, manager, smallReport).ReportID
	b.refused(t, manager, "GET", reportAt(id, "?x=1"), 400, "x: is not known")
	if w := b.do(t, &manager, "POST", reportAt(id, "/cancel"), `{"why":"x"}`); w.Code != 400 || !strings.Contains(w.Body.String(), "there are none here") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if st := b.shows(t, manager, id); st.State != report.StateQueued {
		t.Errorf("%+v", st)
	}
}

// objects are the names of those in the store of reports.
func (b *bench) objects(t testing.TB) (names []string) {
	t.Helper()
	all := b.reports.files.Bucket().List(nil)
	for {
		o, err := all.Next(t.Context())
		if err != nil {
			return names
		}
		names = append(names, o.Key)
	}
}

type reportsAnswer struct {
	Reports    []reportStatus
	TotalCount int
}

func (b *bench) list(t testing.TB, id identity.Identity, query string) (a reportsAnswer) {
	t.Helper()
	b.ask(t, t, id, "GET", reportPath+query, "", &a)
	return a
}

// TestWhatIsResumedIsNotDeleted: a report is resumed behind the look that says it
// is over, and runs; then it is not removed. One that is over is, at whatever point
// an earlier try stopped.
func TestWhatIsResumedIsNotDeleted(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	id := b.submit(t, manager, smallReport).ReportID
	b.fail(t, id)
	looked := b.reports.table.Job(id)
	b.ask(t, t, manager, "POST", reportAt(id, "/rerun"), "", new(any))
	object := report.ChunkObject(looked.Spec, 0, b.claim(t, id), 1)
	b.object(t, object, []byte("x"))
	err := b.remove(t.Context(), looked, "deleted by jack")
	if p := problem.From(err); p == nil || p.HTTPStatus() != 409 || !strings.Contains(p.Detail, "The report is Running") {
		t.Errorf("%v", err)
	}
	if st := b.shows(t, manager, id); st.State != report.StateRunning || len(b.objects(t)) != 1 {
		t.Errorf("%+v %v", st, b.objects(t))
	}
	// Died before the records were removed: it is Expired, and deleted again.
	b.ask(t, t, manager, "POST", reportAt(id, "/cancel"), "", new(any))
	if _, err := b.reports.table.Expire(t.Context(), id, "deleted by jack"); err != nil {
		t.Fatal(err)
	}
	b.refused(t, manager, "GET", reportAt(id, "/download"), 410, "deleted by jack")
	if w := b.do(t, &manager, "DELETE", reportAt(id), ""); w.Code != http.StatusNoContent {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	b.refused(t, manager, "GET", reportAt(id), 404)
	if objects := b.objects(t); len(objects) > 0 {
		t.Errorf("left: %v", objects)
	}
	if p := problem.From(b.remove(t.Context(), looked, "deleted by jack")); p == nil || p.HTTPStatus() != 404 {
		t.Errorf("removed twice: %v", p)
	}
}

// TestTheRateOfTurns: a run that others' turns interrupt is not done as soon as one
// that had all of the time.
func TestTheRateOfTurns(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	now := time.UnixMilli(1750000000000)
	j := &report.Job{
		Spec: &report.Spec{}, State: report.StateRunning, Began: now.Add(-20 * time.Second),
		Plan: &report.Plan{Chunks: []report.PlannedChunk{{Rows: 1000}}}, Progress: report.Progress{Rows: 200, Busy: 5 * time.Second},
	}
	if st := b.status(j, now); st.RowsPerSecond != 10 || *st.EstimatedEnd != now.Add(80*time.Second).UnixMilli() {
		t.Errorf("%d rows a second, end %d", st.RowsPerSecond, *st.EstimatedEnd)
	}
	j.Began = now.Add(-time.Second) // resumed, and had chunks
	if st := b.status(j, now); st.RowsPerSecond != 40 || *st.EstimatedEnd != now.Add(20*time.Second).UnixMilli() {
		t.Errorf("%d rows a second, end %d", st.RowsPerSecond, *st.EstimatedEnd)
	}
}

// TestWhatIsInDoubtIsNamed: the audit event of a creation that Kafka did not confirm
// names the report that there may be, as one whose outcome is unknown.
func TestWhatIsInDoubtIsNamed(t *testing.T) {
	b := newReportBench(t, away(t), nil)
	id := b.submit(t, manager, smallReport).ReportID
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, reportPath, nil)
	err := b.recorded(r, manager, eventOf("Create", b.reports.table.Job(id)), func(context.Context) (string, error) {
		err := fmt.Errorf("report: %w", ktable.ErrUnconfirmed)
		return inDoubt(errors.Join(err, &report.DoubtError{ID: 17})), err
	})
	if err == nil {
		t.Error("no error")
	}
	events := b.audited(t, 4)
	if e := events[3]; e.Status != "Unknown" || !strings.HasPrefix(e.AuditComment, "perhaps report 17: ") {
		t.Errorf("%+v", e)
	}
}
