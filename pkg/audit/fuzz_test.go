package audit

import (
	"errors"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// FuzzDecode compares Decode with a strict JSON parser that knows nothing of
// events: what that refuses Decode refuses; what it accepts Decode never
// refuses for its JSON. What Decode accepts survives a round trip.
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
		var e Event
		err := Decode(data, &e)
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
		out, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatalf("accepted, but not written: %v", err)
		}
		var again Event
		if err := Decode(out, &again); err != nil {
			t.Fatalf("written, but refused: %v: %s", err, out)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}
