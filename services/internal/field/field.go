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
	Always bool // shown in every record, even when empty: the seeds' sample has it
}

// Fields in the order of the search answer, as the seeds' sample has them,
// then later additions.
var Fields = []Field{
	{"id", "id", UUID, true},
	{"auditEnabledAppId", "audit_enabled_app_id", Number, true},
	{"applicationName", "application_name", Keyword, true},
	{"moduleCode", "module_code", Keyword, true},
	{"moduleName", "module_name", Keyword, true},
	{"userName", "user_name", Text, true},
	{"userRole", "user_role", Keyword, true},
	{"userUuid", "user_uuid", Opaque, true},
	{"customerUuid", "customer_uuid", Opaque, true},
	{"client", "client", Keyword, true},
	{"sourceIp", "source_ip", Address, true},
	{"createdDate", "created_date", Instant, true},
	{"targetType", "target_type", Keyword, true},
	{"targetName", "target_name", Text, true},
	{"action", "action", Keyword, true},
	{"status", "status", Keyword, true},
	{"auditComment", "audit_comment", Text, true},
	{"externalChangeLink", "external_change_link", Text, true},
	{"endpointType", "endpoint_type", Keyword, false},
	{"businessUnit", "business_unit", Keyword, false},
	{"origin", "origin", Keyword, false},
	{"changes", "changes", JSON, false},
	{"requestId", "request_id", Opaque, false},
	{"extra", "extra", JSON, false},
}
