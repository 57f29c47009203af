package audit

import "time"

// Limits of an event. Lengths are in bytes of UTF-8. The JSON Schema states
// the same numbers, in characters where it knows nothing finer.
const (
	// MaxRecordBytes is the longest event or API call on the wire.
	MaxRecordBytes = 256 << 10
	// MaxStringBytes is the longest string of a known field.
	MaxStringBytes = 64 << 10
	// MaxNameBytes is the longest value of the fields that repeat from event
	// to event (action, userRole, targetType, status, client, moduleName,
	// applicationName), of businessUnit and of requestId.
	MaxNameBytes = 256
	// MaxIDBytes is the longest userUuid or customerUuid.
	MaxIDBytes = 64
	// MaxOriginBytes is the longest origin.
	MaxOriginBytes = 64
	// MaxModuleCodeBytes is the longest moduleCode.
	MaxModuleCodeBytes = 32
	// MaxChanges is how many entries changes may have.
	MaxChanges = 1000
	// MaxExtraFields is how many fields an event may have that the contract
	// does not know.
	MaxExtraFields = 100
	// MaxExtraNameBytes is the longest name of such a field.
	MaxExtraNameBytes = 256
	// MaxDepth is how deep the arrays and objects of one member's value may
	// nest.
	MaxDepth = 32
)

// Range of createdDate around the clock of the checker.
const (
	// DefaultMaxAge is how old an event may be when retention is not set.
	DefaultMaxAge = 400 * 24 * time.Hour
	// MaxAhead is how far an event may lie in the future: room for clocks
	// that are wrong, and no more.
	MaxAhead = 24 * time.Hour
)
