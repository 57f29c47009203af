package ingest

import (
	"fmt"

	"github.com/auditrail/auditrail/pkg/audit"
)

// tooLong and wrongTopic report the rules that only the reader of a topic can
// check, in the form of the contract's own.

func tooLong(size int) error {
	return &audit.DecodeError{Rule: audit.RuleRecord, Reason: fmt.Sprintf("the record has %d bytes; at most %d are allowed", size, audit.MaxRecordBytes)}
}

func wrongTopic(code, topic string) error {
	return audit.Problems{{Field: "moduleCode", Rule: audit.RuleTopic, Message: fmt.Sprintf("does not belong on topic %s; events of module %.32q travel on %.64s", topic, code, audit.Topic(code))}}
}
