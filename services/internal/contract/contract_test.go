package contract

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
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

const (
	schemaFile   = "audit/v1/event.schema.json"
	examplesRoot = "audit/v1/examples"
)

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := fs.ReadFile(schemas.FS, name)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// compile returns the event schema, with format assertions on.
func compile(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(readFile(tb, schemaFile))))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(schemaFile, doc); err != nil {
		tb.Fatal(err)
	}
	schema, err := c.Compile(schemaFile)
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
	entries, err := fs.ReadDir(schemas.FS, path.Join(examplesRoot, folder))
	if err != nil {
		tb.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		files[entry.Name()] = readFile(tb, path.Join(examplesRoot, folder, entry.Name()))
	}
	if len(files) == 0 {
		tb.Fatalf("no examples in %s", folder)
	}
	return files
}

// accept is what a taker of events does.
func accept(data []byte, at time.Time, maxAge time.Duration) error {
	var e audit.Event
	if err := audit.Decode(data, &e); err != nil {
		return err
	}
	return e.Validate(at, maxAge)
}

func TestValidExamples(t *testing.T) {
	schema := compile(t)
	at, maxAge := clock(t)
	for name, data := range examples(t, "valid") {
		t.Run(name, func(t *testing.T) {
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("schema refuses it: %v", err)
			}
			if err := accept(data, at, maxAge); err != nil {
				t.Errorf("Go refuses it: %v", err)
			}
		})
	}
}

// Every example in invalid breaks one rule, and the schema and Go both say so.
// Those in invalid-beyond-schema satisfy the schema, as far as a lenient
// parser can read them, and Go refuses them. The golden file keeps the words.
func TestInvalidExamples(t *testing.T) {
	schema := compile(t)
	at, maxAge := clock(t)
	for _, folder := range []string{"invalid", "invalid-beyond-schema"} {
		var lines []string
		for name, data := range examples(t, folder) {
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
			switch {
			case folder == "invalid" && err != nil:
				t.Errorf("%s/%s: not JSON: %v", folder, name, err)
			case folder == "invalid" && schema.Validate(doc) == nil:
				t.Errorf("%s/%s: the schema accepts it", folder, name)
			case folder != "invalid" && err == nil && schema.Validate(doc) != nil:
				t.Errorf("%s/%s: the schema refuses it, so it belongs in invalid: %v", folder, name, schema.Validate(doc))
			}
			lines = append(lines, fmt.Sprintf("%s: %s\n", name, oneProblem(t, name, accept(data, at, maxAge))))
		}
		slices.Sort(lines)
		golden(t, "testdata/"+folder+".golden", strings.Join(lines, ""))
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
		return fmt.Sprintf("[%s] %s", problems[0].Rule, problems)
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
	Enum      []any    `json:"enum"`
	AnyOf     []any    `json:"anyOf"`
	Minimum   *float64 `json:"minimum"`
	Pattern   string   `json:"pattern"`
}

func properties(tb testing.TB) map[string]property {
	tb.Helper()
	var doc struct {
		Properties    map[string]property `json:"properties"`
		MaxProperties int                 `json:"maxProperties"`
	}
	if err := json.Unmarshal(readFile(tb, schemaFile), &doc); err != nil {
		tb.Fatal(err)
	}
	if want := len(doc.Properties) + audit.MaxExtraFields; doc.MaxProperties != want {
		tb.Errorf("schema maxProperties is %d, want %d known and %d more: %d",
			doc.MaxProperties, len(doc.Properties), audit.MaxExtraFields, want)
	}
	return doc.Properties
}

// goFields maps the JSON names of audit.Event to the Go types.
func goFields() map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	event := reflect.TypeFor[audit.Event]()
	for i := range event.NumField() {
		if name, _, _ := strings.Cut(event.Field(i).Tag.Get("json"), ","); name != "-" {
			fields[name] = event.Field(i).Type
		}
	}
	return fields
}

func TestFieldsAgree(t *testing.T) {
	inSchema, inGo := properties(t), goFields()
	inTable := map[string]bool{}
	for _, f := range field.Events.Fields {
		if inTable[f.Name] {
			t.Errorf("field table: %s is declared twice", f.Name)
		}
		inTable[f.Name] = true
	}
	if !inTable["extra"] {
		t.Error("field table: extra is missing")
	}
	delete(inTable, "extra") // stands for every field that the others do not name
	for name := range inGo {
		if _, ok := inSchema[name]; !ok {
			t.Errorf("schema: %s of the Go type is missing", name)
		}
		if !inTable[name] {
			t.Errorf("field table: %s of the Go type is missing", name)
		}
	}
	for name := range inSchema {
		if _, ok := inGo[name]; !ok {
			t.Errorf("Go type: %s of the schema is missing", name)
		}
	}
	for name := range inTable {
		if _, ok := inGo[name]; !ok {
			t.Errorf("Go type: %s of the field table is missing", name)
		}
	}
	var order []string
	event := reflect.TypeFor[audit.Event]()
	for i := range event.NumField() {
		if name, _, _ := strings.Cut(event.Field(i).Tag.Get("json"), ","); name != "-" {
			order = append(order, name)
		}
	}
	var tableOrder []string
	for _, f := range field.Events.Fields {
		if f.Name != "extra" {
			tableOrder = append(tableOrder, f.Name)
		}
	}
	if diff := cmp.Diff(order, tableOrder); diff != "" {
		t.Errorf("order of the fields (-Go type +field table):\n%s", diff)
	}
}

func TestTypesAgree(t *testing.T) {
	inGo := goFields()
	for name, p := range properties(t) {
		types := fmt.Sprint(p.Type)
		var want reflect.Kind
		switch {
		case strings.Contains(types, "integer"):
			want = reflect.Int64
			if name == "auditEnabledAppId" {
				want = reflect.Uint32
			}
		case strings.Contains(types, "array"):
			want = reflect.Slice
		default:
			want = reflect.String
		}
		if got := inGo[name]; got == nil || got.Kind() != want {
			t.Errorf("%s: the schema says %s, the Go type is %v", name, types, got)
		}
	}
}

// The number that the schema states for a string is where Go draws the line.
func TestLengthsAgree(t *testing.T) {
	at, maxAge := clock(t)
	for name, p := range properties(t) {
		if p.MaxLength == 0 {
			continue
		}
		event := map[string]any{
			"customerUuid": "c", "moduleCode": "PM", "action": "Add", "userName": "u", "createdDate": at.UnixMilli(),
		}
		event[name] = strings.Repeat("x", p.MaxLength)
		data, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if err := accept(data, at, maxAge); err != nil {
			t.Errorf("%s of %d bytes: %v", name, p.MaxLength, err)
		}
		event[name] = strings.Repeat("x", p.MaxLength+1)
		if data, err = json.Marshal(event); err != nil {
			t.Fatal(err)
		}
		var problems audit.Problems
		if err := accept(data, at, maxAge); !errors.As(err, &problems) || !problems.Has(audit.RuleLength) {
			t.Errorf("%s of %d bytes: got %v, want it refused as too long", name, p.MaxLength+1, err)
		}
	}
}

// The full example has every field of the contract, so it is the place to look
// for what one is like.
func TestFullExampleIsFull(t *testing.T) {
	var full map[string]json.RawMessage
	if err := json.Unmarshal(readFile(t, examplesRoot+"/valid/full.json"), &full); err != nil {
		t.Fatal(err)
	}
	for name := range properties(t) {
		if _, ok := full[name]; !ok {
			t.Errorf("full.json: %s is missing", name)
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
