package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// callWorkload is a record as the middleware sends it.
const callWorkload = `{"callId":"019f1d8c-e27b-774f-9121-4e19385bf7e0","customerUuid":"1263b8de-7a2b-4442-a62a-7e3ea8cd6b49","moduleCode":"PM","api":"api/v1/jobs/{id}","method":"GET","state":"Finished","submittedDate":1782800599113,"updatedDate":1782800599413,"durationMs":300,"httpStatus":200,"userName":"Maria Rossi 31","userRole":"Administrator","userUuid":"8b7737c9-6133-492a-a7d7-33fd078ce595","businessUnit":"Unassigned","client":"curl/8.14.1","sourceIp":"167.35.71.104","requestId":"req-17"}`

func workloadCall(tb testing.TB) *APICall {
	tb.Helper()
	c := new(APICall)
	if err := DecodeAPICall([]byte(callWorkload), c); err != nil {
		tb.Fatal(err)
	}
	return c
}

// anyCall draws records of any content; most are not valid.
func anyCall(t *rapid.T) *APICall {
	c := &APICall{
		Heartbeat:     rapid.Bool().Draw(t, "heartbeat"),
		Durable:       rapid.Bool().Draw(t, "durable"),
		SubmittedDate: rapid.Int64().Draw(t, "submitted"),
		UpdatedDate:   rapid.Int64().Draw(t, "updated"),
		DurationMs:    rapid.Uint32().Draw(t, "duration"),
		HTTPStatus:    rapid.Uint32().Draw(t, "status"),
	}
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`["\\\x00-\x1f\x7fé€🙂]{0,12}`))
	for f := range callFieldCount {
		if s := c.text(f); s != nil {
			*s = text.Draw(t, callNames[f])
		}
	}
	return c
}

func TestAPICallRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCall(t)
		data, err := c.AppendJSON([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		data = data[len("before"):]
		if value := jsontext.Value(data); !value.IsValid() {
			t.Fatalf("not strict JSON: %s", data)
		}
		var got APICall
		if err := DecodeAPICall(data, &got); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if diff := cmp.Diff(c, &got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		// As encoding/json would write it, so that tags and encoder agree.
		want, err := marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(canonical(t, want), canonical(t, data)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestDecodeAPICall(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want APICall
	}{
		"nothing":            {`{}`, APICall{}},
		"white space":        {" \r\n\t{ \"state\" : \"Queued\" , \"updatedDate\" : 12 } \n", APICall{State: "Queued", UpdatedDate: 12}},
		"any order":          {`{"state":"Queued","callId":"x"}`, APICall{State: "Queued", CallID: "x"}},
		"null is absent":     {`{"callId":null,"heartbeat":null,"durable":null,"submittedDate":null,"durationMs":null,"httpStatus":null}`, APICall{}},
		"heartbeat":          {`{"heartbeat":true}`, APICall{Heartbeat: true}},
		"durable":            {`{"durable":true}`, APICall{Durable: true}},
		"false is absent":    {`{"heartbeat":false,"durable":false}`, APICall{}},
		"numbers":            {`{"submittedDate":-5,"durationMs":4294967295,"httpStatus":2e2}`, APICall{SubmittedDate: -5, DurationMs: 4294967295, HTTPStatus: 200}},
		"escapes":            {`{"reason":"\"\u00e9\ud83d\ude42é"}`, APICall{Reason: "\"é🙂é"}},
		"escaped name":       {`{"st\u0061te":"Queued"}`, APICall{State: "Queued"}},
		"every text is kept": {`{"state":"no state"}`, APICall{State: "no state"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := APICall{API: "left over", Heartbeat: true, Durable: true}
			if err := DecodeAPICall([]byte(test.in), &c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, c); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeAPICallRefuses(t *testing.T) {
	for name, test := range map[string]struct{ in, rule, field string }{
		"empty":                {``, RuleJSON, ""},
		"array":                {`[]`, RuleType, ""},
		"open object":          {`{`, RuleJSON, ""},
		"no colon":             {`{"state" "x"}`, RuleJSON, ""},
		"no value":             {`{"state":}`, RuleJSON, "state"},
		"no value at the end":  {`{"state":`, RuleJSON, "state"},
		"open string":          {`{"state":"Que`, RuleJSON, "state"},
		"trailing comma":       {`{"state":"x",}`, RuleJSON, ""},
		"second object":        {`{"state":"x"}{}`, RuleJSON, ""},
		"lone surrogate":       {`{"reason":"\ud800"}`, RuleUTF8, "reason"},
		"not UTF-8":            {"{\"reason\":\"\xff\"}", RuleUTF8, "reason"},
		"not UTF-8 in a name":  {"{\"\xff\":1}", RuleUTF8, ""},
		"twice":                {`{"state":"a","state":"a"}`, RuleDuplicate, ""},
		"twice with null":      {`{"state":null,"state":"a"}`, RuleDuplicate, ""},
		"twice escaped":        {`{"state":"a","st\u0061te":"a"}`, RuleDuplicate, ""},
		"heartbeat twice":      {`{"heartbeat":false,"heartbeat":true}`, RuleDuplicate, ""},
		"number for a string":  {`{"state":1}`, RuleType, "state"},
		"object for a string":  {`{"state":{}}`, RuleType, "state"},
		"string for a number":  {`{"httpStatus":"200"}`, RuleType, "httpStatus"},
		"bool for a number":    {`{"durationMs":true}`, RuleType, "durationMs"},
		"number for a bool":    {`{"heartbeat":1}`, RuleType, "heartbeat"},
		"string for a bool":    {`{"heartbeat":"true"}`, RuleType, "heartbeat"},
		"durable in quotes":    {`{"durable":"true"}`, RuleType, "durable"},
		"durable twice":        {`{"durable":true,"durable":true}`, RuleDuplicate, ""},
		"no bool":              {`{"heartbeat":tru}`, RuleJSON, "heartbeat"},
		"more than a bool":     {`{"heartbeat":truex}`, RuleJSON, ""},
		"fraction":             {`{"updatedDate":1.5}`, RuleType, "updatedDate"},
		"negative duration":    {`{"durationMs":-1}`, RuleRange, "durationMs"},
		"large status":         {`{"httpStatus":4294967296}`, RuleRange, "httpStatus"},
		"too large":            {`{"submittedDate":9223372036854775808}`, RuleRange, "submittedDate"},
		"unknown":              {`{"state":"Queued","region":"eu"}`, RuleUnknown, `"region"`},
		"unknown with null":    {`{"region":null}`, RuleUnknown, `"region"`},
		"a field of the event": {`{"createdDate":1}`, RuleUnknown, `"createdDate"`},
		"too long":             {`{"reason":"` + strings.Repeat("x", MaxRecordBytes) + `"}`, RuleRecord, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var c APICall
			err := DecodeAPICall([]byte(test.in), &c)
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
			if !strings.HasPrefix(err.Error(), "decode API call at byte ") {
				t.Errorf("%q does not say that it is about an API call", err)
			}
		})
	}
}

func TestDecodeAPICallSaysWhatWasMeant(t *testing.T) {
	for name, meant := range map[string]string{"CallID": "callId", "call_id": "callId", "http-status": "httpStatus", "SOURCEIP": "sourceIp"} {
		var c APICall
		err := DecodeAPICall(fmt.Appendf(nil, `{"state":"Queued",%q:"x"}`, name), &c)
		want := fmt.Sprintf("decode API call at byte 18: %q is no field of an API call: did you mean %s?", name, meant)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestDecodeAPICallRefusesEveryCut(t *testing.T) {
	for n := range len(callWorkload) {
		var c APICall
		if err := DecodeAPICall([]byte(callWorkload)[:n:n], &c); err == nil {
			t.Errorf("%s was accepted", callWorkload[:n])
		}
	}
}

func TestDecodeAPICallAliases(t *testing.T) {
	data := []byte(`{"api":"jobs","reason":"a\"b"}`)
	var c APICall
	if err := DecodeAPICall(data, &c); err != nil {
		t.Fatal(err)
	}
	if unsafe.StringData(c.API) != &data[8] {
		t.Error("api is a copy")
	}
	clear(data)
	if c.Reason != `a"b` {
		t.Errorf("reason, which had an escape, is no copy: %q", c.Reason)
	}
}

func TestAPICallDoesNotAllocate(t *testing.T) {
	data := []byte(callWorkload)
	var c APICall
	dst := make([]byte, 0, 2048)
	allocs := testing.AllocsPerRun(100, func() {
		if err := DecodeAPICall(data, &c); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(workloadClock, 0); err != nil {
			t.Fatal(err)
		}
		if out, err := c.AppendJSON(dst); err != nil || len(out) != len(data) {
			t.Fatal(err)
		}
		if c.ID() == [16]byte{} {
			t.Fatal("no id")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestAPICallAppendJSONRefuses(t *testing.T) {
	for _, c := range []APICall{{Reason: "caf\xe9"}, {Reason: "\"\xe9"}} {
		out, err := c.AppendJSON([]byte("as it was"))
		var ps Problems
		if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Field != "reason" || ps[0].Rule != RuleUTF8 {
			t.Errorf("got %v, want one problem: reason utf8", err)
		}
		if string(out) != "as it was" {
			t.Errorf("dst is %q", out)
		}
	}
	if got, err := new(APICall).AppendJSON(nil); err != nil || string(got) != "{}" {
		t.Errorf("got %s, %v; want {}", got, err)
	}
}

func TestAPICallValidateNamesEveryProblem(t *testing.T) {
	now := time.UnixMilli(1700000000000)
	for name, test := range map[string]struct {
		change func(*APICall)
		want   []string
	}{
		"nothing set": {func(c *APICall) { *c = APICall{} }, []string{
			"callId required", "customerUuid required", "moduleCode required", "api required", "state required",
			"submittedDate required", "updatedDate required", "userName required",
		}},
		"everything wrong": {func(c *APICall) {
			*c = APICall{
				CallID: "x", CustomerUUID: strings.Repeat("c", 65), ModuleCode: "pm", API: strings.Repeat("a", 257),
				Method: strings.Repeat("m", 33), State: "running", Reason: strings.Repeat("r", 1025) + "\xe9",
				SubmittedDate: 1, UpdatedDate: -1, HTTPStatus: 99, SourceIP: "fe80::1%eth0", UserRole: strings.Repeat("r", 257),
				UserUUID: strings.Repeat("u", 65), UserName: strings.Repeat("n", MaxStringBytes+1), BusinessUnit: strings.Repeat("b", 257),
				Client: strings.Repeat("c", 257), RequestID: strings.Repeat("q", 257),
			}
		}, []string{
			"callId format", "moduleCode format", "state enum", "submittedDate too-old", "updatedDate range", "httpStatus range",
			"sourceIp format", "customerUuid length", "api length", "method length", "reason length", "userName length",
			"userRole length", "userUuid length", "businessUnit length", "client length", "requestId length", "reason utf8",
		}},
		"heartbeat and duration": {func(c *APICall) {
			c.State, c.Heartbeat, c.DurationMs = StateBlockedRate, true, 1
		}, []string{"heartbeat state", "durationMs state"}},
		"durable": {func(c *APICall) { c.State, c.DurationMs, c.HTTPStatus, c.Durable = StateRunning, 0, 0, true }, nil},
		"durable and heartbeat": {func(c *APICall) {
			c.State, c.DurationMs, c.HTTPStatus, c.Durable, c.Heartbeat = StateRunning, 0, 0, true, true
		}, []string{"heartbeat state"}},
		"submitted too new": {func(c *APICall) {
			c.SubmittedDate = now.Add(MaxAhead + 1e6).UnixMilli()
		}, []string{"submittedDate too-new"}},
		"updated too new": {func(c *APICall) {
			c.UpdatedDate = now.Add(MaxAhead + 1e6).UnixMilli()
		}, []string{"updatedDate too-new"}},
		"updated before submitted": {func(c *APICall) { c.UpdatedDate = c.SubmittedDate - 1 }, []string{"updatedDate range"}},
		"both as far as allowed": {func(c *APICall) {
			c.SubmittedDate = now.Add(-DefaultMaxAge).UnixMilli()
			c.UpdatedDate = now.Add(MaxAhead).UnixMilli()
		}, nil},
		"long module code": {func(c *APICall) { c.ModuleCode = strings.Repeat("M", 33) }, []string{"moduleCode length"}},
		"status 600":       {func(c *APICall) { c.HTTPStatus = 600 }, []string{"httpStatus range"}},
		"status 599":       {func(c *APICall) { c.HTTPStatus = 599 }, nil},
		"only an id":       {func(c *APICall) { c.UserName = "" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := workloadCall(t)
			c.SubmittedDate, c.UpdatedDate = now.UnixMilli(), now.UnixMilli()
			test.change(c)
			err := c.Validate(now, 0)
			var rules []string
			var problems Problems
			if errors.As(err, &problems) {
				for _, p := range problems {
					rules = append(rules, p.Field+" "+p.Rule)
				}
				if !strings.HasPrefix(err.Error(), "invalid API call: "+problems[0].Field) {
					t.Errorf("%q does not say that it is about an API call", err)
				}
			} else if err != nil {
				t.Errorf("%v wraps no Problems", err)
			}
			if diff := cmp.Diff(test.want, rules); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// heartbeat goes with Queued and Running only, durationMs with Finished and
// Expired only.
func TestStatesAndWhatGoesWithThem(t *testing.T) {
	for _, state := range APICallStates {
		if StateRank(state) == 0 {
			t.Errorf("%s has no rank", state)
		}
		c := workloadCall(t)
		c.State, c.DurationMs, c.Heartbeat = state, 0, true
		if err, want := c.Validate(workloadClock, 0), state == StateQueued || state == StateRunning; (err == nil) != want {
			t.Errorf("%s with heartbeat: %v, want it to be allowed: %v", state, err, want)
		}
		c.DurationMs, c.Heartbeat = 1, false
		if err, want := c.Validate(workloadClock, 0), state == StateFinished || state == StateExpired; (err == nil) != want {
			t.Errorf("%s with durationMs: %v, want it to be allowed: %v", state, err, want)
		}
	}
}

func TestAPICallErrorsHoldNoValues(t *testing.T) {
	const secret = "hunter2"
	for _, in := range []string{
		`{"submittedDate":"` + secret + `"}`,
		`{"heartbeat":"` + secret + `"}`,
		`{"reason":"` + secret + "\x01\"}",
		`{"callId":"` + secret + `","state":"` + secret + `","sourceIp":"` + secret + `","moduleCode":"` + secret + `","userUuid":"` + strings.Repeat(secret, 20) + `"}`,
	} {
		var c APICall
		err := DecodeAPICall([]byte(in), &c)
		if err == nil {
			err = c.Validate(workloadClock, 0)
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestAPICallID(t *testing.T) {
	c := APICall{CallID: "019F1D8C-E27B-774F-9121-4e19385bf7e0", State: StateQueued}
	id := c.ID()
	// Python: uuid.uuid5(uuid.UUID(APICallNamespace), "019f1d8c-e27b-774f-9121-4e19385bf7e0Queued")
	if got, want := hex.EncodeToString(id[:]), "b7dca098889f557faa2d34415913e6c7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	lower := c
	lower.CallID, lower.UpdatedDate, lower.Reason = strings.ToLower(c.CallID), 1, "told again"
	if lower.ID() != id {
		t.Error("the same change of state has another id")
	}
	seen := map[[16]byte]bool{}
	for _, state := range APICallStates {
		c.State = state
		seen[c.ID()] = true
	}
	if len(seen) != len(APICallStates) {
		t.Errorf("%d ids of %d states", len(seen), len(APICallStates))
	}
	if got := (&APICall{CallID: "x", State: StateQueued}).ID(); got != [16]byte{} {
		t.Errorf("a call without a UUID has the id %x", got)
	}
}

func TestAPICallFieldTableIsOne(t *testing.T) {
	var names []string
	for f := range reflect.TypeFor[APICall]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	if diff := cmp.Diff(names, callNames[:]); diff != "" {
		t.Errorf("names (-struct +table):\n%s", diff)
	}
	var c APICall
	var places []*string
	for f := range callFieldCount {
		if got := callFieldOf(callNames[f]); got != f {
			t.Errorf("callFieldOf(%q) = %d, want %d", callNames[f], got, f)
		}
		s := c.text(f)
		if isString := reflect.TypeFor[APICall]().Field(int(f)).Type.Kind() == reflect.String; isString != (s != nil) {
			t.Errorf("%s: is a string: %v, has a place: %v", callNames[f], isString, s != nil)
		}
		if s != nil && slices.Contains(places, s) {
			t.Errorf("%s shares its place", callNames[f])
		}
		places = append(places, s)
	}
}
