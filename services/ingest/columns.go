package ingest

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// columns builds the native block of a batch column by column, without a row
// in between. Buffers and dictionaries live on from batch to batch. Owned by
// whoever owns the batch.
type columns struct {
	id                                                                     proto.ColUUID
	appID                                                                  proto.ColUInt32
	applicationName, moduleCode, moduleName, userRole, customerUUID        dictionary
	client, targetType, action, status, endpointType, businessUnit, origin dictionary
	userName, userUUID                                                     dictionary
	targetName, comment, link, changes, requestID, extra                   proto.ColStr
	sourceIP                                                               proto.ColIPv6
	created, appended                                                      proto.ColDateTime64
	topicID                                                                proto.ColUUID
	partition                                                              proto.ColUInt32
	offset                                                                 proto.ColInt64
	retention                                                              proto.ColUInt16

	roomUntil int // no dictionary is full before there are so many rows

	block proto.Input // the columns under their names, made once
}

func newColumns() *columns {
	c := &columns{}
	c.created.WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
	c.appended.WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
	c.block = proto.Input{
		{Name: "id", Data: &c.id},
		{Name: "audit_enabled_app_id", Data: &c.appID},
		{Name: "application_name", Data: &c.applicationName},
		{Name: "module_code", Data: &c.moduleCode},
		{Name: "module_name", Data: &c.moduleName},
		{Name: "user_name", Data: &c.userName},
		{Name: "user_role", Data: &c.userRole},
		{Name: "user_uuid", Data: &c.userUUID},
		{Name: "customer_uuid", Data: &c.customerUUID},
		{Name: "client", Data: &c.client},
		{Name: "source_ip", Data: &c.sourceIP},
		{Name: "created_date", Data: &c.created},
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
		{Name: "topic_id", Data: &c.topicID},
		{Name: "kafka_partition", Data: &c.partition},
		{Name: "kafka_offset", Data: &c.offset},
		{Name: "appended_at", Data: &c.appended},
		{Name: "retention_days", Data: &c.retention},
	}
	return c
}

// add appends one valid event, whose record was appended then, in epoch ms by
// the broker's clock. Nothing of e is kept: strings are copied.
func (c *columns) add(e *audit.Event, id uuid.UUID, at topic.Position, appended int64) {
	c.id.Append(id)
	c.appID.Append(e.AuditEnabledAppID)
	c.applicationName.append(e.ApplicationName)
	c.moduleCode.append(e.ModuleCode)
	c.moduleName.append(e.ModuleName)
	c.userName.append(e.UserName)
	c.userRole.append(e.UserRole)
	c.userUUID.append(e.UserUUID)
	c.customerUUID.append(e.CustomerUUID)
	c.client.append(e.Client)
	c.sourceIP.Append(address(e.SourceIP))
	c.created.AppendRaw(proto.DateTime64(e.CreatedDate))
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
	c.topicID.Append(at.TopicID)
	c.partition.Append(uint32(at.Partition))
	c.offset.Append(at.Offset)
	c.appended.AppendRaw(proto.DateTime64(appended))
	c.retention.Append(0) // see retain
}

// only copies the rows that keep says yes to.
func (c *columns) only(keep func(row int) bool) *columns {
	out := newColumns()
	from, to := c.dictionaries(), out.dictionaries()
	texts, textsTo := c.texts(), out.texts()
	for i, offset := range c.offset {
		if !keep(i) {
			continue
		}
		for k, d := range from {
			to[k].append(d.at(i))
		}
		for k, s := range texts {
			textsTo[k].AppendBytes(s.RowBytes(i))
		}
		out.id.Append(c.id[i])
		out.appID.Append(c.appID[i])
		out.sourceIP.Append(c.sourceIP[i])
		out.created.AppendRaw(c.created.Data[i])
		out.appended.AppendRaw(c.appended.Data[i])
		out.topicID.Append(c.topicID[i])
		out.partition.Append(c.partition[i])
		out.offset.Append(offset)
		out.retention.Append(c.retention[i])
	}
	return out
}

// address maps an address to the column's form: IPv4 mapped, absent as ::.
// The event is valid, so an address that does not parse cannot occur.
func address(s string) proto.IPv6 {
	if s == "" {
		return proto.IPv6{}
	}
	if a, ok := ipv4(s); ok {
		return a
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return proto.IPv6{}
	}
	return a.As16()
}

// ipv4 reads an address with dots, mapped into IPv6. Such ones are nearly all,
// and this takes a third of the time of a parser that must find faults.
func ipv4(s string) (a proto.IPv6, ok bool) {
	a[10], a[11] = 0xff, 0xff
	at := 12
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && at < 15:
			at++
		case c-'0' <= 9:
			a[at] = a[at]*10 + c - '0'
		default:
			return a, false
		}
	}
	return a, at == 15
}

// parseID reads a UUID of 8-4-4-4-12 digits, and leaves all else to uuid.Parse,
// which takes three times as long.
func parseID(s string) (id uuid.UUID, err error) {
	if len(s) != 36 {
		return uuid.Parse(s)
	}
	var bad int8
	at := 0
	for i := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			if s[at] != '-' {
				bad = -1
			}
			at++
		}
		high, low := hexDigit[s[at]], hexDigit[s[at+1]]
		bad |= high | low
		id[i] = byte(high<<4 | low)
		at += 2
	}
	if bad < 0 {
		return uuid.Parse(s)
	}
	return id, nil
}

// hexDigit holds the value of each hexadecimal digit and -1 for other bytes.
var hexDigit = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range int8(10) {
		t['0'+i] = i
	}
	for i := range int8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// rows in the block.
func (c *columns) rows() int { return c.appID.Rows() }

// full says that a dictionary has no room for another row's value. A row adds
// one value at the most, so that the dictionaries need not be asked each time.
func (c *columns) full() bool {
	if c.rows() < c.roomUntil {
		return false
	}
	most := 0
	for _, d := range c.dictionaries() {
		most = max(most, len(d.keys))
	}
	c.roomUntil = c.rows() + maxKeys - most
	return most >= maxKeys
}

func (c *columns) dictionaries() [14]*dictionary {
	return [...]*dictionary{
		&c.applicationName, &c.moduleCode, &c.moduleName, &c.userRole, &c.customerUUID, &c.client,
		&c.targetType, &c.action, &c.status, &c.endpointType, &c.businessUnit, &c.origin, &c.userName, &c.userUUID,
	}
}

func (c *columns) texts() [6]*proto.ColStr {
	return [...]*proto.ColStr{&c.targetName, &c.comment, &c.link, &c.changes, &c.requestID, &c.extra}
}

// spareBytes is the size from which a text buffer that a batch left mostly
// empty is given back.
const spareBytes = 1 << 20

func (c *columns) reset() {
	rows := c.rows()
	c.roomUntil = 0
	for _, d := range c.dictionaries() {
		d.reset(rows)
	}
	for _, s := range c.texts() {
		if cap(s.Buf) > spareBytes && len(s.Buf) < cap(s.Buf)/4 {
			*s = proto.ColStr{}
			continue
		}
		s.Reset()
	}
	c.id.Reset()
	c.appID.Reset()
	c.sourceIP.Reset()
	c.created.Reset()
	c.appended.Reset()
	c.topicID.Reset()
	c.partition.Reset()
	c.offset.Reset()
	c.retention.Reset()
}

const (
	// maxKeys is how many distinct values a dictionary holds: what 16 bits
	// can name, less a little.
	maxKeys = 65_000
	// keepKeys is how many values stay for the next batch without a look at
	// how many of them this one used.
	keepKeys = 1024
)

// dictionary is a LowCardinality(String) column whose dictionary lives on from
// batch to batch, so that a value is hashed and copied once, not once a row.
type dictionary struct {
	keys     []string          // in the order of their numbers
	number   map[string]uint16 // number of each key
	rows     []uint16          // one number a row
	last     string            // value of the row before: runs are common
	lastRank uint16
}

func (d *dictionary) append(s string) {
	if len(d.rows) > 0 && s == d.last {
		d.rows = append(d.rows, d.lastRank)
		return
	}
	n, ok := d.number[s]
	if !ok {
		if d.number == nil {
			d.number = make(map[string]uint16)
		}
		n = uint16(len(d.keys))
		s = string([]byte(s)) // s points into the fetched record
		d.keys = append(d.keys, s)
		d.number[s] = n
	}
	d.last, d.lastRank = d.keys[n], n
	d.rows = append(d.rows, n)
}

// at is the value of a row.
func (d *dictionary) at(row int) string { return d.keys[d.rows[row]] }

// reset forgets the rows, and the keys too when most of them were dead weight
// in a block of that many rows: every block carries the whole dictionary.
func (d *dictionary) reset(rows int) {
	if len(d.keys) > keepKeys && len(d.keys) > rows/4 {
		*d = dictionary{rows: d.rows}
	}
	d.rows = d.rows[:0]
}

// Type, Rows, EncodeState, EncodeColumn and WriteColumn make it a column that
// ch-go sends.

// Type of the column.
func (d *dictionary) Type() proto.ColumnType { return "LowCardinality(String)" }

// Rows in the column.
func (d *dictionary) Rows() int { return len(d.rows) }

// Serialization of LowCardinality in the native format.
const (
	sharedDictionariesWithAdditionalKeys = 1
	keyUInt16                            = 1
	hasAdditionalKeys                    = 1 << 9
	needUpdateDictionary                 = 1 << 10
)

// EncodeState writes the version of the serialization.
func (d *dictionary) EncodeState(b *proto.Buffer) {
	b.PutInt64(sharedDictionariesWithAdditionalKeys)
}

// EncodeColumn writes the dictionary, then a 16-bit number a row.
func (d *dictionary) EncodeColumn(b *proto.Buffer) {
	if len(d.rows) == 0 {
		return
	}
	b.PutInt64(hasAdditionalKeys | needUpdateDictionary | keyUInt16)
	b.PutInt64(int64(len(d.keys)))
	for _, k := range d.keys {
		b.PutString(k)
	}
	b.PutInt64(int64(len(d.rows)))
	at := len(b.Buf)
	b.Buf = append(b.Buf, make([]byte, 2*len(d.rows))...)
	for i, n := range d.rows {
		binary.LittleEndian.PutUint16(b.Buf[at+2*i:], n)
	}
}

// WriteColumn is EncodeColumn for a chained writer.
func (d *dictionary) WriteColumn(w *proto.Writer) { w.ChainBuffer(d.EncodeColumn) }
