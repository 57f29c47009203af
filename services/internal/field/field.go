// Package field is the one table of an event's fields: what each is called on
// the wire and in queries, and which column holds it. Decoding, SQL, DDL
// checks, reports and pages are driven by it; the contract test compares it
// with the JSON Schema, the Go type and the live table.
package field

import "strings"

// Type says how a field's values compare and travel.
type Type int

// Field types, with the ClickHouse type of the column.
const (
	UUID    Type = iota // UUID
	Number              // UInt32
	Keyword             // LowCardinality(String): few distinct values
	Text                // String or LowCardinality(String): words are searched
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
	Always bool   // shown in every record, even when empty: the seeds' sample has it
	Title  string // name for people: report columns, CSV headers; the seeds' where they have one
}

// Fields in the order of the search answer, as the seeds' sample has them,
// then later additions.
var Fields = []Field{
	{"id", "id", UUID, true, "Id"},
	{"auditEnabledAppId", "audit_enabled_app_id", Number, true, "App Id"},
	{"applicationName", "application_name", Keyword, true, "Application Name"},
	{"moduleCode", "module_code", Keyword, true, "Module Code"},
	{"moduleName", "module_name", Keyword, true, "Module Name"},
	{"userName", "user_name", Text, true, "User Name"},
	{"userRole", "user_role", Keyword, true, "User Role"},
	{"userUuid", "user_uuid", Opaque, true, "User Uuid"},
	{"customerUuid", "customer_uuid", Opaque, true, "Customer Uuid"},
	{"client", "client", Keyword, true, "Client"},
	{"sourceIp", "source_ip", Address, true, "Source Ip"},
	{"createdDate", "created_date", Instant, true, "Created Date"},
	{"targetType", "target_type", Keyword, true, "Target Type"},
	{"targetName", "target_name", Text, true, "Target Name"},
	{"action", "action", Keyword, true, "Action"},
	{"status", "status", Keyword, true, "Status"},
	{"auditComment", "audit_comment", Text, true, "Details"},
	{"externalChangeLink", "external_change_link", Text, true, "External Change Link"},
	{"endpointType", "endpoint_type", Keyword, false, "Endpoint Type"},
	{"businessUnit", "business_unit", Keyword, false, "Business Unit"},
	{"origin", "origin", Keyword, false, "Origin"},
	{"changes", "changes", JSON, false, "Changes"},
	{"requestId", "request_id", Opaque, false, "Request Id"},
	{"extra", "extra", JSON, false, "Extra"},
}

// ChangeFields are the fields of an entry of changes. Their values are JSON: a
// string is compared by its text, any other value by its JSON. They have no
// column.
var ChangeFields = []Field{
	{"field", "", Text, false, "Field"},
	{"before", "", Text, false, "Before"},
	{"after", "", Text, false, "After"},
}

// Texts are the fields of type Text: what a query's bare words search.
var Texts = func() []*Field {
	var texts []*Field
	for i := range Fields {
		if Fields[i].Type == Text {
			texts = append(texts, &Fields[i])
		}
	}
	return texts
}()

// Find returns the row of fields with a name, in any case; nil when there is
// none.
func Find(fields []Field, name string) *Field {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return &fields[i]
		}
	}
	return nil
}
