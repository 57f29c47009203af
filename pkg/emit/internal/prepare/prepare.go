// Package prepare turns events and API calls into the bytes of their records. The emitter and
// the recorder for tests both go through it, so that what one refuses the
// other refuses in the same words.
package prepare

import (
	"strconv"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Append checks e against the clock at and appends its JSON to dst. The error
// is audit.Problems with everything that is wrong.
func Append(dst []byte, e *audit.Event, at time.Time, maxAge time.Duration) ([]byte, error) {
	if err := e.Validate(at, maxAge); err != nil {
		return dst, err
	}
	out, err := e.AppendJSON(dst)
	if err != nil {
		return dst, err
	}
	if n := len(out) - len(dst); n > audit.MaxRecordBytes {
		return dst, audit.Problems{{
			Field: "event",
			Rule:  audit.RuleRecord,
			Message: "takes " + strconv.Itoa(n) + " bytes as JSON, at most " + strconv.Itoa(audit.MaxRecordBytes) +
				" are allowed: shorten its texts or emit several events",
		}}
	}
	return out, nil
}

// AppendCall does the same for an API call.
func AppendCall(dst []byte, c *audit.APICall, at time.Time, maxAge time.Duration) ([]byte, error) {
	if err := c.Validate(at, maxAge); err != nil {
		return dst, err
	}
	return c.AppendJSON(dst)
}
