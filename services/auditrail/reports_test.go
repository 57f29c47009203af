package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// documentedTitles are the columns that the documented request asks for.
var documentedTitles = []string{
	"Id", "Action", "Module Name", "Module Code", "User Name", "User Role", "Status", "User Uuid", "Customer Uuid", "Client", "Source Ip",
	"Created Date", "Target Type", "Target Name", "Details",
}

// reportDays is the range of the reports, of some days in the past.
func reportDays() (start, end int64) {
	now := time.Now()
	return now.AddDate(0, 0, -20).UnixMilli(), now.AddDate(0, 0, -10).UnixMilli()
}

// rowsOf reads the report's file.
func rowsOf(t *testing.T, file []byte) [][]string {
	t.Helper()
	if n := bytes.Count(file, []byte("\n")); n != bytes.Count(file, []byte("\r\n")) {
		t.Error("a line does not end with CRLF")
	}
	// encoding/csv makes LF of CRLF within cells, too.
	rows, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows[0], documentedTitles); diff != "" {
		t.Fatalf("the header: -got +want:\n%s", diff)
	}
	return rows[1:]
}

// sameRows compares the report with the search, in order.
func sameRows(t *testing.T, got, want [][]string) {
	t.Helper()
	for _, row := range want {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "\r\n", "\n")
		}
	}
	if len(got) != len(want) {
		t.Errorf("the report has %d rows, the search %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !slices.Equal(got[i], want[i]) {
			t.Fatalf("row %d: -got +want:\n%s", i, cmp.Diff(got[i], want[i]))
		}
	}
}

// The documented request, unchanged but for ids and dates: submitted, watched,
// downloaded, opened, verified.
func TestAReportAsItIsDocumented(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	customer, user := demoCustomer, demoIdentities[0].UserUUID
	token := d.token()
	manager := d.caller(token)
	start, end := reportDays()
	asked := d.emitReportEvents(2000, customer, user, start, end)

	id := manager.submit(t, documentedRequest(t, customer, user, start, end))
	seen := manager.watch(t, id)
	if last := seen[len(seen)-1]; last.State != "Finished" || last.ReportID != id || last.Rows != int64(asked) {
		t.Fatalf("it ended as %+v, want %d rows", last, asked)
	}
	want := d.searched(token, start, end)
	if len(want) != asked {
		t.Fatalf("the search finds %d events, %d were emitted", len(want), asked)
	}
	file := manager.verified(t, id)
	sameRows(t, rowsOf(t, file), want)
	if last := seen[len(seen)-1]; last.Bytes != int64(len(file)) {
		t.Errorf("it says %d bytes, and has %d", last.Bytes, len(file))
	}

	t.Run("is a call of its own", func(t *testing.T) {
		manager.until(t, `api:"report-job"`, audit.StateFinished, "Queued, Running, Finished")
	})
	t.Run("is audited", func(*testing.T) {
		for _, action := range []string{"Create", "Download"} {
			d.until(action, func() (bool, string) {
				a := d.search(token, fmt.Sprintf(`{"startDate":0,"qql":"moduleCode:AUDIT AND targetType:Report AND action:%s"}`, action))
				return a.TotalCount > 0, a.body
			})
		}
	})
	t.Run("is not there for others", func(t *testing.T) {
		for what, token := range map[string]string{
			"another subscription's Manager": d.token("--customer", nextCustomer),
			"another user":                   d.token("--role", "Reader", "--user", "somebody"),
		} {
			for _, path := range []string{"", "/download", "/manifest", "/events"} {
				if r := d.caller(token).get(t, reportAt(id, path)); r.status != http.StatusNotFound {
					t.Errorf("%s: %s is %d %s", what, path, r.status, r.body)
				}
			}
		}
	})
}

// The same over many chunks, with two replicas of reporter beside dev, while all
// of dev is killed twice and one of the replicas, too.
func TestAReportOutlivesEverything(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	flags := []string{"--demo-rate", "0", "--report-chunk-rows", "100"}
	d.start(flags...)
	customer, user := demoCustomer, demoIdentities[0].UserUUID
	token := d.token()
	manager := d.caller(token)
	manager.limit(t, `{"default": {"unlimited": true}}`) // it is asked often
	const n = 25_000
	start, end := reportDays()
	asked := d.emitReportEvents(n, customer, user, start, end)
	var replicas []*testenv.Command
	for range 2 {
		replicas = append(replicas, d.reporter(t, "--report-chunk-rows", "100"))
	}
	id := manager.submit(t, documentedRequest(t, customer, user, start, end))
	progress := func(rows int64) {
		t.Helper()
		d.until(fmt.Sprintf("%d rows", rows), func() (bool, string) {
			s, said, ok := manager.report(t, id)
			if ok && s.over() {
				t.Fatalf("it was over before it could be killed: %s", said)
			}
			return ok && s.Rows >= rows, said
		})
	}
	for i := range 2 {
		progress(int64(asked) * int64(1+i) / 4)
		_ = d.cmd.Process.Kill()
		<-d.ended
		if i == 0 {
			replicas[0].Kill()
		}
		d.start(flags...)
	}
	seen := manager.watch(t, id)
	if last := seen[len(seen)-1]; last.State != "Finished" || last.Rows != int64(asked) {
		t.Fatalf("it ended as %+v, want %d rows", last, asked)
	}
	file := manager.verified(t, id)
	sameRows(t, rowsOf(t, file), d.searched(token, start, end))
	manager.until(t, `api:"report-job"`, audit.StateFinished, "Queued, Running, Finished")
	if chunks, err := filepath.Glob(filepath.Join(d.data, "reports", "*", "0*")); err != nil || len(chunks) < asked/200 {
		t.Errorf("%d objects of chunks, %v; want some of a hundred rows each", len(chunks), err)
	}
}
