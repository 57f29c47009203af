package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func decoded(tb testing.TB, data string) Event {
	tb.Helper()
	var e Event
	if err := Decode([]byte(data), &e); err != nil {
		tb.Fatalf("%s: %v", data, err)
	}
	return e
}

func TestDecode(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":%d`, i, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	tests := map[string]struct {
		in   string
		want Event
	}{
		"nothing":               {`{}`, Event{}},
		"white space":           {" \r\n\t{ \"action\" : \"Add\" , \"createdDate\" : 12 } \n", Event{Action: "Add", CreatedDate: 12}},
		"null is absent":        {`{"id":null,"createdDate":null,"auditEnabledAppId":null,"changes":null,"action":null}`, Event{}},
		"numbers":               {`{"createdDate":-5,"auditEnabledAppId":4294967295}`, Event{CreatedDate: -5, AuditEnabledAppID: 4294967295}},
		"fraction of zero":      {`{"createdDate":1650444199730.000,"auditEnabledAppId":-0.0e9}`, Event{CreatedDate: 1650444199730}},
		"exponent":              {`{"createdDate":1.65e12,"auditEnabledAppId":2100E-2}`, Event{CreatedDate: 1650000000000, AuditEnabledAppID: 21}},
		"extreme numbers":       {`{"createdDate":-9223372036854775808}`, Event{CreatedDate: -1 << 63}},
		"escapes":               {`{"action":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude42é€🙂"}`, Event{Action: "\"\\/\b\f\n\r\tAé€🙂é€🙂"}},
		"escaped name":          {`{"a\u0063tion":"Add"}`, Event{Action: "Add"}},
		"long text":             {`{"auditComment":"` + strings.Repeat("0123456é", 100) + `"}`, Event{AuditComment: strings.Repeat("0123456é", 100)}},
		"changes":               {`{"changes": [ {"field":"a","before":[1,{"x":2}]} , { "after" : null , "field" : "b" } ] }`, Event{Changes: []byte(`[ {"field":"a","before":[1,{"x":2}]} , { "after" : null , "field" : "b" } ]`)}},
		"no changes":            {`{"changes":[ ]}`, Event{Changes: []byte(`[ ]`)}},
		"deepest change":        {`{"changes":[{"field":"a","after":` + deep(MaxDepth-2) + `}]}`, Event{Changes: []byte(`[{"field":"a","after":` + deep(MaxDepth-2) + `}]`)}},
		"extra":                 {`{"region" : "eu" , "action":"Add","\u006e" :null, "Action":1e5, "":[ ]}`, Event{Action: "Add", Extra: []byte(`{"region":"eu","\u006e":null,"Action":1e5,"":[ ]}`)}},
		"deepest extra":         {`{"x":` + deep(MaxDepth) + `}`, Event{Extra: []byte(`{"x":` + deep(MaxDepth) + `}`)}},
		"most extra":            {many(MaxExtraFields), Event{Extra: []byte(many(MaxExtraFields))}},
		"large nested object":   {`{"x":` + many(5000) + `}`, Event{Extra: []byte(`{"x":` + many(5000) + `}`)}},
		"same names apart":      {`{"x":[{"a":{"a":1}},{"a":2}],"a":1}`, Event{Extra: []byte(`{"x":[{"a":{"a":1}},{"a":2}],"a":1}`)}},
		"names after an object": {`{"x":{"a":{"b":1,"c":2},"b":3,"c":4}}`, Event{Extra: []byte(`{"x":{"a":{"b":1,"c":2},"b":3,"c":4}}`)}},
		"literals":              {`{"x":[true,false,null,"",-0,0.5,1E+2]}`, Event{Extra: []byte(`{"x":[true,false,null,"",-0,0.5,1E+2]}`)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := Event{Action: "left over", Extra: []byte("{}"), CreatedDate: 1}
			if err := Decode([]byte(test.in), &e); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, e); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	var names strings.Builder
	for i := range 40 {
		fmt.Fprintf(&names, `"k%d":0,`, i)
	}
	tests := map[string]struct{ in, rule, field string }{
		"empty":                 {``, RuleJSON, ""},
		"only space":            {" \n", RuleJSON, ""},
		"array":                 {`[]`, RuleType, ""},
		"no JSON":               {`hello`, RuleJSON, ""},
		"open object":           {`{`, RuleJSON, ""},
		"open name":             {`{"act`, RuleJSON, ""},
		"no colon":              {`{"action" "Add"}`, RuleJSON, ""},
		"no value":              {`{"action":}`, RuleJSON, "action"},
		"no value at the end":   {`{"action":`, RuleJSON, "action"},
		"open string":           {`{"action":"Add`, RuleJSON, "action"},
		"open escape":           {`{"action":"Add\`, RuleJSON, "action"},
		"trailing comma":        {`{"action":"Add",}`, RuleJSON, ""},
		"second object":         {`{"action":"Add"}{}`, RuleJSON, ""},
		"second after nothing":  {`{}{}`, RuleJSON, ""},
		"name without quotes":   {`{action:"Add"}`, RuleJSON, ""},
		"single quotes":         {`{'action':'Add'}`, RuleJSON, ""},
		"raw newline":           {"{\"action\":\"A\ndd\"}", RuleJSON, "action"},
		"raw NUL":               {"{\"action\":\"A\x00dd\"}", RuleJSON, "action"},
		"unknown escape":        {`{"action":"\x41"}`, RuleJSON, "action"},
		"short escape":          {`{"action":"\u12"}`, RuleJSON, "action"},
		"bad digits":            {`{"action":"\u12g4"}`, RuleJSON, "action"},
		"lone high surrogate":   {`{"action":"\ud800"}`, RuleUTF8, "action"},
		"lone low surrogate":    {`{"action":"\udc00"}`, RuleUTF8, "action"},
		"two high surrogates":   {`{"action":"\ud800\ud800"}`, RuleUTF8, "action"},
		"surrogate and text":    {`{"action":"\ud800x12345"}`, RuleUTF8, "action"},
		"not UTF-8":             {"{\"action\":\"\xff\"}", RuleUTF8, "action"},
		"cut UTF-8":             {"{\"action\":\"12345678\xc3\"}", RuleUTF8, "action"},
		"overlong UTF-8":        {"{\"action\":\"\xc0\xaf\"}", RuleUTF8, "action"},
		"not UTF-8 in a name":   {"{\"\xff\":1}", RuleUTF8, ""},
		"not UTF-8 in an extra": {"{\"x\":[\"\xff\"]}", RuleUTF8, `"x"`},
		"twice":                 {`{"action":"a","action":"a"}`, RuleDuplicate, ""},
		"twice with null":       {`{"action":null,"action":"a"}`, RuleDuplicate, ""},
		"twice escaped":         {`{"action":"a","\u0061ction":"a"}`, RuleDuplicate, ""},
		"extra twice":           {`{"x":1,"\u0078":1}`, RuleDuplicate, ""},
		"nested twice":          {`{"x":{"y":{"a":1,"b":2,"a":3}}}`, RuleDuplicate, `"x"`},
		"nested twice of many":  {`{"x":{` + names.String() + `"k7":1}}`, RuleDuplicate, `"x"`},
		"last of many twice":    {`{"x":{` + names.String() + `"k39":1}}`, RuleDuplicate, `"x"`},
		"number for a string":   {`{"action":1}`, RuleType, "action"},
		"bad number for string": {`{"action":-}`, RuleJSON, "action"},
		"true for a string":     {`{"action":true}`, RuleType, "action"},
		"object for a string":   {`{"action":{}}`, RuleType, "action"},
		"string for a number":   {`{"createdDate":"1"}`, RuleType, "createdDate"},
		"bool for a number":     {`{"createdDate":true}`, RuleType, "createdDate"},
		"fraction":              {`{"createdDate":1.5}`, RuleType, "createdDate"},
		"small exponent":        {`{"createdDate":1e-1}`, RuleType, "createdDate"},
		"leading zero":          {`{"createdDate":01}`, RuleJSON, ""},
		"plus":                  {`{"createdDate":+1}`, RuleJSON, "createdDate"},
		"no digits":             {`{"createdDate":-}`, RuleJSON, "createdDate"},
		"no fraction":           {`{"createdDate":1.}`, RuleJSON, "createdDate"},
		"no exponent":           {`{"createdDate":1e}`, RuleJSON, "createdDate"},
		"too large":             {`{"createdDate":9223372036854775808}`, RuleRange, "createdDate"},
		"too small":             {`{"createdDate":-9223372036854775809}`, RuleRange, "createdDate"},
		"far too large":         {`{"createdDate":1e999999999999}`, RuleRange, "createdDate"},
		"far too many digits":   {`{"createdDate":1` + strings.Repeat("0", 5000) + `}`, RuleRange, "createdDate"},
		"negative app":          {`{"auditEnabledAppId":-1}`, RuleRange, "auditEnabledAppId"},
		"large app":             {`{"auditEnabledAppId":4294967296}`, RuleRange, "auditEnabledAppId"},
		"changes an object":     {`{"changes":{}}`, RuleType, "changes"},
		"changes a string":      {`{"changes":""}`, RuleType, "changes"},
		"change a string":       {`{"changes":[""]}`, RuleType, "changes"},
		"change without field":  {`{"changes":[{}]}`, RuleRequired, "changes"},
		"change not closed":     {`{"changes":[{"field":"a"]}`, RuleJSON, "changes"},
		"changes not closed":    {`{"changes":[{"field":"a"}`, RuleJSON, "changes"},
		"change twice":          {`{"changes":[{"field":"a","field":"b"}]}`, RuleDuplicate, "changes"},
		"change other member":   {`{"changes":[{"field":"a","Field":"b"}]}`, RuleUnknown, "changes"},
		"change too deep":       {`{"changes":[{"field":"a","after":` + deep(MaxDepth-1) + `}]}`, RuleDepth, "changes"},
		"extra too deep":        {`{"x":` + deep(MaxDepth+1) + `}`, RuleDepth, `"x"`},
		"open array":            {`{"x":[1`, RuleJSON, `"x"`},
		"array without comma":   {`{"x":[1 2]}`, RuleJSON, `"x"`},
		"open nested object":    {`{"x":{"a":1`, RuleJSON, `"x"`},
		"bad literal":           {`{"x":nul}`, RuleJSON, `"x"`},
		"not a number":          {`{"x":NaN}`, RuleJSON, `"x"`},
		"too long":              {`{"action":"` + strings.Repeat("x", MaxRecordBytes) + `"}`, RuleRecord, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var e Event
			err := Decode([]byte(test.in), &e)
			var d *DecodeError
			if !errors.As(err, &d) {
				t.Fatalf("got %v, want a DecodeError", err)
			}
			if d.Rule != test.rule || d.Field != test.field {
				t.Errorf("got rule %q, field %q (%v); want %q, %q", d.Rule, d.Field, err, test.rule, test.field)
			}
			if d.Offset < 0 || d.Offset > len(test.in) {
				t.Errorf("offset %d is outside the %d bytes", d.Offset, len(test.in))
			}
		})
	}
}

// Every cut of an event is refused, and none reads past its end.
func TestDecodeRefusesEveryCut(t *testing.T) {
	whole := `{"id":"a\n\ud83d\ude42é","createdDate":1.5e3,"changes":[{"field":"x","after":{"a":[1]}}],"x":{"y":"z"}}`
	decoded(t, whole)
	for n := range len(whole) {
		var e Event
		if err := Decode([]byte(whole)[:n:n], &e); err == nil {
			t.Errorf("%s was accepted", whole[:n])
		}
	}
}

// The strings of a decoded event are views of its bytes, so that ingest copies
// nothing; what a caller needs longer it must clone.
func TestDecodeAliases(t *testing.T) {
	data := []byte(`{"action":"Add","targetName":"a\"b","changes":[]}`)
	var e Event
	if err := Decode(data, &e); err != nil {
		t.Fatal(err)
	}
	if unsafe.StringData(e.Action) != &data[11] {
		t.Error("action is a copy")
	}
	clear(data)
	if e.TargetName != `a"b` {
		t.Errorf("targetName, which had an escape, is no copy: %q", e.TargetName)
	}
}

func TestDecodeAndValidateDoNotAllocate(t *testing.T) {
	data := []byte(workload)
	var e Event
	dst := make([]byte, 0, 2048)
	allocs := testing.AllocsPerRun(100, func() {
		if err := Decode(data, &e); err != nil {
			t.Fatal(err)
		}
		if err := e.Validate(workloadClock, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := e.AppendJSON(dst); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

// Quadratic time would let one record stall a lane.
func TestDecodeIsLinear(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"x":{`)
	for i := 0; b.Len() < MaxRecordBytes-20; i++ {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	data := []byte(strings.TrimSuffix(b.String(), ",") + "}}")
	result := testing.Benchmark(func(b *testing.B) {
		var e Event
		for b.Loop() {
			if err := Decode(data, &e); err != nil {
				b.Fatal(err)
			}
		}
	})
	// A few milliseconds; comparing each name with all others takes a second.
	if per := result.NsPerOp(); per > 300e6 {
		t.Errorf("a record of %d bytes takes %d ms", len(data), per/1e6)
	}
}

func TestErrorsHoldNoValues(t *testing.T) {
	const secret = "hunter2"
	for _, in := range []string{
		`{"createdDate":"` + secret + `"}`,
		`{"action":["` + secret + `"]}`,
		`{"action":"` + secret + "\x01\"}",
		`{"auditComment":"` + secret + `"`,
		`{"x":{"a":"` + secret + `",}}`,
		`{"changes":["` + secret + `"]}`,
		`{"id":"` + secret + `","endpointType":"` + secret + `","sourceIp":"` + secret + `","moduleCode":"` + secret + `","userUuid":"` + strings.Repeat(secret, 20) + `"}`,
	} {
		var e Event
		err := Decode([]byte(in), &e)
		if err == nil {
			err = e.Validate(workloadClock, 0)
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", in, err)
		}
	}
}
