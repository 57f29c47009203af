package ingest

import (
	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// newCalls is the stream of the states of API calls. Heartbeats are read and
// not stored.
func newCalls() *stream {
	s := newStream("api_call_events", "updated_date", "another record of this call has this state, with other content",
		func() filler { return newCallColumns() })
	s.redated = true // an Expired one, of a call that was alive after all
	s.latest, s.target = "api_calls_latest", "api_calls"
	return s
}

// callColumns are the columns of api_call_events.
type callColumns struct {
	columns
	callID                                             proto.ColUUID
	moduleCode, api, method, state, reason             dictionary
	userName, userRole, userUUID, businessUnit, client dictionary
	rank                                               proto.ColUInt8
	submitted                                          proto.ColDateTime64
	duration, status                                   proto.ColUInt32
	sourceIP                                           proto.ColIPv6
	requestID                                          proto.ColStr

	// Of the record read last. Its strings point into the record.
	call audit.APICall
	of   uuid.UUID // id of the call
}

func newCallColumns() *callColumns {
	c := &callColumns{}
	c.build(proto.Input{
		{Name: "id", Data: &c.id},
		{Name: "call_id", Data: &c.callID},
		{Name: "customer_uuid", Data: &c.customer},
		{Name: "module_code", Data: &c.moduleCode},
		{Name: "api", Data: &c.api},
		{Name: "method", Data: &c.method},
		{Name: "state", Data: &c.state},
		{Name: "state_rank", Data: &c.rank},
		{Name: "reason", Data: &c.reason},
		{Name: "submitted_date", Data: &c.submitted},
		{Name: "updated_date", Data: &c.date},
		{Name: "duration_ms", Data: &c.duration},
		{Name: "http_status", Data: &c.status},
		{Name: "user_name", Data: &c.userName},
		{Name: "user_role", Data: &c.userRole},
		{Name: "user_uuid", Data: &c.userUUID},
		{Name: "business_unit", Data: &c.businessUnit},
		{Name: "client", Data: &c.client},
		{Name: "source_ip", Data: &c.sourceIP},
		{Name: "request_id", Data: &c.requestID},
	})
	return c
}

func (c *callColumns) base() *columns { return &c.columns }

func (c *callColumns) read(l *lane, r *kgo.Record, _ topic.Position) (entry, error) {
	if err := audit.DecodeAPICall(r.Value, &c.call); err != nil {
		return entry{}, err
	}
	if err := c.call.Validate(r.Timestamp, l.in.maxAge); err != nil {
		return entry{}, err
	}
	if c.call.Heartbeat {
		return entry{heartbeat: true}, nil
	}
	var err error
	c.of, err = parseID(c.call.CallID)
	return entry{}, err
}

func (c *callColumns) probe(date int64) {
	c.call = audit.APICall{CustomerUUID: "probe", SubmittedDate: date, UpdatedDate: date}
	c.add(topic.Position{}, 0)
}

func (c *callColumns) forget() { c.call = audit.APICall{} }

func (c *callColumns) add(at topic.Position, appended int64) {
	a := &c.call
	c.months.add(a.UpdatedDate)
	c.months.add(a.SubmittedDate) // of the table of latest states
	c.id.Append(a.ID())
	c.callID.Append(c.of)
	c.customer.append(a.CustomerUUID)
	c.moduleCode.append(a.ModuleCode)
	c.api.append(a.API)
	c.method.append(a.Method)
	c.state.append(a.State)
	c.rank.Append(audit.StateRank(a.State))
	c.reason.append(a.Reason)
	c.submitted.AppendRaw(proto.DateTime64(a.SubmittedDate))
	c.date.AppendRaw(proto.DateTime64(a.UpdatedDate))
	c.duration.Append(a.DurationMs)
	c.status.Append(a.HTTPStatus)
	c.userName.append(a.UserName)
	c.userRole.append(a.UserRole)
	c.userUUID.append(a.UserUUID)
	c.businessUnit.append(a.BusinessUnit)
	c.client.append(a.Client)
	c.sourceIP.Append(address(a.SourceIP))
	c.requestID.Append(a.RequestID)
	c.stood(at, appended)
}
