package audit

import (
	"errors"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		workload,
		`{}`, ` {"action":"Add"} `, `{"action":"\ud83d\ude42\u0041\n","x":{"a":[1,-2.5e+3,true,null]}}`,
		`{"createdDate":1.65e12,"auditEnabledAppId":21.0,"changes":[{"field":"a","before":{"b":[]}}]}`,
		`{"a":1,"\u0061":2}`, `{"x":"\ud800"}`, "{\"x\":\"\xff\"}", `{"x":[[[[]]]]}`, `{}x`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDecode(t, data, Decode, (*Event).AppendJSON)
	})
}

func FuzzDecodeAPICall(f *testing.F) {
	for _, seed := range []string{
		callWorkload,
		`{}`, ` {"state":"Queued","heartbeat":true} `, `{"durable":true,"state":"Running"}`, `{"reason":"\ud83d\ude42\u0041\n","heartbeat":false,"callId":null}`,
		`{"submittedDate":1.65e12,"updatedDate":-1,"durationMs":21.0,"httpStatus":0}`,
		`{"state":1,"st\u0061te":2}`, `{"reason":"\ud800"}`, "{\"reason\":\"\xff\"}", `{"CallID":1}`, `{}x`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDecode(t, data, DecodeAPICall, (*APICall).AppendJSON)
	})
}

// fuzzDecode compares a decoder with a strict JSON parser that knows nothing of
// records: what that refuses the decoder refuses; what it accepts the decoder
// never refuses for its JSON. What the decoder accepts survives a round trip.
func fuzzDecode[R any](t *testing.T, data []byte, decode func([]byte, *R) error, appendJSON func(*R, []byte) ([]byte, error)) {
	var r R
	err := decode(data, &r)
	strict := jsontext.Value(data).IsValid()
	var d *DecodeError
	switch {
	case err == nil && !strict:
		t.Fatalf("accepted, but it is not strict JSON")
	case err == nil:
	case !errors.As(err, &d):
		t.Fatalf("not a DecodeError: %v", err)
	case d.Offset < 0 || d.Offset > len(data) || d.Reason == "":
		t.Fatalf("offset %d of %d: %v", d.Offset, len(data), err)
	case strict && (d.Rule == RuleJSON || d.Rule == RuleUTF8 || d.Rule == RuleDuplicate):
		t.Fatalf("refused, but it is strict JSON: %v", err)
	}
	if err != nil {
		return
	}
	out, err := appendJSON(&r, nil)
	var ps Problems
	switch {
	case errors.As(err, &ps) && ps.Has(RuleRecord): // control characters take more room when they are written
		return
	case err != nil:
		t.Fatalf("accepted, but not written: %v", err)
	}
	var again R
	if err := decode(out, &again); err != nil {
		t.Fatalf("written, but refused: %v: %s", err, out)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Fatalf("(-first +second):\n%s", diff)
	}
}
