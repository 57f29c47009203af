package reporter

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Values are few, so that they meet, and nasty, so that quoting and the guard
// against formulas are tried.
var (
	nastyTexts = []string{
		"", "a", "-", "--", "-1", "- ", " -", "=1+1", "+1", "@x", "\t=1", "\tx", "\rx", "\nx", "x\r\ny", "\r\n", "\n", "'=1", "''-", "'-", "'a", "' a",
		" =1", "\u00a0=1", "\u200b=1", "\ufeff+1", "\u00ad@", "\u2028x", "\u3000-", "\u2060\u202e=x", "\x00=1", "\x00x", "\x1f", "\x7f=", "\u0085=",
		"\uFF1D1", "\uFF0Bx", "\uFF0D", "\uFF20", "\uFE66", "\uFE62", "\uFE63", "\uFE6B", "\u2212", " \u2212", "\u2013x", "ä=", "日本語", "😀", "\U000E0001=", "\U0001BCA0-",
		`"quoted"`, `a,b`, `""`, `"`, "a\"\r\n\"b", "#x", "a;b", `\N`, `back\slash`, `\`, "{w1:String}", "NULL", "null", "a' OR 1=1 --", "</script>&", "a/b", "\b\f",
		strings.Repeat("long text ", 300) + "\"", "٣", "\u0600=", "\u061c=1", "\u180e=",
	}
	addresses = []string{"", "10.1.2.3", "0.0.0.0", "255.255.255.255", "::1", "::ffff", "::1:0", "::1:2", "::ffff:1", "::ab:c", "::102:304", "2001:db8::1", "::ffff:10.1.2.3", "::fffe:ffff:ffff", "ffff::", "1:0:0:1::", "::1:0:0", "1::ffff:a00:1"}
	zones     = []string{"UTC", "Etc/UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Europe/London", "Pacific/Chatham", "America/New_York"}
	pinned    = []uuid.UUID{{1}, {2}, {3}}
)

// row is an event, and where it came from.
type row struct {
	audit.Event
	topic     uuid.UUID
	partition uint32
	offset    int64
	appended  int64
	wire      map[string]any // its JSON
}

const day = 24 * 60 * 60 * 1000

// someRows draws rows of two customers whose dates meet.
func someRows(n int) []row {
	return rapid.Custom(func(t *rapid.T) []row {
		text := func() string {
			s := rapid.SampledFrom(nastyTexts).Draw(t, "text")
			if rapid.IntRange(0, 3).Draw(t, "two") == 0 {
				s += rapid.SampledFrom(nastyTexts).Draw(t, "more")
			}
			return s
		}
		rows := make([]row, n)
		for i := range rows {
			rows[i] = row{audit.Event{
				ID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")).String(), AuditEnabledAppID: rapid.SampledFrom([]uint32{0, 1, math.MaxUint32}).Draw(t, "app"),
				ApplicationName: text(), ModuleCode: text(), ModuleName: text(), UserName: text(), UserRole: text(),
				UserUUID: rapid.SampledFrom([]string{"", "u1", "u2"}).Draw(t, "user"), CustomerUUID: rapid.SampledFrom([]string{"c1", "c1", "c1", "=c2"}).Draw(t, "customer"),
				Client: text(), SourceIP: rapid.SampledFrom(addresses).Draw(t, "address"), CreatedDate: rapid.Int64Range(0, 40).Draw(t, "date")*40*day + rapid.Int64Range(0, 5).Draw(t, "ms"),
				TargetType: text(), TargetName: text(), Action: text(), Status: text(), AuditComment: text(), ExternalChangeLink: text(),
				EndpointType: text(), BusinessUnit: rapid.SampledFrom([]string{"", "EU", "-US"}).Draw(t, "unit"), Origin: text(), RequestID: text(),
			}, rapid.SampledFrom(append(pinned, uuid.UUID{4})).Draw(t, "topic"), rapid.Uint32Range(0, 4).Draw(t, "partition"),
				rapid.Int64Range(0, 20).Draw(t, "offset"), rapid.Int64Range(0, 20).Draw(t, "appended"), nil}
			raw, err := json.Marshal(rows[i].Event)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw, &rows[i].wire); err != nil {
				t.Fatal(err)
			}
		}
		return rows
	}).Example(1)
}

func insert(t testing.TB, conn driver.Conn, rows []row) {
	t.Helper()
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO audit_events ("+
		"id, audit_enabled_app_id, application_name, module_code, module_name, user_name, user_role, user_uuid, customer_uuid, client, source_ip, created_date, "+
		"target_type, target_name, action, status, audit_comment, external_change_link, endpoint_type, business_unit, origin, request_id, "+
		"topic_id, kafka_partition, kafka_offset, appended_at, retention_days)")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		e := r.Event
		if err := batch.Append(uuid.MustParse(e.ID), e.AuditEnabledAppID, e.ApplicationName, e.ModuleCode, e.ModuleName, e.UserName,
			e.UserRole, e.UserUUID, e.CustomerUUID, e.Client, addressOf(e).As16(), time.UnixMilli(e.CreatedDate), e.TargetType, e.TargetName,
			e.Action, e.Status, e.AuditComment, e.ExternalChangeLink, e.EndpointType, e.BusinessUnit, e.Origin, e.RequestID,
			r.topic, r.partition, r.offset, time.UnixMilli(r.appended), uint16(25000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}

func addressOf(e audit.Event) netip.Addr {
	if e.SourceIP == "" {
		return netip.IPv6Unspecified()
	}
	return netip.AddrFrom16(netip.MustParseAddr(e.SourceIP).As16())
}

// value is a field of an event as the search record has it.
func (r row) value(f *field.Field) any {
	switch f.Name {
	case "createdDate":
		return float64(r.CreatedDate)
	case "auditEnabledAppId":
		return float64(r.AuditEnabledAppID)
	case "sourceIp":
		if a := addressOf(r.Event); !a.IsUnspecified() {
			return a.Unmap().String()
		}
		return ""
	}
	text, _ := r.wire[f.Name].(string) // left out where it is empty
	return text
}

// formula is the rule of exports: package query has it.
func formula(s string) bool {
	if s == "-" {
		return false
	}
	for _, r := range s {
		if strings.ContainsRune("=+-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20\uFE66\uFE62\uFE63\uFE6B\u2212", r) {
			return true
		}
		if r != '\'' && !unicode.IsSpace(r) && !unicode.In(r, unicode.Cc, unicode.Cf) {
			return false
		}
	}
	return false
}

// cell is what exports write, as a reader of CSV has it.
func (r row) cell(f *field.Field, zone *time.Location) string {
	switch v := r.value(f).(type) {
	case float64:
		if f.Type == field.Instant {
			return time.UnixMilli(int64(v)).In(zone).Format("2006-01-02T15:04:05.000Z07:00")
		}
		return fmt.Sprint(int64(v))
	case string:
		if f.Type != field.UUID && f.Type != field.Address && formula(v) {
			v = "'" + v
		}
		return strings.ReplaceAll(v, "\r\n", "\n") // as Go's reader does
	}
	return ""
}

// titled are the columns that a report can have.
var titled = func() (some []*field.Field) {
	for i := range field.Events.Fields {
		if f := &field.Events.Fields[i]; f.Type != field.JSON {
			some = append(some, f)
		}
	}
	return some
}()

// asked is what a report is of.
type asked struct {
	see     visibility.Predicate
	filter  sqlgen.Filter
	pin     sqlgen.Pin
	span    sqlgen.TimeSpan
	columns []*field.Field
	zone    *time.Location
}

func draw(t *rapid.T) asked {
	id := identity.Identity{CustomerUUID: rapid.SampledFrom([]string{"c1", "=c2", ""}).Draw(t, "of"), UserUUID: "u1", Name: "a", BusinessUnits: []string{"EU"},
		Role: rapid.SampledFrom([]identity.Role{identity.RoleManager, identity.RoleManager, identity.RoleUnitManager, identity.RoleReader}).Draw(t, "role")}
	a := asked{see: visibility.For(id)}
	if rapid.Bool().Draw(t, "filtered") {
		a.filter = sqlgen.Filter{Now: time.Unix(0, 0), Where: qql.Not{X: qql.Test{Field: field.Find(field.Events.Fields, "action"), Cond: qql.Null{}}}}
	}
	a.pin.Watermark = rapid.Int64Range(-1, 22).Draw(t, "watermark")
	for _, topic := range pinned {
		for p := range int32(rapid.IntRange(0, 4).Draw(t, "partitions")) {
			a.pin.Partitions = append(a.pin.Partitions, sqlgen.PinnedPartition{Topic: "t", TopicID: topic, Partition: p, Next: rapid.Int64Range(0, 22).Draw(t, "next")})
		}
	}
	a.pin.Partitions = rapid.Permutation(a.pin.Partitions).Draw(t, "order")
	a.span.From = rapid.SampledFrom([]int64{math.MinInt64, 0, 40 * day, 41*day + 2}).Draw(t, "from")
	a.span.To = rapid.SampledFrom([]int64{math.MaxInt64, 400 * day, 800*day + 3, 1600*day + 5, 40 * day}).Draw(t, "to")
	a.columns = rapid.Permutation(titled).Draw(t, "columns")[:rapid.IntRange(1, len(titled)).Draw(t, "n")]
	var err error
	if a.zone, err = time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone")); err != nil {
		t.Fatal(err)
	}
	return a
}

// oracle is the rows that are in, in their order.
func (a asked) oracle(rows []row) (in []row) {
	for _, r := range rows {
		next := int64(0)
		for _, p := range a.pin.Partitions {
			if p.TopicID == r.topic && uint32(p.Partition) == r.partition {
				next = p.Next
			}
		}
		if a.see.Allows(&r.Event) && (a.filter.Where == nil || r.Action != "") && r.CreatedDate >= a.span.From && r.CreatedDate < a.span.To &&
			(r.appended < a.pin.Watermark || r.offset < next) {
			in = append(in, r)
		}
	}
	slices.SortFunc(in, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.CreatedDate, a.CreatedDate), cmp.Compare(b.ID, a.ID))
	})
	return in
}

// make is the chunk's body, and what is said of it.
func (a asked) make(t fatal, test testing.TB, c *clickHouse, f report.Format, as sqlgen.Shape) ([]byte, report.Chunk) {
	var body bytes.Buffer
	chunk, err := c.chunk(test.Context(), sqlgen.ReportRows(a.see, a.filter, a.pin, a.span, a.columns, as), f, report.None, nil, &body, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	return body.Bytes(), chunk
}

type fatal interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// TestRowsAreThoseOfTheOracle holds the rows of reports, their order and every
// value against the events themselves.
func TestRowsAreThoseOfTheOracle(t *testing.T) {
	conn, c := openStore(t, testenv.ClickHouse(t))
	rows := someRows(600)
	insert(t, conn, rows)
	rapid.Check(t, func(rt *rapid.T) {
		a := draw(rt)
		in := a.oracle(rows)
		n, err := c.numbers(t.Context(), sqlgen.ReportCount(a.see, a.filter, a.pin, a.span))
		if err != nil || len(n) != 1 || n[0][0] != int64(len(in)) {
			rt.Fatalf("count %v, %v; want %d", n, err, len(in))
		}
		text, chunk := a.make(rt, t, c, report.CSV, sqlgen.CSV{Zone: a.zone})
		cells, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil || len(cells) != len(in) || chunk.Rows != int64(len(in)) || bytes.Count(text, []byte("\r\n")) < len(in) {
			rt.Fatalf("%d rows, counted %d, want %d, %v", len(cells), chunk.Rows, len(in), err)
		}
		for i, r := range in {
			for k, f := range a.columns {
				if want := r.cell(f, a.zone); cells[i][k] != want {
					rt.Fatalf("row %d, %s: %q, want %q", i, f.Name, cells[i][k], want)
				}
			}
		}
		text, chunk = a.make(rt, t, c, report.JSONLines, sqlgen.JSONLines{})
		if chunk.Rows != int64(len(in)) {
			rt.Fatalf("%d lines, want %d", chunk.Rows, len(in))
		}
		i := 0
		for line := range bytes.Lines(text) {
			var got map[string]any
			if err := json.Unmarshal(line, &got); err != nil {
				rt.Fatalf("%q: %v", line, err)
			}
			want := map[string]any{}
			for _, f := range a.columns {
				if v := in[i].value(f); f.Always || v != "" {
					want[f.Name] = v
				}
			}
			if d := gocmp.Diff(got, want); d != "" {
				rt.Fatalf("line %d (-got +want)\n%s", i, d)
			}
			i++
		}
	})
}
