package ingest

import (
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// newEvents is the stream of audit events: one topic a module.
func newEvents() *stream {
	return newStream("audit_events", "created_date", "another event of this customer has this id, with other content",
		func() filler { return newEventColumns() })
}

// eventColumns are the columns of audit_events.
type eventColumns struct {
	columns
	appID                                                                  proto.ColUInt32
	applicationName, moduleCode, moduleName, userRole                      dictionary
	client, targetType, action, status, endpointType, businessUnit, origin dictionary
	userName, userUUID                                                     dictionary
	targetName, comment, link, changes, requestID, extra                   proto.ColStr
	sourceIP                                                               proto.ColIPv6

	// Of the record read last. Its strings point into the record.
	event   audit.Event
	eventID uuid.UUID
}

func newEventColumns() *eventColumns {
	c := &eventColumns{}
	c.build(proto.Input{
		{Name: "id", Data: &c.id},
		{Name: "audit_enabled_app_id", Data: &c.appID},
		{Name: "application_name", Data: &c.applicationName},
		{Name: "module_code", Data: &c.moduleCode},
		{Name: "module_name", Data: &c.moduleName},
		{Name: "user_name", Data: &c.userName},
		{Name: "user_role", Data: &c.userRole},
		{Name: "user_uuid", Data: &c.userUUID},
		{Name: "customer_uuid", Data: &c.customer},
		{Name: "client", Data: &c.client},
		{Name: "source_ip", Data: &c.sourceIP},
		{Name: "created_date", Data: &c.date},
		{Name: "target_type", Data: &c.targetType},
		{Name: "target_name", Data: &c.targetName},
		{Name: "action", Data: &c.action},
		{Name: "status", Data: &c.status},
		{Name: "audit_comment", Data: &c.comment},
		{Name: "external_change_link", Data: &c.link},
		{Name: "endpoint_type", Data: &c.endpointType},
		{Name: "business_unit", Data: &c.businessUnit},
		{Name: "origin", Data: &c.origin},
		{Name: "changes", Data: &c.changes},
		{Name: "request_id", Data: &c.requestID},
		{Name: "extra", Data: &c.extra},
	})
	return c
}

func (c *eventColumns) base() *columns { return &c.columns }

func (c *eventColumns) read(l *lane, r *kgo.Record, at topic.Position) (entry, error) {
	if err := audit.Decode(r.Value, &c.event); err != nil {
		return entry{}, err
	}
	if err := c.event.Validate(r.Timestamp, l.in.maxAge); err != nil {
		return entry{}, err
	}
	if c.event.ModuleCode != l.module {
		return entry{}, wrongTopic(c.event.ModuleCode, l.at.topic)
	}
	var e entry
	if c.event.Origin == audit.OriginAutoUpdate {
		e.generatedFor = c.event.CustomerUUID
	}
	var err error
	c.eventID, err = eventID(&c.event, at, r.Headers)
	return e, err
}

func (c *eventColumns) probe(date int64) {
	c.row(&audit.Event{CustomerUUID: "probe", CreatedDate: date}, uuid.New(), topic.Position{}, 0)
}

func (c *eventColumns) forget() { c.event = audit.Event{} }

func (c *eventColumns) add(at topic.Position, appended int64) {
	c.row(&c.event, c.eventID, at, appended)
}

// row appends a valid event.
func (c *eventColumns) row(e *audit.Event, id uuid.UUID, at topic.Position, appended int64) {
	c.months.add(e.CreatedDate)
	c.id.Append(id)
	c.appID.Append(e.AuditEnabledAppID)
	c.applicationName.append(e.ApplicationName)
	c.moduleCode.append(e.ModuleCode)
	c.moduleName.append(e.ModuleName)
	c.userName.append(e.UserName)
	c.userRole.append(e.UserRole)
	c.userUUID.append(e.UserUUID)
	c.customer.append(e.CustomerUUID)
	c.client.append(e.Client)
	c.sourceIP.Append(address(e.SourceIP))
	c.date.AppendRaw(proto.DateTime64(e.CreatedDate))
	c.targetType.append(e.TargetType)
	c.targetName.Append(e.TargetName)
	c.action.append(e.Action)
	c.status.append(e.Status)
	c.comment.Append(e.AuditComment)
	c.link.Append(e.ExternalChangeLink)
	c.endpointType.append(e.EndpointType)
	c.businessUnit.append(e.BusinessUnit)
	c.origin.append(e.Origin)
	c.changes.AppendBytes(e.Changes)
	c.requestID.Append(e.RequestID)
	c.extra.AppendBytes(e.Extra)
	c.stood(at, appended)
}

// eventID is the id of an event: its own, else one made from its position, so
// that every replay of the record gives it the same. A record that was put
// back from the dead letters counts as at the position where it stood first.
func eventID(e *audit.Event, at topic.Position, headers []kgo.RecordHeader) (uuid.UUID, error) {
	if e.ID != "" {
		return parseID(e.ID)
	}
	for _, h := range headers {
		if h.Key != audit.HeaderRedriven {
			continue
		}
		if first, err := topic.ParsePosition(string(h.Value)); err == nil {
			at = first
		}
	}
	return uuid.NewSHA1(at.TopicID, fmt.Appendf(nil, "%d/%d", at.Partition, at.Offset)), nil
}
