package apicall_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
)

func TestOverrideFindsTheClosestLimit(t *testing.T) {
	long := strings.Repeat("a", audit.MaxAPIBytes-1) + "*"
	var o apicall.Override
	err := json.Unmarshal([]byte(`{
		"default": {"concurrency": 1},
		"apis": {
			"api/v1/jobs":  {"concurrency": 2},
			"api/v1/jobs*": {"concurrency": 3},
			"api/v1/*":     {"concurrency": 4},
			"star/*":       {"concurrency": 5},
			"`+long+`":     {"unlimited": true}
		}}`), &o)
	if err != nil {
		t.Fatal(err)
	}
	for api, want := range map[string]int{
		"api/v1/jobs":                            2,
		"api/v1/jobs/{id}":                       3,
		"api/v1/job":                             4,
		"api/v1/":                                4,
		"api/v1":                                 1,
		"star/*":                                 5,
		"":                                       1,
		strings.Repeat("a", audit.MaxAPIBytes):   0,
		strings.Repeat("a", audit.MaxAPIBytes+9): 0,
		strings.Repeat("b", audit.MaxAPIBytes):   1,
	} {
		if got, ok := o.Limit(api); !ok || got != (apicall.Limit{Concurrency: want}) {
			t.Errorf("%q: %+v, %t; want concurrency %d", api, got, ok, want)
		}
	}
	o.Default = nil
	if got, ok := o.Limit("else"); ok {
		t.Errorf("an API that nothing was set for has %+v", got)
	}
	o.APIs["*"] = apicall.Limit{Concurrency: 9}
	if got, ok := o.Limit("else"); !ok || got.Concurrency != 9 {
		t.Errorf("the pattern of everything: %+v, %t", got, ok)
	}
	if got, ok := new(apicall.Override).Limit("api/v1"); ok {
		t.Errorf("the zero override has %+v", got)
	}
}

func TestOverrideIsWrittenOneWay(t *testing.T) {
	for text, want := range map[string]apicall.Override{
		`{}`:                             {},
		`{"default":{"unlimited":true}}`: {Default: &apicall.Limit{}},
		`{"default":{"concurrency":10000,"calls":100000,"windowSec":604800},"apis":{"a":{"calls":1,"windowSec":1},"b*":{"unlimited":true}}}`: {
			Default: &apicall.Limit{Concurrency: apicall.MaxConcurrency, Calls: apicall.MaxCalls, Window: apicall.MaxWindow},
			APIs:    map[string]apicall.Limit{"a": {Calls: 1, Window: time.Second}, "b*": {}},
		},
	} {
		var got apicall.Override
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if out, err := json.Marshal(want); err != nil || string(out) != text {
			t.Errorf("%s is written as %s, %v", text, out, err)
		}
	}
	for _, text := range []string{`{"default":null,"apis":null}`, `{"apis":{}}`} {
		got := apicall.Override{Default: &apicall.Limit{}}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(apicall.Override{}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestWrongOverridesAreRefused(t *testing.T) {
	const whole = "must be a whole number from 1 to "
	for text, want := range map[string]string{
		`null`:                      "must be a JSON object",
		`[]`:                        "must be a JSON object",
		`{"default":{}`:             "limits must be JSON: ",
		`{"default":{}}`:            `default must have concurrency, or calls and windowSec, or "unlimited": true`,
		`{"apis":{"a":null}}`:       `apis["a"] must have concurrency`,
		`{"default":[]}`:            "default must be an object",
		`{"default":5}`:             "default must be an object",
		`{"apis":[]}`:               "apis must be an object",
		`{"apis":{"a":true}}`:       `apis["a"] must be an object`,
		`{"tier":"Premium"}`:        "tier is unknown",
		`{"Default":{}}`:            "Default is unknown",
		`{"default":{"rate":1}}`:    "default.rate is unknown",
		`{"apis":{"a":{"rate":1}}}`: `apis["a"].rate is unknown`,
		`{"default":{"concurrency":1},"default":{"concurrency":1}}`:            `duplicate object member name "default"`,
		`{"default":{"concurrency":1,"concurrency":2}}`:                        `duplicate object member name "concurrency"`,
		`{"apis":{"a":{"concurrency":1},"\u0061":{"concurrency":2}}}`:          "duplicate object member name",
		`{"default":{"concurrency":-1}}`:                                       "default.concurrency " + whole + "10000, not -1",
		`{"default":{"concurrency":0}}`:                                        "default.concurrency " + whole + "10000, not 0",
		`{"default":{"concurrency":10001}}`:                                    "default.concurrency " + whole + "10000, not 10001",
		`{"default":{"concurrency":1.5}}`:                                      "default.concurrency " + whole + "10000",
		`{"default":{"concurrency":"2"}}`:                                      "default.concurrency " + whole + "10000",
		`{"apis":{"a/b":{"calls":1e3,"windowSec":1}}}`:                         `apis["a/b"].calls ` + whole + "100000",
		`{"default":{"calls":99999999999999999999,"windowSec":1}}`:             "default.calls " + whole + "100000",
		`{"default":{"calls":100001,"windowSec":1}}`:                           "default.calls " + whole + "100000, not 100001",
		`{"default":{"calls":1,"windowSec":604801}}`:                           "default.windowSec " + whole + "604800, not 604801",
		`{"default":{"calls":1,"windowSec":9223372036854775807}}`:              "default.windowSec " + whole + "604800",
		`{"default":{"calls":1}}`:                                              "default must have calls and windowSec both, or neither",
		`{"default":{"concurrency":1,"windowSec":9}}`:                          "default must have calls and windowSec both, or neither",
		`{"default":{"unlimited":false}}`:                                      "default: unlimited must be true, and alone",
		`{"default":{"unlimited":true,"calls":1}}`:                             "default: unlimited must be true, and alone",
		`{"default":{"unlimited":1}}`:                                          "default.unlimited must be true, or left out",
		`{"apis":{"":{"unlimited":true}}}`:                                     `apis[""] needs a name`,
		`{"apis":{"a*b":{"unlimited":true}}}`:                                  `apis["a*b"] may have a * only as its last character`,
		`{"apis":{"**":{"unlimited":true}}}`:                                   `apis["**"] may have a * only as its last character`,
		`{"apis":{"` + strings.Repeat("a", 257) + `":{"unlimited":true}}}`:     "must be at most 256 bytes long, not 257",
		`{"default":{"concurrency":-1,"calls":0},"apis":{"a":{"calls":-300}}}`: `not -1; default.calls ` + whole + `100000, not 0; default must have calls and windowSec both, or neither; apis["a"].calls ` + whole + `100000, not -300`,
		manyNames(201, `{"unlimited":true}`):                                   "apis must have at most 200 names, not 201: use patterns",
		manyNames(100, `{}`):                                                   "; and 90 more",
	} {
		var o apicall.Override
		err := o.UnmarshalJSON([]byte(text))
		if err == nil {
			t.Errorf("%s is accepted", text)
			continue
		}
		if got := err.Error(); !strings.Contains(got, want) {
			t.Errorf("%.100s\n got %s\nwant %s", text, got, want)
		} else if strings.Contains(got, "Go ") || strings.Contains(got, "apicall.") {
			t.Errorf("%.100s: speaks of Go: %s", text, got)
		}
	}
	var o apicall.Override
	if err := json.Unmarshal([]byte(manyNames(200, `{"unlimited":true}`)), &o); err != nil {
		t.Errorf("200 names: %v", err)
	}
}

func manyNames(n int, limit string) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"api/%d":%s`, i, limit)
	}
	return `{"apis":{` + strings.Join(names, ",") + `}}`
}

func TestWhatGoBuildsIsChecked(t *testing.T) {
	for want, o := range map[string]apicall.Override{
		"default.windowSec must be a whole number of seconds":   {Default: &apicall.Limit{Calls: 1, Window: 1500 * time.Millisecond}},
		"default.concurrency must be a whole number from 1":     {Default: &apicall.Limit{Concurrency: -1}},
		`apis["a"] must have calls and windowSec both`:          {APIs: map[string]apicall.Limit{"a": {Calls: 3}}},
		`apis["\xff"] must be UTF-8`:                            {APIs: map[string]apicall.Limit{"\xff": {}}},
		"default.windowSec must be a whole number from 1 to 60": {Default: &apicall.Limit{Calls: 1, Window: -time.Second}},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
		if out, err := json.Marshal(o); err == nil {
			t.Errorf("%+v is written as %s", o, out)
		}
	}
}

func FuzzOverride(f *testing.F) {
	f.Add([]byte(`{"default":{"concurrency":2,"calls":300,"windowSec":3600},"apis":{"a/*":{"unlimited":true},"b<\u2028":{"calls":1,"windowSec":1}}}`))
	f.Add([]byte(`{"apis":{"a*b":{},"":null}}`))
	f.Add([]byte(`{"default":{"calls":1e400}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o apicall.Override
		if err := json.Unmarshal(data, &o); err != nil {
			if err.Error() == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		if err := o.Validate(); err != nil {
			t.Fatalf("read, but not valid: %v", err)
		}
		out, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		var again apicall.Override
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("written, but refused: %v: %s", err, out)
		}
		if diff := cmp.Diff(o, again); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
		for name, want := range o.APIs {
			if got, ok := o.Limit(name); !ok || got != want {
				t.Fatalf("%q: %+v, %t, want %+v", name, got, ok, want)
			}
		}
	})
}

func TestALimitIsReadAsItIsWritten(t *testing.T) {
	for _, want := range []apicall.Limit{{}, {Concurrency: 6}, {Calls: 100, Window: time.Second}, {Concurrency: 1, Calls: 2, Window: time.Hour}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got apicall.Limit
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", text, got, err)
		}
	}
	for _, wrong := range []string{`{}`, `{"calls":3}`, `{"concurrency":-1}`, `{"window":1}`, `"2"`} {
		var got apicall.Limit
		if err := json.Unmarshal([]byte(wrong), &got); err == nil {
			t.Errorf("%s is read as %+v", wrong, got)
		}
	}
}
