package query

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

// maxViolations bounds how many broken rules are told at once.
const maxViolations = 32

// readBody returns the body of a JSON request; nil when there is none. The
// errors are problems: 400, 408, 413 and 415, or errClientGone.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &problem.Error{
			Kind: problem.KindInvalid, Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("The body is larger than the limit of %d KiB.", maxBody>>10),
		}
	}
	if err != nil {
		return nil, brokenBody(r, err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, encoding := params["charset"], r.Header.Get("Content-Encoding")
	if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") ||
		encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, &problem.Error{
			Kind: problem.KindInvalid, Status: http.StatusUnsupportedMediaType,
			Detail: "Send the body as Content-Type: application/json, in UTF-8, not compressed.",
		}
	}
	return body, nil
}

// brokenBody tells why a body could not be read to its end. That is no reason
// to think that nobody waits for the answer: the request's context tells that.
func brokenBody(r *http.Request, err error) error {
	p := &problem.Error{
		Kind: problem.KindInvalid, Cause: err,
		Detail: "The body could not be read: it breaks its transfer encoding.",
		Header: http.Header{"Connection": {"close"}}, // where the next request would begin is unknown
	}
	switch {
	// First: net/http ends the context at a read timeout too.
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.Status, p.Detail = http.StatusRequestTimeout, "The body did not arrive in time. Send the request again."
	case r.Context().Err() != nil:
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return p
}

// form reads the members of a request's JSON object and collects every broken
// rule. Members that are absent, null or empty text count as not given.
type form struct {
	of         *field.Table // whose fields it names
	members    map[string]jsontext.Value
	blank      map[string]jsontext.Value // null or empty text
	violations []problem.Violation
}

// readForm reads body as one JSON object with members among allowed. No body
// is an empty object. Unknown and repeated members are violations; text that
// is not JSON, or not an object, is an error.
func readForm(body []byte, allowed []string) (*form, error) {
	f := &form{of: field.Events, members: map[string]jsontext.Value{}, blank: map[string]jsontext.Value{}}
	if body == nil {
		return f, nil
	}
	object, err := oneValue(body)
	if err != nil {
		return nil, err
	}
	if object.Kind() != '{' {
		return nil, problem.New(problem.KindInvalid, "The body must be a JSON object.")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(object), jsontext.AllowDuplicateNames(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntax(err)
	}
	seen := map[string]bool{}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, syntax(err)
		}
		key := name.String() // before the next read, which reuses its bytes
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntax(err)
		}
		switch {
		case !slices.Contains(allowed, key):
			f.unknown(key, allowed)
		case seen[key]:
			f.violate(problem.Violation{Field: key, Message: "is given more than once"})
		case value.Kind() != 'n' && string(value) != `""`:
			f.members[key] = value.Clone()
		default:
			f.blank[key] = value.Clone()
		}
		seen[key] = true
	}
	return f, nil
}

// oneValue returns the JSON value that body consists of.
func oneValue(body []byte) (jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	value, err := dec.ReadValue()
	if err != nil {
		return nil, syntax(err)
	}
	value = value.Clone()
	switch _, err := dec.ReadToken(); {
	case err == nil:
		return nil, problem.New(problem.KindInvalid, "The body has more after its JSON object.")
	case !errors.Is(err, io.EOF):
		return nil, syntax(err)
	}
	return value, nil
}

// syntax explains text that is not JSON.
func syntax(err error) error {
	at := ""
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at = fmt.Sprintf(" (near byte %d)", s.ByteOffset)
	}
	return &problem.Error{Kind: problem.KindInvalid, Detail: "The body is not valid JSON in UTF-8" + at + ".", Cause: err}
}

// err returns all violations as one problem, or nil.
func (f *form) err() error {
	if len(f.violations) == 0 {
		return nil
	}
	return problem.Invalid(f.violations...)
}

func (f *form) violate(v problem.Violation) {
	if len(f.violations) < maxViolations {
		f.violations = append(f.violations, v)
	}
}

func (f *form) unknown(name string, allowed []string) {
	message := "is not known; known are " + strings.Join(allowed, ", ")
	if len(allowed) == 0 {
		message = "is not known; there are none here"
	}
	for _, a := range allowed {
		if plain := plainName(name); plain == plainName(a) || len(plain) > 3 && strings.Contains(plainName(a), plain) {
			message = "is not known; did you mean " + a
			break
		}
	}
	f.violate(problem.Violation{Field: problem.Shorten(name), Message: message})
}

// plainName is a name without what is often mistaken: case, separators, plural.
func plainName(name string) string {
	return strings.TrimSuffix(strings.NewReplacer("_", "", "-", "", "[]", "").Replace(strings.ToLower(name)), "s")
}

// text returns a string member; ok is false when it is not given or broken.
func (f *form) text(name string) (value string, ok bool) {
	raw, given := f.members[name]
	if !given {
		return "", false
	}
	if raw.Kind() != '"' {
		f.violate(problem.Violation{Field: name, Value: problem.Shorten(string(raw)), Message: "must be a string"})
		return "", false
	}
	return unquote(raw), true
}

// id returns a member that holds an opaque id: 1-64 bytes.
func (f *form) id(name string) (value string, ok bool) {
	const most = identity.MaxID
	value, ok = f.text(name)
	if ok && (value == "" || len(value) > most) {
		f.violate(problem.Violation{
			Field: name, Value: problem.Shorten(value), Limit: fmt.Sprintf("1-%d bytes", most),
			Message: fmt.Sprintf("must be 1-%d bytes long", most),
		})
		return "", false
	}
	return value, ok
}

// short returns a string member of at most so many characters (code points).
func (f *form) short(name string, most int) (value string, ok bool) {
	value, ok = f.text(name)
	if n := utf8.RuneCountInString(value); ok && n > most {
		f.violate(problem.Violation{
			Field: name, Value: problem.Shorten(value), Limit: fmt.Sprintf("%d characters", most),
			Message: fmt.Sprintf("is %d characters long; the limit is %d", n, most),
		})
		return "", false
	}
	return value, ok
}

// number returns a member that is a whole number in a range, as a JSON number
// or as a string of one.
func (f *form) number(name string, least, most int64) (value int64, ok bool) {
	raw, given := f.members[name]
	if !given {
		return 0, false
	}
	text := string(raw)
	if raw.Kind() == '"' {
		text = unquote(raw)
	}
	value, err := parseWhole(text)
	limit := fmt.Sprintf("%d to %d", least, most)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		f.violate(problem.Violation{Field: name, Value: problem.Shorten(text), Message: "must be a whole number"})
	case err != nil, value < least, value > most:
		f.violate(problem.Violation{Field: name, Value: problem.Shorten(text), Limit: limit, Message: "must be " + limit})
	default:
		return value, true
	}
	return 0, false
}

// unquote returns the text of a JSON string that the decoder has accepted.
func unquote(raw jsontext.Value) string {
	b, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "" // cannot be: the decoder validated it
	}
	return string(b)
}

// parseWhole reads a number in JSON's grammar that has no fraction: 5, 5.0
// and 5e3 do, exactly. It fails with strconv.ErrSyntax or strconv.ErrRange.
func parseWhole(s string) (int64, error) {
	if v := jsontext.Value(s); v.Kind() != '0' || !v.IsValid() || strings.TrimSpace(s) != s {
		return 0, strconv.ErrSyntax
	}
	mantissa, power, _ := strings.Cut(strings.ToLower(s), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return 0, nil
	}
	significant := strings.TrimRight(digits, "0")
	zeros := len(digits) - len(significant) - len(fraction)
	if power != "" {
		p, err := strconv.ParseInt(power, 10, 32)
		if err != nil {
			return 0, strconv.ErrRange
		}
		zeros += int(p)
	}
	switch {
	case zeros < 0:
		return 0, strconv.ErrSyntax
	case zeros > 20:
		return 0, strconv.ErrRange
	}
	n, err := strconv.ParseInt(sign+significant+strings.Repeat("0", zeros), 10, 64)
	if err != nil {
		return 0, strconv.ErrRange
	}
	return n, nil
}
