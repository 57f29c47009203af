package audit

import "strings"

// callField numbers the fields of an APICall in the order of the struct.
type callField int

const (
	callUnknown callField = iota - 1
	callCallID
	callCustomerUUID
	callModuleCode
	callAPI
	callMethod
	callState
	callHeartbeat
	callDurable
	callReason
	callSubmittedDate
	callUpdatedDate
	callDurationMs
	callHTTPStatus
	callUserName
	callUserRole
	callUserUUID
	callBusinessUnit
	callClient
	callSourceIP
	callRequestID
	callFieldCount
)

// callNames are the names on the wire.
var callNames = [callFieldCount]string{
	"callId",
	"customerUuid",
	"moduleCode",
	"api",
	"method",
	"state",
	"heartbeat",
	"durable",
	"reason",
	"submittedDate",
	"updatedDate",
	"durationMs",
	"httpStatus",
	"userName",
	"userRole",
	"userUuid",
	"businessUnit",
	"client",
	"sourceIp",
	"requestId",
}

// callFieldOf finds a field by its name on the wire.
func callFieldOf(name string) callField {
	switch name {
	case "callId":
		return callCallID
	case "customerUuid":
		return callCustomerUUID
	case "moduleCode":
		return callModuleCode
	case "api":
		return callAPI
	case "method":
		return callMethod
	case "state":
		return callState
	case "heartbeat":
		return callHeartbeat
	case "durable":
		return callDurable
	case "reason":
		return callReason
	case "submittedDate":
		return callSubmittedDate
	case "updatedDate":
		return callUpdatedDate
	case "durationMs":
		return callDurationMs
	case "httpStatus":
		return callHTTPStatus
	case "userName":
		return callUserName
	case "userRole":
		return callUserRole
	case "userUuid":
		return callUserUUID
	case "businessUnit":
		return callBusinessUnit
	case "client":
		return callClient
	case "sourceIp":
		return callSourceIP
	case "requestId":
		return callRequestID
	}
	return callUnknown
}

// text gives the place of a string field, nil for those that are none.
func (c *APICall) text(f callField) *string {
	switch f {
	case callCallID:
		return &c.CallID
	case callCustomerUUID:
		return &c.CustomerUUID
	case callModuleCode:
		return &c.ModuleCode
	case callAPI:
		return &c.API
	case callMethod:
		return &c.Method
	case callState:
		return &c.State
	case callReason:
		return &c.Reason
	case callUserName:
		return &c.UserName
	case callUserRole:
		return &c.UserRole
	case callUserUUID:
		return &c.UserUUID
	case callBusinessUnit:
		return &c.BusinessUnit
	case callClient:
		return &c.Client
	case callSourceIP:
		return &c.SourceIP
	case callRequestID:
		return &c.RequestID
	default:
		return nil
	}
}

// likelyCallField finds the field that was meant by a name that is none: it has
// other case, or dashes and underscores. "" when there is none.
func likelyCallField(name string) string {
	plain := strings.NewReplacer("_", "", "-", "").Replace(name)
	for _, known := range callNames {
		if strings.EqualFold(plain, known) {
			return known
		}
	}
	return ""
}
