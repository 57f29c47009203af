package sqltext

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		query string
		want  Statement
	}{
		{"SELECT 1", Statement{Kind: KindSelect, Text: "SELECT 1"}},
		{" -- c\n/* ; */ (select 1);", Statement{Kind: KindSelect, Text: " -- c\n/* ; */ (select 1)"}},
		{"SELECT ';' FORMAT CSV", Statement{Kind: KindSelect, Text: "SELECT ';' ", Format: "CSV"}},
		{"SELECT 1 FORMAT CSV SETTINGS a = 1", Statement{Kind: KindSelect, Text: "SELECT 1  SETTINGS a = 1", Format: "CSV"}},
		{"SELECT format FROM t", Statement{Kind: KindSelect, Text: "SELECT format FROM t"}},
		{"WITH x AS (SELECT 1) SELECT * FROM x", Statement{Kind: KindSelect, Text: "WITH x AS (SELECT 1) SELECT * FROM x"}},
		{"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", Statement{Kind: KindCommand, Text: "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"}},
		{"SHOW TABLES", Statement{Kind: KindShow, Text: "SHOW TABLES"}},
		{"CREATE TABLE t (a String) ENGINE = File(CSV)", Statement{Kind: KindCommand, Text: "CREATE TABLE t (a String) ENGINE = File(CSV)"}},
		{"INSERT INTO db.`t x` (a, `b`) FORMAT Native", Statement{Kind: KindInsert, Text: "INSERT INTO db.`t x` (a, `b`) ", Format: "Native", Target: "db.`t x`", Columns: "a, `b`", Data: 43}},
		{"INSERT INTO t VALUES", Statement{Kind: KindInsert, Text: "INSERT INTO t ", Format: "Values", Target: "t", Data: 20}},
		{"INSERT INTO t SETTINGS x = 'VALUES' VALUES (1)", Statement{Kind: KindInsert, Text: "INSERT INTO t SETTINGS x = 'VALUES' ", Format: "Values", Target: "t", Data: 42}},
		{"INSERT INTO TABLE FUNCTION null('a String') ", Statement{Kind: KindInsert, Text: "INSERT INTO TABLE FUNCTION null('a String') ", Target: "null('a String')"}},
		{"INSERT INTO {t:Identifier} (* EXCEPT (a))", Statement{Kind: KindInsert, Text: "INSERT INTO {t:Identifier} (* EXCEPT (a))", Target: "{t:Identifier}", Columns: "* EXCEPT (a)"}},
		{"INSERT INTO t (SELECT 1)", Statement{Kind: KindCommand, Text: "INSERT INTO t (SELECT 1)"}},
		{"INSERT INTO t (a) SELECT 1", Statement{Kind: KindCommand, Text: "INSERT INTO t (a) SELECT 1"}},
		{"SELECT $tag$ ; 'FORMAT x$tag$", Statement{Kind: KindSelect, Text: "SELECT $tag$ ; 'FORMAT x$tag$"}},
	} {
		got, err := Parse(c.query)
		if err != nil {
			t.Errorf("%s: %v", c.query, err)
		}
		if c.want.Data == 0 {
			c.want.Data = len(c.query)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.query, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for query, want := range map[string]error{
		"SELECT 1; DROP TABLE t":         ErrMultiple,
		"SELECT 1;; -- c\n SELECT 2":     ErrMultiple,
		"INSERT INTO t; SELECT 2":        ErrMultiple,
		"SELECT 1 INTO OUTFILE '/tmp/x'": ErrOutfile,
	} {
		if _, err := Parse(query); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", query, err, want)
		}
	}
}

func TestParseColumns(t *testing.T) {
	for list, want := range map[string]Selection{
		"":                     {All: true},
		"*":                    {All: true},
		"* EXCEPT (a, `b`)":    {All: true, Names: []string{"a", "b"}},
		"* EXCEPT a":           {All: true, Names: []string{"a"}},
		"a, `b c`, n.x, \"d\"": {Names: []string{"a", "b c", "n.x", "d"}},
	} {
		got, ok := ParseColumns(list)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%q: %v (-want +got)\n%s", list, ok, diff)
		}
	}
	for _, list := range []string{"a b", "1", "COLUMNS('x')", "a,", "* REPLACE (1 AS a)"} {
		if got, ok := ParseColumns(list); ok {
			t.Errorf("%q: %v, want a refusal", list, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, q := range []string{"SELECT 1 FORMAT CSV", "INSERT INTO t (a) VALUES (1)", "'", "/*", "$a$", "INSERT INTO FUNCTION f(", "(((", "SELECT `a\\", "--"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		st, err := Parse(query)
		if err != nil {
			return
		}
		if st.Data < 0 || st.Data > len(query) || len(st.Text) > len(query) {
			t.Errorf("%q: %+v", query, st)
		}
		if st.Kind == KindInsert && !strings.HasPrefix(query, st.Text) {
			t.Errorf("%q: an insert's text %q is not its beginning", query, st.Text)
		}
		ParseColumns(query)
	})
}

func FuzzQuote(f *testing.F) {
	f.Add(`it's \ a`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, q := range []string{Quote(s), QuoteName(s)} {
			l := &lexer{src: q}
			if tok := l.next(); tok.text != q || l.next().kind != tokenEnd {
				t.Errorf("%q does not hold %q together", q, s)
			}
		}
		if got := Unquote(QuoteName(s)); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

func TestOutsideCall(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT file('x')":                          "file",
		"SELECT 1, FILE /* x */ ('x')":              "FILE",
		"SELECT `\\x66ile`('x')":                    "`\\x66ile`",
		"(SELECT \"file\"('x'))":                    `"file"`,
		"DESC file('x')":                            "file",
		"DESC url('x')":                             "DESCRIBE of a function or a subquery",
		"DESCRIBE t":                                "",
		"SELECT file, 'file(' FROM t -- file(x":     "",
		"SELECT count(`a`) FROM `t` WHERE a IN (1)": "",
	} {
		if got := OutsideCall(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
