package deadletter

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// lasting says why the letter can never be redriven, "" when it can.
func (l *letter) lasting() string {
	switch {
	case l.batch != "":
		return "it is a packed batch of records"
	case l.cut:
		return "its value was cut"
	case l.keySize > len(l.key):
		return "its key was cut"
	case !topic.IsEvents(l.topic) && l.topic != audit.APICallsTopic:
		return "it comes from a topic of neither events nor API calls"
	}
	return ""
}

// contract is what ingest will hold a redriven record to.
type contract struct {
	maxAge time.Duration
	topics map[string]uuid.UUID // that exist
	force  bool                 // send what will fail again
}

// skip says why l shall not be sent, "" when it shall.
func (c contract) skip(l *letter, now time.Time) string {
	if why := l.lasting(); why != "" {
		return why
	}
	if _, ok := c.topics[l.topic]; !ok {
		return "its topic does not exist"
	}
	if rule := c.breaks(l, now); rule != "" && !c.force {
		return fmt.Sprintf("would fail again (%s)", rule)
	}
	return ""
}

// breaks gives the rule that l would break if it were appended now, "" when
// it would be stored as far as can be told without the table.
func (c contract) breaks(l *letter, now time.Time) string {
	module, err := c.read(l, now)
	var undecoded *audit.DecodeError
	var problems audit.Problems
	switch {
	case errors.As(err, &undecoded):
		return undecoded.Rule
	case errors.As(err, &problems):
		return problems[0].Rule
	case topic.IsEvents(l.topic) && audit.Topic(module) != l.topic:
		return audit.RuleTopic
	case l.reason == topic.ReasonConflict:
		return topic.ReasonConflict
	}
	return ""
}

// read decodes and validates the value as ingest does, and gives its module.
func (c contract) read(l *letter, now time.Time) (module string, err error) {
	if l.topic == audit.APICallsTopic {
		var call audit.APICall
		if err := audit.DecodeAPICall(l.value, &call); err != nil {
			return "", err
		}
		return call.ModuleCode, call.Validate(now, c.maxAge)
	}
	var e audit.Event
	if err := audit.Decode(l.value, &e); err != nil {
		return "", err
	}
	return e.ModuleCode, e.Validate(now, c.maxAge)
}
