// Package field has the tables of the fields of events and of API calls: what
// each is called on the wire and in queries, and which column holds it.
// Decoding, SQL, DDL checks, reports and pages are driven by them; the contract
// test compares them with the JSON Schemas, the Go types and the live tables.
package field

import "strings"

// Table is the fields of one kind of record, and where the records are stored.
type Table struct {
	Name   string   // in ClickHouse
	Fields []Field  // in the order of the answer
	Texts  []*Field // those of type Text: what a query's bare words search
	// Date and ID give records their order: newest first, ties by the text of
	// the id, descending. The primary key is the subscription and they.
	Date, ID *Field
	// List is the field whose entries a query can look into, and Entries are the
	// fields of an entry; nil where there is none.
	List    *Field
	Entries []Field
	Common  []string // names of the fields that are asked for most, for messages
}

// Events are audit events.
var Events = table("audit_events", events, "createdDate", "id", "changes", ChangeFields,
	"userName", "action", "createdDate", "moduleCode", "targetType", "targetName", "status", "auditComment", "sourceIp")

// Calls are API calls, each in its latest state.
var Calls = table("api_calls", calls, "submittedDate", "callId", "", nil,
	"userName", "api", "state", "submittedDate", "updatedDate", "moduleCode", "httpStatus", "client", "sourceIp")

func table(name string, fields []Field, date, id, list string, entries []Field, common ...string) *Table {
	t := &Table{Name: name, Fields: fields, Date: Find(fields, date), ID: Find(fields, id), List: Find(fields, list), Entries: entries, Common: common}
	for i := range fields {
		if fields[i].Type == Text {
			t.Texts = append(t.Texts, &fields[i])
		}
	}
	return t
}

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
	Column string // column of its table
	Type   Type
	Always bool   // shown in every record, even when empty: the seeds' sample has it
	Title  string // name for people: report columns, CSV headers; the seeds' where they have one
}

// events in the order of the search answer, as the seeds' sample has them, then
// later additions.
var events = []Field{
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

// calls in the order of audit.APICall.
var calls = []Field{
	{"callId", "call_id", UUID, true, "Call Id"},
	{"customerUuid", "customer_uuid", Opaque, true, "Customer Uuid"},
	{"moduleCode", "module_code", Keyword, true, "Module Code"},
	{"api", "api", Text, true, "API"},
	{"method", "method", Keyword, true, "Method"},
	{"state", "state", Keyword, true, "State"},
	{"reason", "reason", Text, false, "Reason"},
	{"submittedDate", "submitted_date", Instant, true, "Submitted"},
	{"updatedDate", "updated_date", Instant, true, "Updated"},
	{"durationMs", "duration_ms", Number, false, "Duration (ms)"},
	{"httpStatus", "http_status", Number, false, "HTTP Status"},
	{"userName", "user_name", Text, true, "User Name"},
	{"userRole", "user_role", Keyword, true, "User Role"},
	{"userUuid", "user_uuid", Opaque, true, "User Uuid"},
	{"businessUnit", "business_unit", Keyword, false, "Business Unit"},
	{"client", "client", Text, true, "Client"},
	{"sourceIp", "source_ip", Address, true, "Source Ip"},
	{"requestId", "request_id", Opaque, false, "Request Id"},
}

// ChangeFields are the fields of an entry of changes. Their values are JSON: a
// string is compared by its text, any other value by its JSON. They have no
// column.
var ChangeFields = []Field{
	{"field", "", Text, false, "Field"},
	{"before", "", Text, false, "Before"},
	{"after", "", Text, false, "After"},
}

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
