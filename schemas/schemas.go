// Package schemas holds the wire contracts of Auditrail, for programs that
// check against them: JSON Schemas and the examples that show their rules.
package schemas

import "embed"

// FS holds the tree of this folder, by contract and version:
// audit/v1/event.schema.json with audit/v1/examples, and
// audit/v1/api-call.schema.json with audit/v1/examples/api-call.
//
//go:embed audit
var FS embed.FS
