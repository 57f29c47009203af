package contract

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/schemas"
	"github.com/auditrail/auditrail/services/internal/field"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const examplesRoot = "audit/v1/examples"

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := fs.ReadFile(schemas.FS, name)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// compile returns the schema of a kind, with format assertions on.
func compile(tb testing.TB, k kind) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(readFile(tb, k.schema))))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(k.schema, doc); err != nil {
		tb.Fatal(err)
	}
	schema, err := c.Compile(k.schema)
	if err != nil {
		tb.Fatal(err)
	}
	return schema
}

// clock is the clock of the examples, whose dates are those of the seeds.
func clock(tb testing.TB) (at time.Time, maxAge time.Duration) {
	tb.Helper()
	var c struct{ At, MaxAgeDays int64 }
	if err := json.Unmarshal(readFile(tb, examplesRoot+"/clock.json"), &c); err != nil {
		tb.Fatal(err)
	}
	return time.UnixMilli(c.At), time.Duration(c.MaxAgeDays) * 24 * time.Hour
}

func examples(tb testing.TB, folder string) map[string][]byte {
	tb.Helper()
	entries, err := fs.ReadDir(schemas.FS, folder)
	if err != nil {
		tb.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		files[entry.Name()] = readFile(tb, path.Join(folder, entry.Name()))
	}
	if len(files) == 0 {
		tb.Fatalf("no examples in %s", folder)
	}
	return files
}

func TestValidExamples(t *testing.T) {
	at, maxAge := clock(t)
	for _, k := range kinds {
		schema := compile(t, k)
		for name, data := range examples(t, k.example("valid")) {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
				if err != nil {
					t.Fatal(err)
				}
				if err := schema.Validate(doc); err != nil {
					t.Errorf("schema refuses it: %v", err)
				}
				if err := k.accept(data, at, maxAge); err != nil {
					t.Errorf("Go refuses it: %v", err)
				}
			})
		}
	}
}

// Every example in invalid breaks one rule, and the schema and Go both say so.
// Those in invalid-beyond-schema satisfy the schema, as far as a lenient
// parser can read them, and Go refuses them. The golden files keep the words.
func TestInvalidExamples(t *testing.T) {
	at, maxAge := clock(t)
	for _, k := range kinds {
		schema := compile(t, k)
		for _, folder := range []string{"invalid", "invalid-beyond-schema"} {
			var lines []string
			for name, data := range examples(t, k.example(folder)) {
				doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
				switch {
				case folder == "invalid" && err != nil:
					t.Errorf("%s/%s: not JSON: %v", folder, name, err)
				case folder == "invalid" && schema.Validate(doc) == nil:
					t.Errorf("%s/%s: the schema accepts it", folder, name)
				case folder != "invalid" && err == nil && schema.Validate(doc) != nil:
					t.Errorf("%s/%s: the schema refuses it, so it belongs in invalid: %v", folder, name, schema.Validate(doc))
				}
				lines = append(lines, fmt.Sprintf("%s: %s\n", name, oneProblem(t, name, k.accept(data, at, maxAge))))
			}
			slices.Sort(lines)
			golden(t, "testdata/"+k.name+"-"+folder+".golden", strings.Join(lines, ""))
		}
	}
}

// oneProblem renders the only rule that err says is broken.
func oneProblem(t *testing.T, name string, err error) string {
	t.Helper()
	var problems audit.Problems
	var undecoded *audit.DecodeError
	switch {
	case errors.As(err, &undecoded):
		return fmt.Sprintf("[%s] %s", undecoded.Rule, undecoded)
	case errors.As(err, &problems):
		if len(problems) != 1 {
			t.Errorf("%s breaks %d rules: %v", name, len(problems), err)
		}
		return fmt.Sprintf("[%s] %s", problems[0].Rule, err)
	}
	t.Errorf("%s: Go accepts it (%v)", name, err)
	return ""
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update to accept):\n%s", name, diff)
	}
}

// property is what the tests need of a property of the schema.
type property struct {
	Type      any      `json:"type"`
	MaxLength int      `json:"maxLength"`
	Maximum   *float64 `json:"maximum"`
}

func properties(tb testing.TB, k kind) map[string]property {
	tb.Helper()
	var doc struct {
		Properties    map[string]property `json:"properties"`
		MaxProperties int                 `json:"maxProperties"`
	}
	if err := json.Unmarshal(readFile(tb, k.schema), &doc); err != nil {
		tb.Fatal(err)
	}
	if want := len(doc.Properties) + k.more; k.more > 0 && doc.MaxProperties != want {
		tb.Errorf("%s: schema maxProperties is %d, want %d known and %d more: %d",
			k.name, doc.MaxProperties, len(doc.Properties), k.more, want)
	}
	return doc.Properties
}

// goFields are the JSON names of the Go type, in order, and their Go types.
func goFields(k kind) (names []string, types map[string]reflect.Type) {
	types = map[string]reflect.Type{}
	for f := range k.goType.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			names = append(names, name)
			types[name] = f.Type
		}
	}
	return names, types
}

func TestFieldsAgree(t *testing.T) {
	for _, k := range kinds {
		names, _ := goFields(k)
		slices.Sort(names)
		if diff := cmp.Diff(names, slices.Sorted(maps.Keys(properties(t, k)))); diff != "" {
			t.Errorf("%s: fields (-Go type +schema):\n%s", k.name, diff)
		}
	}
}

func TestFieldTableAgrees(t *testing.T) {
	inTable := func(of *field.Table) (names []string) {
		for _, f := range of.Fields {
			names = append(names, f.Name)
		}
		return names
	}
	// extra stands for every field that the others do not name.
	names, _ := goFields(events)
	if diff := cmp.Diff(append(names, "extra"), inTable(field.Events)); diff != "" {
		t.Errorf("fields of events in order (-Go type +field table):\n%s", diff)
	}
	// What marks heartbeats and durable calls is not stored.
	names, _ = goFields(apiCalls)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "heartbeat" || name == "durable" })
	if diff := cmp.Diff(names, inTable(field.Calls)); diff != "" {
		t.Errorf("fields of API calls in order (-Go type +field table):\n%s", diff)
	}
}

func TestTypesAgree(t *testing.T) {
	for _, k := range kinds {
		_, inGo := goFields(k)
		for name, p := range properties(t, k) {
			types := fmt.Sprint(p.Type)
			want := reflect.String
			switch {
			case strings.Contains(types, "integer"):
				want = reflect.Int64
				if p.Maximum != nil && *p.Maximum <= math.MaxUint32 {
					want = reflect.Uint32
				}
			case strings.Contains(types, "array"):
				want = reflect.Slice
			case strings.Contains(types, "boolean"):
				want = reflect.Bool
			}
			if got := inGo[name]; got == nil || got.Kind() != want {
				t.Errorf("%s: %s: the schema says %s, the Go type is %v", k.name, name, types, got)
			}
		}
	}
}

// The number that the schema states for a string is where Go draws the line.
func TestLengthsAgree(t *testing.T) {
	at, maxAge := clock(t)
	for _, k := range kinds {
		for name, p := range properties(t, k) {
			if p.MaxLength == 0 {
				continue
			}
			record := maps.Clone(k.base)
			record[name] = quoted(strings.Repeat("x", p.MaxLength))
			if err := k.accept(object(record, ","), at, maxAge); err != nil {
				t.Errorf("%s: %s of %d bytes: %v", k.name, name, p.MaxLength, err)
			}
			record[name] = quoted(strings.Repeat("x", p.MaxLength+1))
			var problems audit.Problems
			if err := k.accept(object(record, ","), at, maxAge); !errors.As(err, &problems) || !problems.Has(audit.RuleLength) {
				t.Errorf("%s: %s of %d bytes: got %v, want it refused as too long", k.name, name, p.MaxLength+1, err)
			}
		}
	}
}

// The full example has every field of the contract, so it is the place to look
// for what one is like.
func TestFullExampleIsFull(t *testing.T) {
	for _, k := range kinds {
		var full map[string]json.RawMessage
		if err := json.Unmarshal(readFile(t, k.example("valid")+"/full.json"), &full); err != nil {
			t.Fatal(err)
		}
		for name := range properties(t, k) {
			if _, ok := full[name]; !ok {
				t.Errorf("%s: full.json: %s is missing", k.name, name)
			}
		}
	}
}

// Every state has an example, and the schema names the states in order.
func TestStatesAgree(t *testing.T) {
	var doc struct {
		Properties struct{ State struct{ Enum []string } }
	}
	if err := json.Unmarshal(readFile(t, apiCalls.schema), &doc); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(audit.APICallStates, doc.Properties.State.Enum); diff != "" {
		t.Errorf("(-Go +schema):\n%s", diff)
	}
	shown := map[string]bool{}
	for name, data := range examples(t, apiCalls.example("valid")) {
		var c audit.APICall
		if err := audit.DecodeAPICall(data, &c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		shown[c.State] = true
	}
	for _, state := range audit.APICallStates {
		if !shown[state] {
			t.Errorf("no example is %s", state)
		}
	}
}

// The search sample of the seeds, byte for byte but for white space.
func TestSearchSampleIsUnchanged(t *testing.T) {
	const sample = `{"id":"eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9","auditEnabledAppId":21,"applicationName":"pm","moduleCode":"PM","moduleName":"Patch Management","userName":"Jack","userRole":"Manager","userUuid":"1c9a83aa-20p8-e972-8036-899e5e608855","customerUuid":"1c9a83aa-20p8-e972-8036-899e5e608855","client":"Chrome-Browser","sourceIp":"191.160.45.90","createdDate":1650444199730,"targetType":"User","targetName":"John","action":"Add","status":"Success","auditComment":"Created new User","externalChangeLink":"http://masifgw.p04.eng.in03.qualys.com:50164/key"}`
	var e audit.Event
	if err := audit.Decode(readFile(t, examplesRoot+"/valid/search-sample.json"), &e); err != nil {
		t.Fatal(err)
	}
	got, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
