package apicall

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditrail/auditrail/pkg/audit"
)

// LimitsTopic is the compacted topic of one partition that holds the Overrides,
// keyed by customerUuid. The newest record of a subscription counts; one without
// a value says that nothing is set.
const LimitsTopic = "audit.api-limits.v1"

// Override is the limits that were set for one subscription, in place of those
// of its tier. Its JSON form is
//
//	{"default": LIMIT, "apis": {"audit-log/admin/search": LIMIT, "api/v1/*": LIMIT}}
//
// where all is optional and LIMIT is {"concurrency": 2, "calls": 300,
// "windowSec": 3600}, in which an absent member does not bound, or {"unlimited":
// true}. The zero Override sets nothing. What unmarshals is valid.
type Override struct {
	// Default is for APIs that APIs does not name; nil leaves those to the tier.
	Default *Limit
	// APIs are limits of single APIs, by name, and of all whose names begin
	// alike: a name that ends in * is a pattern.
	APIs map[string]Limit
}

// Bounds of an Override.
const (
	MaxConcurrency = 10_000
	MaxCalls       = 100_000
	MaxWindow      = 7 * 24 * time.Hour
	// MaxOverrideAPIs is how many names APIs may have, of audit.MaxAPIBytes each.
	MaxOverrideAPIs = 200
)

// maxProblems is how many problems an error names.
const maxProblems = 10

// Limit returns what was set for an API: by its exact name, else by the longest
// pattern, else the default. False when nothing was.
func (o *Override) Limit(api string) (Limit, bool) {
	if len(o.APIs) > 0 {
		if l, ok := o.APIs[api]; ok {
			return l, true
		}
		var room [audit.MaxAPIBytes + 1]byte
		name := append(room[:0], api...)
		for end := len(name); end >= 0; end-- {
			if l, ok := o.APIs[string(append(name[:end], '*'))]; ok {
				return l, true
			}
		}
	}
	if o.Default != nil {
		return *o.Default, true
	}
	return Limit{}, false
}

// Validate names everything that is wrong, with the bound that it breaks.
func (o *Override) Validate() error { return o.wire().check() }

// MarshalJSON writes the one form of what o says. It refuses what Validate
// refuses.
func (o Override) MarshalJSON() ([]byte, error) {
	w := o.wire()
	if err := w.check(); err != nil {
		return nil, err
	}
	return json.Marshal(w, json.Deterministic(true))
}

// UnmarshalJSON reads data strictly: unknown members, names that occur twice and
// all that Validate refuses are errors. null stands for an absent member.
func (o *Override) UnmarshalJSON(data []byte) error {
	if jsontext.Value(data).Kind() != jsontext.KindBeginObject {
		return errors.New(`limits must be a JSON object, such as {"default": {"calls": 300, "windowSec": 3600}}`)
	}
	var w overrideJSON
	if err := json.Unmarshal(data, &w, json.RejectUnknownMembers(true)); err != nil {
		return explain(err)
	}
	if err := w.check(); err != nil {
		return err
	}
	*o = Override{}
	if w.Default != nil {
		l := w.Default.limit()
		o.Default = &l
	}
	if len(w.APIs) > 0 {
		o.APIs = make(map[string]Limit, len(w.APIs))
		for name, l := range w.APIs {
			o.APIs[name] = l.limit()
		}
	}
	return nil
}

// So that encoding/json finds them, too.
var (
	_ stdjson.Marshaler   = Override{}
	_ stdjson.Unmarshaler = (*Override)(nil)
)

// overrideJSON is an Override on the wire.
type overrideJSON struct {
	Default *limitJSON           `json:"default,omitzero"`
	APIs    map[string]limitJSON `json:"apis,omitempty"`
}

// limitJSON is a Limit on the wire: what is nil is absent.
type limitJSON struct {
	Concurrency *int64 `json:"concurrency,omitzero"`
	Calls       *int64 `json:"calls,omitzero"`
	WindowSec   *int64 `json:"windowSec,omitzero"`
	Unlimited   *bool  `json:"unlimited,omitzero"`

	partSeconds bool // the window is not of whole seconds
}

func (o *Override) wire() overrideJSON {
	var w overrideJSON
	if o.Default != nil {
		l := o.Default.wire()
		w.Default = &l
	}
	if len(o.APIs) > 0 {
		w.APIs = make(map[string]limitJSON, len(o.APIs))
		for name, l := range o.APIs {
			w.APIs[name] = l.wire()
		}
	}
	return w
}

func (l Limit) wire() limitJSON {
	if l == (Limit{}) {
		yes := true
		return limitJSON{Unlimited: &yes}
	}
	set := func(n int64) *int64 {
		if n == 0 {
			return nil
		}
		return &n
	}
	w := limitJSON{Concurrency: set(int64(l.Concurrency)), Calls: set(int64(l.Calls)), partSeconds: l.Window%time.Second != 0}
	if l.Window != 0 {
		sec := int64(l.Window / time.Second)
		w.WindowSec = &sec
	}
	return w
}

// MarshalJSON writes the form that l has in an Override.
func (l Limit) MarshalJSON() ([]byte, error) { return json.Marshal(l.wire()) }

// UnmarshalJSON reads that form, as strictly.
func (l *Limit) UnmarshalJSON(data []byte) error {
	var w limitJSON
	if err := json.Unmarshal(data, &w, json.RejectUnknownMembers(true)); err != nil {
		return explain(err)
	}
	if ps := w.check(nil, "limit"); ps != nil {
		return errors.New(strings.Join(ps, "; "))
	}
	*l = w.limit()
	return nil
}

// limit is what w says; w has been checked.
func (w limitJSON) limit() Limit {
	n := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return *p
	}
	return Limit{Concurrency: int(n(w.Concurrency)), Calls: int(n(w.Calls)), Window: time.Duration(n(w.WindowSec)) * time.Second}
}

func (w overrideJSON) check() error {
	var ps []string
	if n := len(w.APIs); n > MaxOverrideAPIs {
		ps = append(ps, fmt.Sprintf("apis must have at most %d names, not %d: use patterns that end in *", MaxOverrideAPIs, n))
	}
	if w.Default != nil {
		ps = w.Default.check(ps, "default")
	}
	for _, name := range slices.Sorted(maps.Keys(w.APIs)) {
		at := "apis[" + short(name) + "]"
		switch {
		case name == "":
			ps = append(ps, at+" needs a name, or a pattern such as api/v1/*")
		case len(name) > audit.MaxAPIBytes:
			ps = append(ps, fmt.Sprintf("%s must be at most %d bytes long, not %d", at, audit.MaxAPIBytes, len(name)))
		case !utf8.ValidString(name):
			ps = append(ps, at+" must be UTF-8")
		case strings.Contains(name[:len(name)-1], "*"):
			ps = append(ps, at+" may have a * only as its last character")
		}
		ps = w.APIs[name].check(ps, at)
	}
	if len(ps) == 0 {
		return nil
	}
	if more := len(ps) - maxProblems; more > 0 {
		ps = append(ps[:maxProblems], fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(ps, "; "))
}

// check adds what is wrong with the limit at a place.
func (w limitJSON) check(ps []string, at string) []string {
	if w.Unlimited != nil {
		if !*w.Unlimited || w.Concurrency != nil || w.Calls != nil || w.WindowSec != nil {
			ps = append(ps, at+`: unlimited must be true, and alone; leave it out where something bounds`)
		}
		return ps
	}
	if w == (limitJSON{}) {
		return append(ps, at+` must have concurrency, or calls and windowSec, or "unlimited": true`)
	}
	for _, m := range w.members() {
		if m.value != nil && (*m.value < 1 || *m.value > m.most) {
			ps = append(ps, fmt.Sprintf("%s.%s must be %s, not %d", at, m.name, bounds(m.most), *m.value))
		}
	}
	if w.partSeconds {
		ps = append(ps, at+".windowSec must be a whole number of seconds")
	}
	if (w.Calls == nil) != (w.WindowSec == nil) {
		ps = append(ps, at+" must have calls and windowSec both, or neither")
	}
	return ps
}

type member struct {
	name  string
	value *int64
	most  int64
}

func (w limitJSON) members() [3]member {
	return [...]member{
		{"concurrency", w.Concurrency, MaxConcurrency},
		{"calls", w.Calls, MaxCalls},
		{"windowSec", w.WindowSec, int64(MaxWindow / time.Second)},
	}
}

func bounds(most int64) string { return fmt.Sprintf("a whole number from 1 to %d", most) }

// explain says what to do about JSON of the wrong form.
func explain(err error) error {
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) {
		return fmt.Errorf("limits must be JSON: %w", err)
	}
	at := path(wrong.JSONPointer)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return fmt.Errorf("%s is unknown: limits have default and apis, a limit has concurrency, calls, windowSec and unlimited", at)
	case wrong.GoType != nil && wrong.GoType.Kind() == reflect.Int64:
		for _, m := range (limitJSON{}).members() {
			if m.name == wrong.JSONPointer.LastToken() {
				return fmt.Errorf("%s must be %s", at, bounds(m.most))
			}
		}
	case wrong.GoType != nil && wrong.GoType.Kind() == reflect.Bool:
		return fmt.Errorf("%s must be true, or left out", at)
	}
	return fmt.Errorf("%s must be an object", at)
}

// path is where a pointer points to, as problems name it.
func path(p jsontext.Pointer) string {
	var b strings.Builder
	depth := 0
	for name := range p.Tokens() {
		switch {
		case depth == 0:
			b.WriteString(shortWord(name))
		case depth == 1 && strings.HasPrefix(string(p), "/apis"):
			b.WriteString("[" + short(name) + "]")
		default:
			b.WriteString("." + shortWord(name))
		}
		depth++
	}
	return b.String()
}

// shortWord is a member's name as it is, where it is a plain word.
func shortWord(name string) string {
	q := short(name)
	if q == `"`+name+`"` && name != "" {
		return name
	}
	return q
}

// short quotes a name fit for a message.
func short(name string) string {
	const most = 48
	if len(name) > most {
		return strconv.QuoteToASCII(name[:most]) + "..."
	}
	return strconv.QuoteToASCII(name)
}
