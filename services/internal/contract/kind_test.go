package contract

import (
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// kind is one kind of records, with everything that states its contract.
type kind struct {
	name     string // of the golden files
	schema   string // file
	examples string // folder
	more     int    // members that a record may have beside the known ones
	goType   reflect.Type
	accept   func(data []byte, at time.Time, maxAge time.Duration) error // what a taker of records does
	// beyond says which rule that no schema can say a record breaks; "" for none.
	beyond func(record map[string]any, known map[string]property, at time.Time, maxAge time.Duration) string
	base   map[string]string // a valid record, as JSON texts
	values func(name string) []string
	extras []string // members of other names
}

func (k kind) example(folder string) string { return k.examples + "/" + folder }

var kinds = []kind{events, apiCalls}

var events = kind{
	name:     "event",
	schema:   "audit/v1/event.schema.json",
	examples: examplesRoot,
	more:     audit.MaxExtraFields,
	goType:   reflect.TypeFor[audit.Event](),
	accept: func(data []byte, at time.Time, maxAge time.Duration) error {
		var e audit.Event
		if err := audit.Decode(data, &e); err != nil {
			return err
		}
		return e.Validate(at, maxAge)
	},
	beyond: func(event map[string]any, known map[string]property, at time.Time, maxAge time.Duration) string {
		extra := 0
		for name := range event {
			if _, ok := known[name]; !ok {
				extra++
				if len(name) > audit.MaxExtraNameBytes {
					return "name too long"
				}
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
		created := number(event["createdDate"])
		if created.Cmp(millis(at.Add(-maxAge))) < 0 || created.Cmp(millis(at.Add(audit.MaxAhead))) > 0 {
			return "createdDate out of range"
		}
		return ""
	},
	base: map[string]string{"customerUuid": `"c"`, "moduleCode": `"PM"`, "action": `"Add"`, "userName": `"u"`, "createdDate": `1744718490000`, "endpointType": `"API"`},
	values: func(name string) []string {
		switch name {
		case "id":
			return uuids
		case "moduleCode":
			return moduleCodes
		case "createdDate":
			return dates
		case "auditEnabledAppId":
			return numbers
		case "sourceIp":
			return addresses
		case "endpointType":
			return []string{`"Web UI"`, `"API"`, `"Background Task"`, `"api"`, `"Web  UI"`}
		case "action":
			return []string{`"Login"`, `"login"`, `"LOGIN"`, `"\u004cogin"`, `"Login "`, `"Log\u0131n"`}
		case "changes":
			return []string{`[{"field":"x"}]`, `[{"field":"x","before":null,"after":{"a":[1]}}]`, `[{"field":"x"},{"before":1}]`, `[{"field":""}]`, `[{"field":null}]`, `[{"field":"x","a":1}]`,
				`[{"field":"x","field":"x"}]`, `[{"field":"x","after":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + `}]`, `[{"field":"x","after":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}]`, `[null]`, `[[]]`}
		}
		return nil
	},
	extras: []string{
		`"Region":1`, `"ModuleCode":"PM"`, `"x":{"a":{"a":1}}`, `"x":{"a":1,"a":2}`, `"":null`,
		`"` + strings.Repeat("é", 128) + `":1`, `"` + strings.Repeat("é", 129) + `":1`, `"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32),
		`"y":` + strings.Repeat("[", 33) + strings.Repeat("]", 33), `"\u0061ction":"Add"`, `"z":01`, `"z":1e5`, `"z":-`,
	},
}

var apiCalls = kind{
	name:     "api-call",
	schema:   "audit/v1/api-call.schema.json",
	examples: examplesRoot + "/api-call",
	goType:   reflect.TypeFor[audit.APICall](),
	accept: func(data []byte, at time.Time, maxAge time.Duration) error {
		var c audit.APICall
		if err := audit.DecodeAPICall(data, &c); err != nil {
			return err
		}
		return c.Validate(at, maxAge)
	},
	beyond: func(call map[string]any, _ map[string]property, at time.Time, maxAge time.Duration) string {
		submitted, updated := number(call["submittedDate"]), number(call["updatedDate"])
		switch ahead := millis(at.Add(audit.MaxAhead)); {
		case submitted.Cmp(millis(at.Add(-maxAge))) < 0 || submitted.Cmp(ahead) > 0:
			return "submittedDate out of range"
		case updated.Cmp(submitted) < 0 || updated.Cmp(ahead) > 0:
			return "updatedDate out of range"
		}
		return ""
	},
	base: map[string]string{
		"callId": `"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"`, "customerUuid": `"c"`, "moduleCode": `"PM"`, "api": `"jobs"`,
		"state": `"Running"`, "userName": `"u"`, "submittedDate": `1744718490000`, "updatedDate": `1744718490000`,
	},
	values: func(name string) []string {
		switch name {
		case "callId":
			return uuids
		case "moduleCode":
			return moduleCodes
		case "submittedDate", "updatedDate":
			return append(dates, `1744718490001`, `1744718489999`)
		case "durationMs":
			return numbers
		case "httpStatus":
			return append(numbers, `99`, `100`, `200`, `2e2`, `599`, `600`, `1e-400`)
		case "sourceIp":
			return addresses
		case "heartbeat", "durable":
			return []string{`true`, `false`, `"true"`, `tru`, `0`}
		case "state":
			var states []string
			for _, s := range audit.APICallStates {
				states = append(states, quoted(s), quoted(strings.ToLower(s)), quoted(s+" "))
			}
			return append(states, `"Blocked"`, `"Blo\u0063ked (Rate)"`)
		}
		return nil
	},
	extras: []string{`"Region":1`, `"CallId":null`, `"id":"x"`, `"createdDate":1`, `"":null`, `"st\u0061te":"Queued"`, `"z":01`, `"x":{"a":1,"a":2}`, `"heartbeat":null`},
}

// JSON texts on both sides of rules that kinds share.
var (
	uuids = []string{
		`"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9"`, `"EAA0A5B2-1E46-4F43-9DFE-578A88AE01C9"`, `"00000000-0000-0000-0000-000000000000"`,
		`"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c"`, `"eaa0a5b2-1e46-4f43-9dfe-578a88ae01cg"`, `"eaa0a5b2x1e46-4f43-9dfe-578a88ae01c9"`, `"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9\n"`,
	}
	moduleCodes = []string{`"PM"`, `"A"`, `"PM2"`, `"2PM"`, `"pm"`, `"P-M"`, `"PM\n"`, quoted(strings.Repeat("M", 32)), quoted(strings.Repeat("M", 33))}
	dates       = []string{
		`1744718490000`, `1744718490000.0`, `1.74471849e12`, `174471849e4`, `17447184900000e-1`, `1744718490000.5`, `-1744718490000`, `0`, `-0`, `0e99`,
		`1`, `1744718490`, `1746057600000`, `1746144000000`, `1746144000001`, `1642377600000`, `1642377599999`, `9223372036854775807`, `9223372036854775808`, `1e400`, `1e-400`, `01`,
	}
	numbers   = []string{`0`, `-0.0`, `1`, `21`, `2.1e1`, `4294967295`, `4294967296`, `-1`, `0.5`, `1e19`}
	addresses = func() []string {
		var texts []string
		for _, s := range []string{
			"10.0.0.1", "255.255.255.255", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4 ", "::", "::1", "2001:db8::1", "2001:DB8:0:0:0:0:0:1",
			"::ffff:1.2.3.4", "1::2::3", "fe80::1%eth0", "[::1]", "1.2.3.4%eth0", "::ffff:1.2.3.4%1", "12345::", ":::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::", "::1.2.3.4", "1.2.3.4::", "0x1.2.3.4",
		} {
			texts = append(texts, quoted(s))
		}
		return texts
	}()
)

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func number(v any) *big.Rat {
	r, _ := new(big.Rat).SetString(v.(json.Number).String())
	return r
}

func millis(t time.Time) *big.Rat { return new(big.Rat).SetInt64(t.UnixMilli()) }
