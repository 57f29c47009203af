package audit

import "strings"

const (
	topicPrefix = "audit.events."
	topicSuffix = ".v1"
)

// Topic names the Kafka topic of a module's events: the code "PM" travels on
// "audit.events.pm.v1".
func Topic(moduleCode string) string {
	return topicPrefix + strings.ToLower(moduleCode) + topicSuffix
}

// ModuleOf gives the module code whose events a topic carries, and false for
// any other topic.
func ModuleOf(topic string) (string, bool) {
	low, ok := strings.CutPrefix(topic, topicPrefix)
	if !ok {
		return "", false
	}
	if low, ok = strings.CutSuffix(low, topicSuffix); !ok {
		return "", false
	}
	code := strings.ToUpper(low)
	if !isModuleCode(code) || strings.ToLower(code) != low {
		return "", false
	}
	return code, true
}
