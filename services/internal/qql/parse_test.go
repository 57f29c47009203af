package qql

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
)

// equal compares trees.
var equal = cmp.Options{
	cmp.Comparer(func(a, b Addr) bool { return a == b }),
	cmp.Comparer(func(a, b Network) bool { return a == b }),
	cmp.Comparer(func(a, b *field.Field) bool { return a == b }),
}

func f(name string) *field.Field { return field.Find(field.Events.Fields, name) }

func entry(name string) *field.Field { return field.Find(field.ChangeFields, name) }

func words(text string) Words {
	var w Words
	for word := range strings.FieldsSeq(text) {
		w = append(w, strings.Split(word, "+"))
	}
	return w
}

// has is a test that a field has words; user is one for userName.
func has(name, text string) Test { return Test{f(name), words(text)} }

func user(text string) Test { return has("userName", text) }

func anywhere(text string) Test { return Test{nil, words(text)} }

func one(v Value) Range { return Range{&Bound{Value: v}, &Bound{Value: v}} }

func date(text, from, to string) Date {
	return Date{From: millis(from), To: millis(to), Text: text}
}

func millis(s string) int64 {
	t, err := time.Parse("2006-01-02T15:04:05.999Z07:00", s)
	if err != nil {
		panic(err)
	}
	return t.UnixMilli()
}

func among(members ...string) In {
	var in In
	for _, m := range members {
		text, exact := strings.CutPrefix(m, "=")
		in = append(in, Member{Text: text, Exact: exact})
	}
	return in
}

func ip(s string) Addr { return Addr(netip.MustParseAddr(s)) }

func network(s string) Network { return Network(netip.MustParsePrefix(s)) }

var (
	anID      = "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"
	january   = date("2026-01", "2026-01-01T00:00:00Z", "2026-01-31T23:59:59.999Z")
	week      = Date{Now: true, Move: []Step{{-7, 'd'}}, Text: "now-7d"}
	inChanges = func(x Expr) Nested { return Nested{f("changes"), x} }
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		query string
		want  Expr
		print string // when it is not the query
	}{
		{"", nil, ""},
		{" \n\t ", nil, ""},

		// Words.
		{"failed", anywhere("failed"), ""},
		{"Failed  LOGIN", anywhere("failed login"), "failed login"},
		{"userName: jack", user("jack"), ""},
		{"USERNAME:Jack", user("jack"), "userName: jack"},
		{"userName : John Smith", user("john smith"), "userName: john smith"},
		{"client: Chrome-Browser", has("client", "chrome browser"), "client: chrome browser"},
		{"targetName: a,b[c]d?e@f$g%h&i/j\\k", has("targetName", "a b c d e f g h i j k"), "targetName: a b c d e f g h i j k"},
		{"targetName: on web-01.corp.example.com.", has("targetName", "on web+01+corp+example+com"), "targetName: on web.01.corp.example.com"},
		{"auditComment: " + anID, Test{f("auditComment"), Words{strings.Split(anID, "-")}}, ""},
		{"userName: User_1 O'Brien x'", user("user+1 o+brien x"), "userName: user.1 o.brien x"},
		{"auditComment: ops@corp.example", has("auditComment", "ops corp+example"), "auditComment: ops corp.example"},
		{"externalChangeLink: http://masifgw.p04:50164/key", has("externalChangeLink", "http masifgw+p04 50164 key"), "externalChangeLink: http masifgw.p04 50164 key"},
		{"auditComment: at 10:00", has("auditComment", "at 10 00"), "auditComment: at 10 00"},
		{"userName: JÖRG 李", user("jörg 李"), "userName: jörg 李"},
		{`userName: \and`, user("and"), ""},
		{`status \is Success`, anywhere("status is success"), `status \is success`},
		{`api-contains changes.before,like x`, anywhere("api contains changes+before like x"), `api \contains changes.before \like x`},
		{`"status is success"`, Test{nil, Phrase{"status", "is", "success"}}, ""},
		{"what is in status", anywhere("what is in status"), ""},
		{"status before x", anywhere("status before x"), `status \before x`},
		{"targetName: status is unknown", has("targetName", "status is unknown"), ""},
		{"userName: x-and-y", user("x and y"), `userName: x \and y`},
		{"user-is-null", anywhere("user is null"), `user is \null`},
		{"user-is-not-null", anywhere("user is not null"), `user is \not null`},
		{"changes: role", has("changes", "role"), ""},
		{"notes ordinary android", anywhere("notes ordinary android"), ""},

		// Quotes.
		{`"disk full"`, Test{nil, Phrase{"disk", "full"}}, ""},
		{`auditComment: "Created, new User!"`, Test{f("auditComment"), Phrase{"created", "new", "user"}}, `auditComment: "created new user"`},
		{`auditComment: "a \" and ( b"`, Test{f("auditComment"), Phrase{"a", "and", "b"}}, `auditComment: "a and b"`},
		{"userName: `Jack`", Test{f("userName"), Equal{"Jack"}}, ""},
		{"userName = Jack", Test{f("userName"), Equal{"Jack"}}, "userName: `Jack`"},
		{"userName = John  Smith-Jones", Test{f("userName"), Equal{"John Smith-Jones"}}, "userName: `John Smith-Jones`"},
		{`userName = "J. \"S\""`, Test{f("userName"), Equal{`J. "S"`}}, "userName: `J. \"S\"`"},
		{"userName: `corp\\jack \\` \\\\`", Test{f("userName"), Equal{"corp\\jack ` \\"}}, "userName: `corp\\\\jack \\` \\\\`"},
		{`userName = a\*b`, Test{f("userName"), Equal{"a*b"}}, "userName: `a*b`"},
		{"userUuid: 1c9a83aa-20p8", Test{f("userUuid"), Equal{"1c9a83aa-20p8"}}, "userUuid: `1c9a83aa-20p8`"},
		{`userUuid: "A"`, Test{f("userUuid"), Equal{"A"}}, "userUuid: `A`"},

		// Patterns.
		{"userName: jo*n", Test{f("userName"), Like{"jo", "n"}}, ""},
		{"userName: *Smith", Test{f("userName"), Like{"", "Smith"}}, ""},
		{"userName: **a**b**", Test{f("userName"), Like{"", "a", "b", ""}}, "userName: *a*b*"},
		{"userName: jo*  smith", Test{f("userName"), Like{"jo", " smith"}}, `userName: jo*" smith"`},
		{`userName: *"a AND (b*"*`, Test{f("userName"), Like{"", "a AND (b*", ""}}, ""},
		{`userName: a\**`, Test{f("userName"), Like{"a*", ""}}, `userName: "a*"*`},
		{"userName: *", Not{Test{f("userName"), Null{}}}, "userName is not null"},
		{"sourceIp: *", Not{Test{f("sourceIp"), Null{}}}, "sourceIp is not null"},

		// Null.
		{"businessUnit is null", Test{f("businessUnit"), Null{}}, ""},
		{"BUSINESSUNIT Is  Not\tNULL", Not{Test{f("businessUnit"), Null{}}}, "businessUnit is not null"},
		{"NOT businessUnit is null", Not{Test{f("businessUnit"), Null{}}}, "businessUnit is not null"},
		{"NOT businessUnit is not null", Not{Not{Test{f("businessUnit"), Null{}}}}, ""},

		// Lists.
		{"moduleCode: [VM, Unit Manager]", Test{f("moduleCode"), among("VM", "Unit Manager")}, ""},
		{"moduleCode:[\"a, b\",`C`, Blocked (Rate)]", Test{f("moduleCode"), among("a, b", "=C", "Blocked (Rate)")}, "moduleCode: [\"a, b\", `C`, \"Blocked (Rate)\"]"},
		{"moduleCode = [VM]", Test{f("moduleCode"), among("=VM")}, "moduleCode: [`VM`]"},
		{"userUuid: [a, `b`]", Test{f("userUuid"), among("=a", "=b")}, "userUuid: [a, b]"},
		{"auditEnabledAppId: [21, 22]", Test{f("auditEnabledAppId"), In{{Value: Number(21)}, {Value: Number(22)}}}, ""},
		{"sourceIp: [10.0.0.0/8, ::1]", Test{f("sourceIp"), In{{Value: network("10.0.0.0/8")}, {Value: ip("::1")}}}, ""},
		{"id: [" + anID + "]", Test{f("id"), In{{Value: ID(uuid.MustParse(anID))}}}, ""},
		{"createdDate: ['2026-01', now-7d]", Test{f("createdDate"), In{{Value: january}, {Value: week}}}, "createdDate: [2026-01, now-7d]"},

		// Numbers, addresses, ids.
		{"auditEnabledAppId: 21", Test{f("auditEnabledAppId"), one(Number(21))}, ""},
		{`auditEnabledAppId = "21"`, Test{f("auditEnabledAppId"), one(Number(21))}, "auditEnabledAppId: 21"},
		{"auditEnabledAppId>=21", Test{f("auditEnabledAppId"), Range{Low: &Bound{Value: Number(21)}}}, "auditEnabledAppId >= 21"},
		{"auditEnabledAppId: < 21", Test{f("auditEnabledAppId"), Range{High: &Bound{Number(21), true}}}, "auditEnabledAppId < 21"},
		{"auditEnabledAppId: [1 .. 5]", Test{f("auditEnabledAppId"), Range{&Bound{Number(1), false}, &Bound{Number(5), false}}}, ""},
		{"auditEnabledAppId: (1...5)", Test{f("auditEnabledAppId"), Range{&Bound{Number(1), true}, &Bound{Number(5), true}}}, "auditEnabledAppId: (1 .. 5)"},
		{"auditEnabledAppId: [1..5)", Test{f("auditEnabledAppId"), Range{&Bound{Number(1), false}, &Bound{Number(5), true}}}, "auditEnabledAppId: [1 .. 5)"},
		{"auditEnabledAppId: (1 .. 5]", Test{f("auditEnabledAppId"), Range{&Bound{Number(1), true}, &Bound{Number(5), false}}}, ""},
		{"sourceIp: 191.160.45.90", Test{f("sourceIp"), one(ip("191.160.45.90"))}, ""},
		{"sourceIp: ::ffff:10.1.2.3", Test{f("sourceIp"), one(ip("10.1.2.3"))}, "sourceIp: 10.1.2.3"},
		{"sourceIp:::1", Test{f("sourceIp"), one(ip("::1"))}, "sourceIp: ::1"},
		{"sourceIp > ::1", Test{f("sourceIp"), Range{Low: &Bound{ip("::1"), true}}}, ""},
		{"sourceIp: [::1 .. ::ff]", Test{f("sourceIp"), Range{&Bound{ip("::1"), false}, &Bound{ip("::ff"), false}}}, ""},
		{"sourceIp: [::/8, ::1]", Test{f("sourceIp"), In{{Value: network("::/8")}, {Value: ip("::1")}}}, ""},
		{"sourceIp: fe80::1", Test{f("sourceIp"), one(ip("fe80::1"))}, ""},
		{"sourceIp: 10.1.2.3/8", Test{f("sourceIp"), one(network("10.0.0.0/8"))}, "sourceIp: 10.0.0.0/8"},
		{"sourceIp: ::ffff:10.0.0.0/104", Test{f("sourceIp"), one(network("10.0.0.0/8"))}, "sourceIp: 10.0.0.0/8"},
		{"sourceIp: 10.0.0.1 - 10.0.0.9", Test{f("sourceIp"), Range{&Bound{ip("10.0.0.1"), false}, &Bound{ip("10.0.0.9"), false}}}, "sourceIp: [10.0.0.1 .. 10.0.0.9]"},
		{"id: " + strings.ToUpper(anID), Test{f("id"), one(ID(uuid.MustParse(anID)))}, "id: " + anID},

		// Dates.
		{"createdDate: 2026", Test{f("createdDate"), one(date("2026", "2026-01-01T00:00:00Z", "2026-12-31T23:59:59.999Z"))}, ""},
		{"createdDate: 2026-01", Test{f("createdDate"), one(january)}, ""},
		{"createdDate: '2026-01-31'", Test{f("createdDate"), one(date("2026-01-31", "2026-01-31T00:00:00Z", "2026-01-31T23:59:59.999Z"))}, "createdDate: 2026-01-31"},
		{"createdDate: 2026-01-31 10:00", Test{f("createdDate"), one(date("2026-01-31T10:00", "2026-01-31T10:00:00Z", "2026-01-31T10:00:59.999Z"))}, "createdDate: 2026-01-31T10:00"},
		{"createdDate: 2026-01-31T10:00+02:00", Test{f("createdDate"), one(date("2026-01-31T10:00+02:00", "2026-01-31T08:00:00Z", "2026-01-31T08:00:59.999Z"))}, ""},
		{"createdDate: 2026-01-31T10:00:05Z", Test{f("createdDate"), one(date("2026-01-31T10:00:05Z", "2026-01-31T10:00:05Z", "2026-01-31T10:00:05.999Z"))}, ""},
		{"createdDate: 2026-01-31T10:00:05.25", Test{f("createdDate"), one(date("2026-01-31T10:00:05.25", "2026-01-31T10:00:05.25Z", "2026-01-31T10:00:05.25Z"))}, ""},
		{"createdDate: 1650444199730", Test{f("createdDate"), one(Date{From: 1650444199730, To: 1650444199730, Text: "1650444199730"})}, ""},
		{"createdDate >= 0", Test{f("createdDate"), Range{Low: &Bound{Value: Date{Text: "0"}}}}, ""},
		{"createdDate > now-7d", Test{f("createdDate"), Range{Low: &Bound{week, true}}}, ""},
		{"createdDate > now - 3M - 2d", Test{f("createdDate"), Range{Low: &Bound{Date{Now: true, Move: []Step{{-3, 'M'}, {-2, 'd'}}, Text: "now-3M-2d"}, true}}}, "createdDate > now-3M-2d"},
		{"createdDate: [2026-01 .. now]", Test{f("createdDate"), Range{&Bound{january, false}, &Bound{Date{Now: true, Text: "now"}, false}}}, ""},
		{"createdDate: ('2026-01'...'now-7d']", Test{f("createdDate"), Range{&Bound{january, true}, &Bound{week, false}}}, "createdDate: (2026-01 .. now-7d]"},

		// And, or, not.
		{"a AND b or c", Or{And{anywhere("a"), anywhere("b")}, anywhere("c")}, "a AND b OR c"},
		{"a and (b OR c)", And{anywhere("a"), Or{anywhere("b"), anywhere("c")}}, "a AND (b OR c)"},
		{"(a AND b) AND (c AND d)", And{anywhere("a"), anywhere("b"), anywhere("c"), anywhere("d")}, "a AND b AND c AND d"},
		{"a OR (b OR (c))", Or{anywhere("a"), anywhere("b"), anywhere("c")}, "a OR b OR c"},
		{"not a and b", And{Not{anywhere("a")}, anywhere("b")}, "NOT a AND b"},
		{"NOT(a and b)", Not{And{anywhere("a"), anywhere("b")}}, "NOT (a AND b)"},
		{"NOT NOT a", Not{Not{anywhere("a")}}, ""},
		{"action:delete AND\nuserName:jack", And{has("action", "delete"), user("jack")}, "action: delete AND userName: jack"},
		{`"a"AND"b"`, And{Test{nil, Phrase{"a"}}, Test{nil, Phrase{"b"}}}, `"a" AND "b"`},

		// Values of one field.
		{"userName:(jack OR jill)", Or{user("jack"), user("jill")}, "userName: jack OR userName: jill"},
		{"userName:(John Smith)", user("john smith"), "userName: john smith"},
		{"userName:(NOT jack AND (`A` OR [b, c]))", And{Not{user("jack")}, Or{Test{f("userName"), Equal{"A"}}, Test{f("userName"), among("b", "c")}}},
			"NOT userName: jack AND (userName: `A` OR userName: [b, c])"},
		{"userName = (A OR B)", Or{Test{f("userName"), Equal{"A"}}, Test{f("userName"), Equal{"B"}}}, "userName: `A` OR userName: `B`"},
		{"auditEnabledAppId:(1 OR > 5 OR (7 .. 9))", Or{Test{f("auditEnabledAppId"), one(Number(1))}, Test{f("auditEnabledAppId"), Range{Low: &Bound{Number(5), true}}},
			Test{f("auditEnabledAppId"), Range{&Bound{Number(7), true}, &Bound{Number(9), true}}}},
			"auditEnabledAppId: 1 OR auditEnabledAppId > 5 OR auditEnabledAppId: (7 .. 9)"},

		// Changes.
		{`changes:(field: role AND after: "Manager")`, inChanges(And{Test{entry("field"), words("role")}, Test{entry("after"), Phrase{"manager"}}}),
			`changes:(field: role AND after: "manager")`},
		{"changes.field: role", inChanges(Test{entry("field"), words("role")}), ""},
		{"changes:(field: role)", inChanges(Test{entry("field"), words("role")}), "changes.field: role"},
		{"Changes.Before is null", inChanges(Test{entry("before"), Null{}}), "changes.before is null"},
		{"changes.before: *", inChanges(Not{Test{entry("before"), Null{}}}), "changes.before is not null"},
		{"NOT changes.before is not null", Not{inChanges(Not{Test{entry("before"), Null{}}})}, ""},
		{"changes:(NOT field: role)", inChanges(Not{Test{entry("field"), words("role")}}), ""},
		{"changes.field:(role OR owner)", inChanges(Or{Test{entry("field"), words("role")}, Test{entry("field"), words("owner")}}), "changes:(field: role OR field: owner)"},
	} {
		got, err := Parse(field.Events, test.query)
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		if diff := cmp.Diff(test.want, got, equal); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.query, diff)
		}
		if got == nil {
			continue
		}
		want := test.print
		if want == "" {
			want = test.query
		}
		if got.String() != want {
			t.Errorf("%s\nprints  %s\nwant    %s", test.query, got, want)
		}
		again, err := Reparse(field.Events, got.String())
		if err != nil {
			t.Errorf("%s printed as %s: %v", test.query, got, err)
		} else if diff := cmp.Diff(got, again, equal); diff != "" {
			t.Errorf("%s printed as %s: -before +after\n%s", test.query, got, diff)
		}
	}
}
