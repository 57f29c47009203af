// Package audit holds the contracts of audit events and of API calls: the
// records themselves, how they travel as JSON, and the rules they must keep.
// The same rules are written for other languages in
// schemas/audit/v1/event.schema.json and api-call.schema.json; a contract test
// holds them together.
package audit

import "encoding/json"

// Event is one audit event: who did what, to what, when, from where.
//
// On the wire it is one JSON object with the names of the struct tags. Absent,
// null and empty mean the same for every optional field. Strings of an Event
// that came from Decode point into the decoded bytes: they are valid as long
// as those bytes are not reused.
type Event struct {
	// ID identifies the event within its customer. A UUID; the SDK sets a
	// version 7 one when it is empty. A record without one gets a version 5
	// UUID of its Kafka position at ingest.
	ID string `json:"id,omitempty"`
	// AuditEnabledAppID is the number of the product module, 0 to 4294967295.
	AuditEnabledAppID uint32 `json:"auditEnabledAppId,omitempty"`
	// ApplicationName is the short name of the application, such as "pm".
	ApplicationName string `json:"applicationName,omitempty"`
	// ModuleCode is the code of the emitting module, such as "PM". Required.
	// 1 to 32 upper-case letters and digits, a letter first. It names the
	// topic: see Topic.
	ModuleCode string `json:"moduleCode,omitempty"`
	// ModuleName is the display name of the module, such as "Patch Management".
	ModuleName string `json:"moduleName,omitempty"`
	// UserName is the login or display name of the acting user. Required when
	// UserUUID is empty.
	UserName string `json:"userName,omitempty"`
	// UserRole is the role the user acted in, such as "Manager".
	UserRole string `json:"userRole,omitempty"`
	// UserUUID is the opaque id of the acting user, at most 64 bytes.
	// Required when UserName is empty.
	UserUUID string `json:"userUuid,omitempty"`
	// CustomerUUID is the opaque id of the subscription (tenant), at most 64
	// bytes. Required. It is the record's key.
	CustomerUUID string `json:"customerUuid,omitempty"`
	// Client names the user's client, such as "Chrome-Browser".
	Client string `json:"client,omitempty"`
	// SourceIP is the IPv4 or IPv6 address the user came from, without a zone.
	SourceIP string `json:"sourceIp,omitempty"`
	// CreatedDate is when it happened, in milliseconds since the Unix epoch.
	// Required. Not older than MaxAge, not further ahead than MaxAhead.
	CreatedDate int64 `json:"createdDate,omitempty"`
	// TargetType is the kind of object acted upon, such as "User".
	TargetType string `json:"targetType,omitempty"`
	// TargetName names the object acted upon.
	TargetName string `json:"targetName,omitempty"`
	// Action is what was done, such as "Add" or "Login". Required.
	Action string `json:"action,omitempty"`
	// Status is the outcome, such as "Success".
	Status string `json:"status,omitempty"`
	// AuditComment is the description for people.
	AuditComment string `json:"auditComment,omitempty"`
	// ExternalChangeLink leads to the change in the emitting product.
	ExternalChangeLink string `json:"externalChangeLink,omitempty"`
	// EndpointType is how the product was reached: EndpointWebUI, EndpointAPI
	// or EndpointBackgroundTask.
	EndpointType string `json:"endpointType,omitempty"`
	// BusinessUnit is the unit the event belongs to, at most 256 bytes. When
	// it is empty, only Manager, Auditor and the acting user see the event.
	BusinessUnit string `json:"businessUnit,omitempty"`
	// Origin is OriginAutoUpdate for generated policy updates, else empty.
	Origin string `json:"origin,omitempty"`
	// Changes is a JSON array of Change objects, for configuration edits. Use
	// SetChanges to fill it. From Decode it is as it came, with any white space
	// and line ends between its tokens.
	Changes json.RawMessage `json:"changes,omitempty"`
	// RequestID ties the event to the request that caused it.
	RequestID string `json:"requestId,omitempty"`
	// Extra is a JSON object of the fields this contract does not know. Its
	// members stand beside the known fields on the wire and are kept, so that a
	// module may emit more than the contract names. Use SetExtra to fill it.
	// From Decode, names and values are as they came, with any white space and
	// line ends within values; it is a copy of its own.
	Extra json.RawMessage `json:"-"`
}

// Change is one edited field of a configuration edit.
type Change struct {
	// Field names what was edited. Required.
	Field string `json:"field"`
	// Before and After are any JSON values; nil means that there was none.
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
}

// Values of Event.EndpointType.
const (
	EndpointWebUI          = "Web UI"
	EndpointAPI            = "API"
	EndpointBackgroundTask = "Background Task"
)

// OriginAutoUpdate marks policy updates that were generated during a scan.
const OriginAutoUpdate = "auto-update"
