package query

import (
	"fmt"
	"math"
	"strconv"

	"github.com/auditrail/auditrail/services/internal/problem"
)

// secondsBelow tells seconds from milliseconds: as milliseconds everything
// nearer to 1970 than this is before March 1973, as seconds it is before the
// year 5138. Microseconds from 1973 on are told from milliseconds as seconds are.
const secondsBelow = 100_000_000_000

// dateRange returns startDate and endDate, in milliseconds since the Unix
// epoch, both inclusive; nil when not given.
func (f *form) dateRange() (start, end *int64) {
	start, end = f.date("startDate"), f.date("endDate")
	if start != nil && end != nil && *start > *end {
		f.violate(problem.Violation{
			Field: "startDate", Value: strconv.FormatInt(*start, 10), Limit: fmt.Sprintf("at most endDate, %d", *end),
			Message: "must not be after endDate",
		})
	}
	return start, end
}

func (f *form) date(name string) *int64 {
	ms, ok := f.number(name, math.MinInt64, math.MaxInt64)
	if !ok {
		return nil
	}
	if ms != 0 && ms > -secondsBelow && ms < secondsBelow {
		f.violate(problem.Violation{
			Field: name, Value: strconv.FormatInt(ms, 10), Limit: "milliseconds since 1970-01-01 UTC",
			Message: fmt.Sprintf("looks like seconds; in milliseconds it is %d", ms*1000),
		})
		return nil
	}
	if ms > 1000*secondsBelow && ms < 1_000_000*secondsBelow {
		f.violate(problem.Violation{
			Field: name, Value: strconv.FormatInt(ms, 10), Limit: "milliseconds since 1970-01-01 UTC",
			Message: fmt.Sprintf("looks like microseconds; in milliseconds it is %d", ms/1000),
		})
		return nil
	}
	return &ms
}
