package contract

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
)

// oracle accepts events by the words of the contract and none of its code: a
// strict JSON parser, the schema, and the rules of schemas/audit/v1/README.md
// that a schema cannot say.
type oracle struct {
	schema     *jsonschema.Schema
	properties map[string]property
	at         time.Time
	maxAge     time.Duration
}

func newOracle(tb testing.TB) *oracle {
	at, maxAge := clock(tb)
	return &oracle{compile(tb), properties(tb), at, maxAge}
}

// refuses says why data is no valid event, "" when it is one.
func (o *oracle) refuses(data []byte) string {
	switch {
	case len(data) > audit.MaxRecordBytes:
		return "record too long"
	case !jsontext.Value(data).IsValid():
		return "no strict JSON"
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		return err.Error()
	}
	if err := o.schema.Validate(doc); err != nil {
		return err.Error()
	}
	event := doc.(map[string]any)
	extra := 0
	for name, value := range event {
		limit := 0
		if p, known := o.properties[name]; known {
			limit = p.MaxLength
		} else {
			extra++
			if len(name) > audit.MaxExtraNameBytes {
				return "name too long"
			}
		}
		if s, ok := value.(string); ok && limit > 0 && len(s) > limit {
			return name + " too long"
		}
		if depth(value) > audit.MaxDepth {
			return name + " too deep"
		}
	}
	if extra > audit.MaxExtraFields {
		return "too many extra fields"
	}
	if changes, ok := event["changes"].([]any); ok {
		for _, change := range changes {
			if len(change.(map[string]any)["field"].(string)) > audit.MaxStringBytes {
				return "field of a change too long"
			}
		}
	}
	created, _ := new(big.Rat).SetString(event["createdDate"].(json.Number).String())
	if created.Cmp(millis(o.at.Add(-o.maxAge))) < 0 || created.Cmp(millis(o.at.Add(audit.MaxAhead))) > 0 {
		return "createdDate out of range"
	}
	return ""
}

func millis(t time.Time) *big.Rat { return new(big.Rat).SetInt64(t.UnixMilli()) }

// depth counts the arrays and objects on the longest way into v.
func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			deepest = max(deepest, depth(item))
		}
	case map[string]any:
		for _, item := range v {
			deepest = max(deepest, depth(item))
		}
	default:
		return 0
	}
	return deepest + 1
}

// check compares the oracle with Decode and Validate.
func (o *oracle) check(tb interface{ Fatalf(string, ...any) }, data []byte) {
	why, err := o.refuses(data), accept(data, o.at, o.maxAge)
	switch {
	case why == "" && err != nil:
		tb.Fatalf("the contract accepts it, Go does not: %v\n%s", err, data)
	case why != "" && err == nil:
		tb.Fatalf("Go accepts it, the contract does not: %s\n%s", why, data)
	}
}

// hugeExponent finds numbers that the schema's library would write out in full.
var hugeExponent = regexp.MustCompile(`[eE][+-]?0*[1-9][0-9]{3,}`)

func FuzzContract(f *testing.F) {
	o := newOracle(f)
	for _, folder := range []string{"valid", "invalid", "invalid-beyond-schema"} {
		for _, data := range examples(f, folder) {
			if len(data) < 4096 {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if hugeExponent.Match(data) {
			t.Skip()
		}
		o.check(t, data)
	})
}

// values are JSON texts on both sides of each field's rules.
func values(name string, p property) []string {
	quoted := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	texts := []string{`null`, `""`, `"x"`, `"\u00e9\ud83d\ude42"`, `"\ud83d"`, `"a\nb"`, `1`, `true`, `{}`, `[]`, "\"\xff\""}
	if p.MaxLength > 0 {
		texts = append(texts, quoted(strings.Repeat("x", p.MaxLength)), quoted(strings.Repeat("x", p.MaxLength+1)),
			quoted(strings.Repeat("é", p.MaxLength/2)), quoted(strings.Repeat("é", p.MaxLength/2+1)))
	}
	switch name {
	case "id":
		texts = append(texts, `"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"`, `"EAA0A5B2-1E46-4F43-9DFE-578A88AE01C9"`, `"00000000-0000-0000-0000-000000000000"`,
			`"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c"`, `"eaa0a5b2-1e46-4f43-9dfe-578a88ae01cg"`, `"eaa0a5b2x1e46-4f43-9dfe-578a88ae01c9"`, `"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9\n"`)
	case "moduleCode":
		texts = append(texts, `"PM"`, `"A"`, `"PM2"`, `"2PM"`, `"pm"`, `"P-M"`, `"PM\n"`, quoted(strings.Repeat("M", 32)), quoted(strings.Repeat("M", 33)))
	case "createdDate":
		texts = append(texts, `1744718490000`, `1744718490000.0`, `1.74471849e12`, `174471849e4`, `17447184900000e-1`, `1744718490000.5`, `-1744718490000`, `0`, `-0`, `0e99`,
			`1`, `1744718490`, `1746057600000`, `1746144000000`, `1746144000001`, `1642377600000`, `1642377599999`, `9223372036854775807`, `9223372036854775808`, `1e400`, `1e-400`, `01`)
	case "auditEnabledAppId":
		texts = append(texts, `0`, `-0.0`, `21`, `2.1e1`, `4294967295`, `4294967296`, `-1`, `0.5`, `1e19`)
	case "sourceIp":
		for _, s := range []string{"10.0.0.1", "255.255.255.255", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4 ", "::", "::1", "2001:db8::1", "2001:DB8:0:0:0:0:0:1",
			"::ffff:1.2.3.4", "1::2::3", "fe80::1%eth0", "[::1]", "1.2.3.4%eth0", "::ffff:1.2.3.4%1", "12345::", ":::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::", "::1.2.3.4", "1.2.3.4::", "0x1.2.3.4"} {
			texts = append(texts, quoted(s))
		}
	case "endpointType":
		texts = append(texts, `"Web UI"`, `"API"`, `"Background Task"`, `"api"`, `"Web  UI"`)
	case "action":
		texts = append(texts, `"Login"`, `"login"`, `"LOGIN"`, `"\u004cogin"`, `"Login "`, `"Log\u0131n"`)
	case "changes":
		texts = append(texts, `[{"field":"x"}]`, `[{"field":"x","before":null,"after":{"a":[1]}}]`, `[{"field":"x"},{"before":1}]`, `[{"field":""}]`, `[{"field":null}]`, `[{"field":"x","a":1}]`,
			`[{"field":"x","field":"x"}]`, `[{"field":"x","after":`+strings.Repeat("[", 30)+strings.Repeat("]", 30)+`}]`, `[{"field":"x","after":`+strings.Repeat("[", 31)+strings.Repeat("]", 31)+`}]`, `[null]`, `[[]]`)
	}
	return texts
}

// Events put together from values on both sides of every rule are accepted or
// refused by all statements of the contract alike.
func TestStatementsAgree(t *testing.T) {
	o := newOracle(t)
	pool := map[string][]string{}
	var names []string
	for name, p := range o.properties {
		pool[name] = values(name, p)
		names = append(names, name)
	}
	extras := []string{`"Region":1`, `"ModuleCode":"PM"`, `"x":{"a":{"a":1}}`, `"x":{"a":1,"a":2}`, `"":null`,
		`"` + strings.Repeat("é", 128) + `":1`, `"` + strings.Repeat("é", 129) + `":1`, `"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32),
		`"y":` + strings.Repeat("[", 33) + strings.Repeat("]", 33), `"\u0061ction":"Add"`, `"z":01`, `"z":1e5`, `"z":-`}
	rapid.Check(t, func(t *rapid.T) {
		members := map[string]string{"customerUuid": `"c"`, "moduleCode": `"PM"`, "action": `"Add"`, "userName": `"u"`, "createdDate": `1744718490000`}
		for range rapid.IntRange(0, 3).Draw(t, "fields") {
			name := rapid.SampledFrom(names).Draw(t, "field")
			if rapid.IntRange(0, 5).Draw(t, "drop") == 0 {
				delete(members, name)
				continue
			}
			members[name] = rapid.SampledFrom(pool[name]).Draw(t, name)
		}
		var parts []string
		for name, value := range members {
			parts = append(parts, `"`+name+`":`+value)
		}
		parts = append(parts, rapid.SliceOfN(rapid.SampledFrom(extras), 0, 2).Draw(t, "extras")...)
		separator := rapid.SampledFrom([]string{",", " ,\n", ",,"}).Draw(t, "separator")
		if rapid.IntRange(0, 9).Draw(t, "commas") > 0 {
			separator = ","
		}
		o.check(t, []byte("{"+strings.Join(parts, separator)+"}"))
	})
}

// One at a time, so that none is left to chance.
func TestEveryValueAgrees(t *testing.T) {
	o := newOracle(t)
	for name, p := range o.properties {
		for _, value := range values(name, p) {
			base := map[string]string{"customerUuid": `"c"`, "moduleCode": `"PM"`, "action": `"Add"`, "userName": `"u"`, "createdDate": `1744718490000`, "endpointType": `"API"`}
			base[name] = value
			var parts []string
			for n, v := range base {
				parts = append(parts, `"`+n+`":`+v)
			}
			o.check(t, []byte("{"+strings.Join(parts, ",")+"}"))
		}
	}
}
