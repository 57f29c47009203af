// Package field is the one table of an event's fields: what each is called on
// the wire and in queries, and which column holds it. Decoding, SQL, DDL
// checks, reports and pages are driven by it; the contract test compares it
// with the JSON Schema, the Go type and the live table.
package field

// Type says how a field's values compare and travel.
type Type int

// Field types, with the ClickHouse type of the column.
const (
	UUID    Type = iota // UUID
	Number              // UInt32
	Keyword             // LowCardinality(String): few distinct values
	Text                // String: words are searched
	Opaque              // String or LowCardinality(String): compared whole
	Address             // IPv6; an IPv4 address is stored mapped, absent as ::
	Instant             // DateTime64(3,'UTC'); epoch milliseconds on the wire
	JSON                // String holding JSON
)

// Field is one row of the table.
type Field struct {
	Name   string // JSON name on the wire, also the QQL token
	Column string // column of audit_events
	Type   Type
}

// Fields in the order of the search answer, as the seeds' sample has them,
// then later additions.
var Fields = []Field{
	{"id", "id", UUID},
	{"auditEnabledAppId", "audit_enabled_app_id", Number},
	{"applicationName", "application_name", Keyword},
	{"moduleCode", "module_code", Keyword},
	{"moduleName", "module_name", Keyword},
	{"userName", "user_name", Text},
	{"userRole", "user_role", Keyword},
	{"userUuid", "user_uuid", Opaque},
	{"customerUuid", "customer_uuid", Opaque},
	{"client", "client", Keyword},
	{"sourceIp", "source_ip", Address},
	{"createdDate", "created_date", Instant},
	{"targetType", "target_type", Keyword},
	{"targetName", "target_name", Text},
	{"action", "action", Keyword},
	{"status", "status", Keyword},
	{"auditComment", "audit_comment", Text},
	{"externalChangeLink", "external_change_link", Text},
	{"endpointType", "endpoint_type", Keyword},
	{"businessUnit", "business_unit", Keyword},
	{"origin", "origin", Keyword},
	{"changes", "changes", JSON},
	{"requestId", "request_id", Opaque},
	{"extra", "extra", JSON},
}
