package audit

// fieldID numbers the known fields in the order of the struct.
type fieldID int

const (
	fieldUnknown fieldID = iota - 1
	fieldID_
	fieldAuditEnabledAppID
	fieldApplicationName
	fieldModuleCode
	fieldModuleName
	fieldUserName
	fieldUserRole
	fieldUserUUID
	fieldCustomerUUID
	fieldClient
	fieldSourceIP
	fieldCreatedDate
	fieldTargetType
	fieldTargetName
	fieldAction
	fieldStatus
	fieldAuditComment
	fieldExternalChangeLink
	fieldEndpointType
	fieldBusinessUnit
	fieldOrigin
	fieldChanges
	fieldRequestID
	fieldCount
)

// fieldNames are the names on the wire.
var fieldNames = [fieldCount]string{
	"id", "auditEnabledAppId", "applicationName", "moduleCode", "moduleName",
	"userName", "userRole", "userUuid", "customerUuid", "client", "sourceIp",
	"createdDate", "targetType", "targetName", "action", "status",
	"auditComment", "externalChangeLink", "endpointType", "businessUnit",
	"origin", "changes", "requestId",
}

// fieldStarts are the names in quotes, each with its colon.
var fieldStarts = func() (starts [fieldCount]string) {
	for f, name := range fieldNames {
		starts[f] = `"` + name + `":`
	}
	return starts
}()

// fieldOf finds a known field by its name on the wire.
func fieldOf(name string) fieldID {
	switch name {
	case "id":
		return fieldID_
	case "auditEnabledAppId":
		return fieldAuditEnabledAppID
	case "applicationName":
		return fieldApplicationName
	case "moduleCode":
		return fieldModuleCode
	case "moduleName":
		return fieldModuleName
	case "userName":
		return fieldUserName
	case "userRole":
		return fieldUserRole
	case "userUuid":
		return fieldUserUUID
	case "customerUuid":
		return fieldCustomerUUID
	case "client":
		return fieldClient
	case "sourceIp":
		return fieldSourceIP
	case "createdDate":
		return fieldCreatedDate
	case "targetType":
		return fieldTargetType
	case "targetName":
		return fieldTargetName
	case "action":
		return fieldAction
	case "status":
		return fieldStatus
	case "auditComment":
		return fieldAuditComment
	case "externalChangeLink":
		return fieldExternalChangeLink
	case "endpointType":
		return fieldEndpointType
	case "businessUnit":
		return fieldBusinessUnit
	case "origin":
		return fieldOrigin
	case "changes":
		return fieldChanges
	case "requestId":
		return fieldRequestID
	}
	return fieldUnknown
}

// text gives the place of a string field, nil for the three that are none.
func (e *Event) text(f fieldID) *string {
	switch f {
	case fieldID_:
		return &e.ID
	case fieldApplicationName:
		return &e.ApplicationName
	case fieldModuleCode:
		return &e.ModuleCode
	case fieldModuleName:
		return &e.ModuleName
	case fieldUserName:
		return &e.UserName
	case fieldUserRole:
		return &e.UserRole
	case fieldUserUUID:
		return &e.UserUUID
	case fieldCustomerUUID:
		return &e.CustomerUUID
	case fieldClient:
		return &e.Client
	case fieldSourceIP:
		return &e.SourceIP
	case fieldTargetType:
		return &e.TargetType
	case fieldTargetName:
		return &e.TargetName
	case fieldAction:
		return &e.Action
	case fieldStatus:
		return &e.Status
	case fieldAuditComment:
		return &e.AuditComment
	case fieldExternalChangeLink:
		return &e.ExternalChangeLink
	case fieldEndpointType:
		return &e.EndpointType
	case fieldBusinessUnit:
		return &e.BusinessUnit
	case fieldOrigin:
		return &e.Origin
	case fieldRequestID:
		return &e.RequestID
	default:
		return nil
	}
}
