package emit

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/auditrail/auditrail/pkg/audit"
)

// topicNames remembers the topics of the modules that emit, of which a process
// has one or a few. The zero value is ready.
type topicNames struct {
	known atomic.Pointer[map[string]string] // never changed once stored
}

// maxTopicNames bounds the memory when a caller makes up module codes.
const maxTopicNames = 256

// of is audit.Topic without making the string anew. It keeps nothing of code.
func (t *topicNames) of(code string) string {
	known := t.known.Load()
	if known != nil {
		if topic, ok := (*known)[code]; ok {
			return topic
		}
		if len(*known) >= maxTopicNames {
			return audit.Topic(code)
		}
	}
	topic := audit.Topic(code)
	next := map[string]string{strings.Clone(code): topic}
	if known != nil {
		maps.Copy(next, *known)
	}
	t.known.CompareAndSwap(known, &next) // losing a race costs one more try later
	return topic
}

// explain says in an error what to do about it, where that is known.
func explain(topic string, err error) error {
	switch {
	case topic == audit.APICallsTopic && errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("topic %s does not exist: run the migration that makes it: %w", topic, err)
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		module, _ := audit.ModuleOf(topic)
		return fmt.Errorf("topic %s does not exist: register module %s and run the migration that makes its topic: %w", topic, module, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("topic %s may not be written to: allow this client to produce to it: %w", topic, err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("topic %s takes no event this long: raise its max.message.bytes above %d: %w", topic, audit.MaxRecordBytes, err)
	}
	return fmt.Errorf("deliver to topic %s: %w", topic, err)
}
