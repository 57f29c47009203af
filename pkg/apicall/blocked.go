package apicall

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// BlockedError says which limit blocks a call, and for how long.
type BlockedError struct {
	CallID string // by which the call is listed
	API    string
	By     Blocked // BlockedConcurrency or BlockedRate
	Limit  Limit
	Usage  Usage
	Waited time.Duration // in vain, for a place
}

// Error says limit, window and wait in plain words.
func (e *BlockedError) Error() string {
	if e.By == BlockedRate {
		return fmt.Sprintf("At most %s of %s may begin in any %s, and so many have. Another may begin in %s.",
			counted(e.Limit.Calls, "call"), e.API, e.window(), inWords(e.RetryAfter()))
	}
	run := "run"
	if e.Usage.Running == 1 {
		run = "runs"
	}
	s := fmt.Sprintf("At most %s of %s may run at a time, and %d %s now.", counted(e.Limit.Concurrency, "call"), e.API, e.Usage.Running, run)
	if e.Waited >= time.Second {
		s += " This one waited " + inWords(e.Waited.Truncate(time.Second)) + " for a place."
	}
	if e.Usage.Wait > 0 {
		return s + fmt.Sprintf(" Besides, %s may begin in any %s: another in %s.",
			counted(e.Limit.Calls, "call"), e.window(), inWords(e.RetryAfter()))
	}
	return s + " Call again when one has ended."
}

// window is the limit's window after "any": "hour", "24 hours".
func (e *BlockedError) window() string { return strings.TrimPrefix(inWords(e.Limit.Window), "1 ") }

// RetryAfter is how long to wait before the next attempt, in whole seconds: 1
// at least. When a call that runs will end is not known.
func (e *BlockedError) RetryAfter() time.Duration {
	return max(time.Second, time.Duration(seconds(e.Usage.Wait))*time.Second)
}

// state is the state of the call.
func (e *BlockedError) state() string {
	if e.By == BlockedRate {
		return audit.StateBlockedRate
	}
	return audit.StateBlockedConcurrency
}

// seconds is d in whole seconds, rounded up.
func seconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Second) + 1
}

// inWords says a duration, rounded up to seconds, in the largest unit that it
// is a multiple of.
func inWords(d time.Duration) string {
	switch s := seconds(d); {
	case s > 0 && s%3600 == 0:
		return counted(int(s/3600), "hour")
	case s > 0 && s%60 == 0:
		return counted(int(s/60), "minute")
	default:
		return counted(int(s), "second")
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
