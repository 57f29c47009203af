// Package contract holds the tests that keep the statements of the contracts
// of events and of API calls together: the JSON Schema and its examples, the Go
// type and its rules, the field table, the tables. It has no code of its own.
package contract
