// Package contract holds the tests that keep the statements of the event
// contract together: the JSON Schema and its examples, the Go type and its
// rules, the field table. It has no code of its own.
package contract
