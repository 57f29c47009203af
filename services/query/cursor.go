package query

import (
	"crypto/sha256"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

const (
	cursorVersion = 1
	maxCursor     = 2000 // characters
	maxDays       = 3650 // of a default timeframe
)

// cursor is what searchAfter holds, as JSON in base64: where a walk stands. It
// holds what the caller has seen and nothing else, so it is not secret; it
// comes back as input and is checked as such.
type cursor struct {
	Version int       `json:"v"`
	Query   []byte    `json:"q"` // what is walked: fingerprint
	Now     int64     `json:"t"` // when the walk began, in milliseconds: relative dates count from then
	Days    int       `json:"w"` // the default timeframe that was applied; 0: none
	Total   int64     `json:"n"` // events found when the walk began
	Value   []byte    `json:"s"` // of sqlgen.Position, for the last event that was shown
	Date    int64     `json:"d"`
	ID      uuid.UUID `json:"i"`
}

// encode returns the text of searchAfter.
func (c cursor) encode() (string, error) {
	c.Version = cursorVersion
	b, err := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(b), err
}

var (
	errCursor        = errors.New("is not one that an answer of this endpoint gave; pass it on as it came, or leave it out to begin anew")
	errCursorVersion = errors.New("is of another version of this service; leave it out to begin anew")
)

// decodeCursor reads the text of searchAfter, for an order. The error is for
// the caller.
func decodeCursor(text string, of *field.Table, sort sqlgen.Sort) (*cursor, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errCursor
	}
	var version struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(raw, &version); err != nil {
		return nil, errCursor
	}
	if version.Version != cursorVersion {
		return nil, errCursorVersion
	}
	var c cursor
	if err := json.Unmarshal(raw, &c, json.RejectUnknownMembers(true)); err != nil || !c.holds(of, sort) {
		return nil, errCursor
	}
	return &c, nil
}

// latestDate is the last moment of the year 9999.
const latestDate = 253402300799999

// holds says that every part is one that encode may have written.
func (c *cursor) holds(of *field.Table, sort sqlgen.Sort) bool {
	if c.Now <= 0 || c.Now > latestDate || c.Days < 0 || c.Days > maxDays || c.Total < 0 || c.Date < -latestDate || c.Date > latestDate {
		return false
	}
	if sort.Field == nil {
		return len(c.Value) == 0
	}
	switch sort.Field.Type {
	case field.Number:
		_, err := strconv.ParseUint(string(c.Value), 10, 32)
		return err == nil
	case field.Address:
		a, err := netip.ParseAddr(string(c.Value))
		return err == nil && a.Is6() && a.Zone() == ""
	case field.Keyword, field.Text, field.Opaque:
		return len(c.Value) <= sqlgen.SortBytes
	case field.Instant:
		if sort.Field != of.Date {
			ms, err := strconv.ParseInt(string(c.Value), 10, 64)
			return err == nil && ms >= -latestDate && ms <= latestDate
		}
	case field.UUID, field.JSON:
	}
	return len(c.Value) == 0
}

// position is where the walk goes on.
func (c *cursor) position() *sqlgen.Position {
	return &sqlgen.Position{Value: string(c.Value), Date: c.Date, ID: c.ID}
}

// fingerprint tells one walk from another: by what was asked for, in which
// order, and what the caller may see. It does not depend on the moment. Call it
// before the default timeframe is added.
func fingerprint(see visibility.View, a *asked, sort sqlgen.Sort) ([]byte, error) {
	all := sqlgen.Count(see, sqlgen.Filter{})
	order := ""
	if sort.Field != nil {
		order = sort.Field.Name
	}
	where := ""
	if a.filter.Where != nil {
		where = a.filter.Where.String()
	}
	text, err := stdjson.Marshal([]any{all.SQL(), all.Params(), where, a.filter.Start, a.filter.End, order, sort.Ascending})
	sum := sha256.Sum256(text)
	return sum[:16], err
}

// cursorViolation tells what is wrong with searchAfter.
func cursorViolation(message string) problem.Violation {
	return problem.Violation{Field: "searchAfter", Message: message}
}

// resume fixes what was asked for to the moment at which the walk began.
func (c *cursor) resume(see visibility.View, a *asked, sort sqlgen.Sort) error {
	print, err := fingerprint(see, a, sort)
	if err != nil {
		return err
	}
	if string(print) != string(c.Query) {
		return problem.Invalid(cursorViolation("belongs to another query, other dates, another sort, or another caller; leave it out to begin anew"))
	}
	if a.dated() != (c.Days == 0) {
		return problem.Invalid(cursorViolation(errCursor.Error()))
	}
	a.at(time.UnixMilli(c.Now), c.Days)
	return nil
}
