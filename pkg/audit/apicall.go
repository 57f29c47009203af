package audit

// APICallsTopic carries the states of API calls of all modules, keyed by
// callId, so that the states of one call are in order.
const APICallsTopic = "audit.api-calls.v1"

// APICall is one change of state of one call of a module's API, or a sign of
// life of a call that goes on. Each record tells all about the call that is
// known by then: a reader needs no other.
//
// On the wire it is one JSON object with the names of the struct tags. Absent,
// null, empty, 0 and false mean the same. Members that the contract does not
// know are refused. Strings of an APICall that came from DecodeAPICall point
// into the decoded bytes: they are valid as long as those bytes are not reused.
// What identifies a change of state is CallID and State: see ID.
type APICall struct {
	// CallID identifies the call. A UUID, of version 7 from the SDK. Required.
	CallID string `json:"callId,omitempty"`
	// CustomerUUID is the opaque id of the subscription (tenant), at most 64
	// bytes. Required.
	CustomerUUID string `json:"customerUuid,omitempty"`
	// ModuleCode is the code of the module that was called, such as "PM".
	// Required. 1 to 32 upper-case letters and digits, a letter first.
	ModuleCode string `json:"moduleCode,omitempty"`
	// API names what was called, as limits do: a path without its leading slash
	// and with placeholders, such as "audit-log/admin/events/{id}", or any name.
	// Required, at most 256 bytes.
	API string `json:"api,omitempty"`
	// Method is the HTTP method, at most 32 bytes; empty for calls that are not
	// HTTP.
	Method string `json:"method,omitempty"`
	// State is one of APICallStates. Required.
	State string `json:"state,omitempty"`
	// Heartbeat marks a sign of life: the call is still in State, which is
	// StateQueued or StateRunning. It is no change of state and is not stored.
	Heartbeat bool `json:"heartbeat,omitempty"`
	// Durable marks a call that outlives the process that tells of it, such as a
	// job that whichever process is there goes on with: it never expires for its
	// silence, and gives no signs of life. It is not stored. The same in all
	// records of a call.
	Durable bool `json:"durable,omitempty"`
	// Reason says for people why the call is in its state: which limit blocked
	// it, why it expired. At most 1024 bytes.
	Reason string `json:"reason,omitempty"`
	// SubmittedDate is when the call came in, in milliseconds since the Unix
	// epoch. Required; the same in all records of a call. Not older than MaxAge,
	// not further ahead than MaxAhead.
	SubmittedDate int64 `json:"submittedDate,omitempty"`
	// UpdatedDate is when the call came into State, or gave its sign of life, in
	// milliseconds since the Unix epoch. Required. Not before SubmittedDate, not
	// further ahead than MaxAhead.
	UpdatedDate int64 `json:"updatedDate,omitempty"`
	// DurationMs is for how long the call ran, in milliseconds; of StateFinished
	// and StateExpired.
	DurationMs uint32 `json:"durationMs,omitempty"`
	// HTTPStatus is the status of the answer, 100 to 599; 0 when there is none.
	HTTPStatus uint32 `json:"httpStatus,omitempty"`
	// UserName, UserRole and UserUUID are the calling user's, as in Event. One of
	// UserName and UserUUID is required.
	UserName string `json:"userName,omitempty"`
	UserRole string `json:"userRole,omitempty"`
	UserUUID string `json:"userUuid,omitempty"`
	// BusinessUnit is the calling user's unit, at most 256 bytes; of several, the
	// first. It decides who sees the user where that view is restricted.
	BusinessUnit string `json:"businessUnit,omitempty"`
	// Client names the caller's program: its User-Agent. At most 256 bytes.
	Client string `json:"client,omitempty"`
	// SourceIP is the IPv4 or IPv6 address the call came from, without a zone.
	SourceIP string `json:"sourceIp,omitempty"`
	// RequestID ties the call to its request, at most 256 bytes.
	RequestID string `json:"requestId,omitempty"`
}

// States of an API call (seed 000).
const (
	StateQueued             = "Queued"  // it waits for a place
	StateRunning            = "Running" // it is being served
	StateExpired            = "Expired" // nothing was heard of it for too long
	StateFinished           = "Finished"
	StateBlockedRate        = "Blocked (Rate)"        // by the limit of calls in a window
	StateBlockedConcurrency = "Blocked (Concurrency)" // by the limit of calls at a time
)

// APICallStates lists the states, each after those that it may follow. A call
// is in the latest of those that are known of it, in whatever order they come:
// Finished corrects Expired. See StateRank.
var APICallStates = []string{StateQueued, StateRunning, StateExpired, StateFinished, StateBlockedRate, StateBlockedConcurrency}

// StateRank orders states: of two that are known of a call, it is in the one
// with the higher rank. 0 for text that is no state.
func StateRank(state string) uint8 {
	switch state {
	case StateQueued:
		return 1
	case StateRunning:
		return 2
	case StateExpired:
		return 3
	case StateFinished, StateBlockedRate, StateBlockedConcurrency:
		return 4
	}
	return 0
}

// Limits of an API call's record, in bytes, beside those of Event.
const (
	// MaxAPIBytes is the longest api.
	MaxAPIBytes = 256
	// MaxMethodBytes is the longest method.
	MaxMethodBytes = 32
	// MaxReasonBytes is the longest reason.
	MaxReasonBytes = 1 << 10
)
