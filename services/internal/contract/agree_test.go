package contract

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/pkg/audit"
)

// oracle accepts records by the words of the contract and none of its code: a
// strict JSON parser, the schema, and the rules of schemas/audit/v1/README.md
// that a schema cannot say.
type oracle struct {
	kind
	schema     *jsonschema.Schema
	properties map[string]property
	at         time.Time
	maxAge     time.Duration
}

func newOracle(tb testing.TB, k kind) *oracle {
	at, maxAge := clock(tb)
	return &oracle{k, compile(tb, k), properties(tb, k), at, maxAge}
}

// refuses says why data is no valid record, "" when it is one.
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
	record := doc.(map[string]any)
	for name, value := range record {
		limit := o.properties[name].MaxLength
		if s, ok := value.(string); ok && limit > 0 && len(s) > limit {
			return name + " too long"
		}
		if depth(value) > audit.MaxDepth {
			return name + " too deep"
		}
	}
	return o.beyond(record, o.properties, o.at, o.maxAge)
}

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

// check compares the oracle with the decoder and Validate.
func (o *oracle) check(tb interface{ Fatalf(string, ...any) }, data []byte) {
	why, err := o.refuses(data), o.accept(data, o.at, o.maxAge)
	switch {
	case why == "" && err != nil:
		tb.Fatalf("the contract accepts it, Go does not: %v\n%s", err, data)
	case why != "" && err == nil:
		tb.Fatalf("Go accepts it, the contract does not: %s\n%s", why, data)
	}
}

// hugeExponent finds numbers that the schema's library would write out in full.
var hugeExponent = regexp.MustCompile(`[eE][+-]?0*[1-9][0-9]{3,}`)

func FuzzContract(f *testing.F) { fuzz(f, events) }

func FuzzContractOfAPICalls(f *testing.F) { fuzz(f, apiCalls) }

func fuzz(f *testing.F, k kind) {
	o := newOracle(f, k)
	for _, folder := range []string{"valid", "invalid", "invalid-beyond-schema"} {
		for _, data := range examples(f, k.example(folder)) {
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

// all are JSON texts on both sides of a field's rules.
func (o *oracle) all(name string) []string {
	p := o.properties[name]
	texts := []string{`null`, `""`, `"x"`, `"\u00e9\ud83d\ude42"`, `"\ud83d"`, `"a\nb"`, `1`, `true`, `{}`, `[]`, "\"\xff\""}
	if p.MaxLength > 0 {
		texts = append(texts, quoted(strings.Repeat("x", p.MaxLength)), quoted(strings.Repeat("x", p.MaxLength+1)),
			quoted(strings.Repeat("é", p.MaxLength/2)), quoted(strings.Repeat("é", p.MaxLength/2+1)))
	}
	return append(texts, o.values(name)...)
}

// Records put together from values on both sides of every rule are accepted or
// refused by all statements of the contract alike.
func TestStatementsAgree(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			o := newOracle(t, k)
			pool := map[string][]string{}
			for name := range o.properties {
				pool[name] = o.all(name)
			}
			names := slices.Sorted(maps.Keys(pool))
			rapid.Check(t, func(t *rapid.T) {
				members := maps.Clone(k.base)
				for range rapid.IntRange(0, 3).Draw(t, "fields") {
					name := rapid.SampledFrom(names).Draw(t, "field")
					if rapid.IntRange(0, 5).Draw(t, "drop") == 0 {
						delete(members, name)
						continue
					}
					members[name] = rapid.SampledFrom(pool[name]).Draw(t, name)
				}
				var extras []string
				if rapid.IntRange(0, 2).Draw(t, "other members") == 0 {
					extras = rapid.SliceOfN(rapid.SampledFrom(k.extras), 1, 2).Draw(t, "extras")
				}
				separator := rapid.SampledFrom([]string{",", " ,\n", ",,"}).Draw(t, "separator")
				if rapid.IntRange(0, 9).Draw(t, "commas") > 0 {
					separator = ","
				}
				o.check(t, object(members, separator, extras...))
			})
		})
	}
}

// object makes a JSON object of the texts of its members.
func object(members map[string]string, separator string, more ...string) []byte {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		parts = append(parts, quoted(name)+":"+members[name])
	}
	return []byte("{" + strings.Join(append(parts, more...), separator) + "}")
}

// One at a time, so that none is left to chance.
func TestEveryValueAgrees(t *testing.T) {
	for _, k := range kinds {
		o := newOracle(t, k)
		for name := range o.properties {
			for _, value := range o.all(name) {
				record := maps.Clone(k.base)
				record[name] = value
				o.check(t, object(record, ","))
			}
		}
	}
}

// What goes with some states only, with every state.
func TestEveryStateAgrees(t *testing.T) {
	o := newOracle(t, apiCalls)
	for _, state := range o.all("state") {
		for _, name := range []string{"heartbeat", "durable", "durationMs", "httpStatus"} {
			for _, value := range o.all(name) {
				record := maps.Clone(apiCalls.base)
				record["state"], record[name] = state, value
				o.check(t, object(record, ","))
			}
		}
	}
}
