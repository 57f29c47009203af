// Package schemas holds the wire contracts of Auditrail, for programs that
// check against them: JSON Schemas and the examples that show their rules.
package schemas

import "embed"

// FS holds the tree of this folder, by contract and version:
// audit/v1/event.schema.json and audit/v1/examples.
//
//go:embed audit
var FS embed.FS
