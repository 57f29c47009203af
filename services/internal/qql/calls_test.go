package qql

import (
	"errors"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
)

// TestErrorsOfCalls holds that what is said about a wrong query speaks of the
// fields that API calls have.
func TestErrorsOfCalls(t *testing.T) {
	for query, want := range map[string]string{
		"stat: running":          "stat is not a field; did you mean state?",
		"foo: running":           "foo is not a field; fields are userName, api, state, submittedDate, updatedDate, moduleCode, httpStatus, client and sourceIp, among others",
		"action: delete":         "action is not a field; fields are userName, api, state, submittedDate, updatedDate, moduleCode, httpStatus, client and sourceIp, among others",
		"changes.field: role":    "changes.field is not a field; fields are userName, api, state, submittedDate, updatedDate, moduleCode, httpStatus, client and sourceIp, among others",
		"changes:(field: role)":  "changes is not a field; fields are userName, api, state, submittedDate, updatedDate, moduleCode, httpStatus, client and sourceIp, among others",
		"api: x state: running":  "put AND or OR before state",
		"api: x action: running": "action is not a field. If it belongs to the text, put the text in quotes",
		"updatedDate: yesterday": `updatedDate is a date: "yesterday" is not one; write one such as now-7d or 2026-01-31`,
		"durationMs: long":       `durationMs is a number: "long" is not one; write one such as 21`,
		"state:":                 "expected a value of state at the end",
		"AND":                    `expected a condition before AND; to search for the word itself, write "and"`,
	} {
		_, err := Parse(field.Calls, query)
		var e *Error
		if !errors.As(err, &e) || e.Message != want {
			t.Errorf("%s\nsays %v\nwant %s", query, err, want)
			continue
		}
		if e.Example != "" {
			if _, err := Parse(field.Calls, e.Example); err != nil {
				t.Errorf("%s: the example %s is wrong: %v", query, e.Example, err)
			}
		}
	}
	_, errs := FromFilters(field.Calls, []Filter{{"action", "is", []string{"a"}}, {"updatedDate", "after", []string{"now-1h"}}, {"sourceIp", "contains", []string{"10"}}})
	if len(errs) != 2 || errs[1] != nil {
		t.Errorf("filters: %v", errs)
	}
}

// TestEachFieldIsCompiled holds that the evaluator reads the field that a test
// names, of events and of calls.
func TestEachFieldIsCompiled(t *testing.T) {
	call := audit.APICall{
		CallID: "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9", CustomerUUID: "customerUuid", ModuleCode: "moduleCode", API: "api", Method: "method", State: "state",
		Reason: "reason", SubmittedDate: 1_000_000_000_000, UpdatedDate: 1_000_000_000_001, DurationMs: 3, HTTPStatus: 4, UserName: "userName", UserRole: "userRole",
		UserUUID: "userUuid", BusinessUnit: "businessUnit", Client: "client", SourceIP: "10.1.2.3", RequestID: "requestId",
	}
	values := map[string]string{"callId": call.CallID, "submittedDate": "1000000000000", "updatedDate": "1000000000001", "durationMs": "3", "httpStatus": "4", "sourceIp": call.SourceIP}
	for _, f := range field.Calls.Fields {
		value := values[f.Name]
		if value == "" {
			value = "`" + f.Name + "`"
		}
		for query, want := range map[string]bool{f.Name + ": " + value: true, f.Name + " is null": false, "NOT " + f.Name + ": [" + value + "]": false} {
			x, err := Parse(field.Calls, query)
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			if CompileCall(x, time.Now())(&call) != want {
				t.Errorf("%s: %v", query, !want)
			}
		}
	}
}
