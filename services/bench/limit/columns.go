package limit

import (
	"encoding/binary"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Columns builds a native block: 20 columns for the base workload, 25 for the
// full one. Dictionaries live on from block to block and never grow out of 16
// bits with these workloads. Make one with NewColumns.
type Columns struct {
	id, user, customer                 proto.ColUUID
	app                                proto.ColUInt16
	created                            proto.ColDateTime64
	partition                          proto.ColInt32
	offset                             proto.ColInt64
	userName, address, target, comment proto.ColStr
	link, changes, request             proto.ColStr
	words                              [11]dictionary
	full                               bool
	input                              proto.Input
}

// NewColumns makes the columns of the base or the full workload.
func NewColumns(full bool) *Columns {
	c := &Columns{full: full}
	c.created.WithPrecision(proto.PrecisionMilli)
	c.input = proto.Input{
		{Name: "id", Data: &c.id},
		{Name: "userUuid", Data: &c.user},
		{Name: "customerUuid", Data: &c.customer},
		{Name: "auditEnabledAppId", Data: &c.app},
		{Name: "userName", Data: &c.userName},
		{Name: "sourceIp", Data: &c.address},
		{Name: "targetName", Data: &c.target},
		{Name: "auditComment", Data: &c.comment},
		{Name: "externalChangeLink", Data: &c.link},
		{Name: "createdDate", Data: &c.created},
		{Name: "kafkaPartition", Data: &c.partition},
		{Name: "kafkaOffset", Data: &c.offset},
	}
	names := []string{"applicationName", "moduleCode", "moduleName", "userRole", "client", "targetType", "action", "status"}
	if full {
		names = append(names, "endpointType", "businessUnit", "origin")
		c.input = append(c.input,
			proto.InputColumn{Name: "changes", Data: &c.changes},
			proto.InputColumn{Name: "requestId", Data: &c.request},
		)
	}
	for i, name := range names {
		c.input = append(c.input, proto.InputColumn{Name: name, Data: &c.words[i]})
	}
	return c
}

// Add appends one event. It keeps nothing of e.
func (c *Columns) Add(e *audit.Event, partition int32, offset int64) {
	c.id.Append(parseUUID(e.ID))
	c.user.Append(parseUUID(e.UserUUID))
	c.customer.Append(parseUUID(e.CustomerUUID))
	c.app.Append(uint16(e.AuditEnabledAppID))
	c.userName.Append(e.UserName)
	c.address.Append(e.SourceIP)
	c.target.Append(e.TargetName)
	c.comment.Append(e.AuditComment)
	c.link.Append(e.ExternalChangeLink)
	c.created.AppendRaw(proto.DateTime64(e.CreatedDate))
	c.partition.Append(partition)
	c.offset.Append(offset)
	w := &c.words
	w[0].append(e.ApplicationName)
	w[1].append(e.ModuleCode)
	w[2].append(e.ModuleName)
	w[3].append(e.UserRole)
	w[4].append(e.Client)
	w[5].append(e.TargetType)
	w[6].append(e.Action)
	w[7].append(e.Status)
	if c.full {
		w[8].append(e.EndpointType)
		w[9].append(e.BusinessUnit)
		w[10].append(e.Origin)
		c.changes.AppendBytes(e.Changes)
		c.request.Append(e.RequestID)
	}
}

// Block gives the columns under their names, to encode.
func (c *Columns) Block() proto.Input { return c.input }

// Reset forgets the rows. Dictionaries stay.
func (c *Columns) Reset() {
	for _, column := range c.input {
		if r, ok := column.Data.(proto.Resettable); ok {
			r.Reset()
		}
	}
}

// dictionary is a LowCardinality(String) column of 16-bit numbers.
type dictionary struct {
	number map[string]uint16
	keys   []string
	rows   []uint16
}

func (d *dictionary) append(s string) {
	n, ok := d.number[s]
	if !ok {
		if d.number == nil {
			d.number = map[string]uint16{}
		}
		n = uint16(len(d.keys))
		s = string([]byte(s))
		d.number[s] = n
		d.keys = append(d.keys, s)
	}
	d.rows = append(d.rows, n)
}

// Reset forgets the rows, not the keys.
func (d *dictionary) Reset() { d.rows = d.rows[:0] }

// Type of the column.
func (d *dictionary) Type() proto.ColumnType { return "LowCardinality(String)" }

// Rows in the column.
func (d *dictionary) Rows() int { return len(d.rows) }

// EncodeState writes the version of the serialization.
func (d *dictionary) EncodeState(b *proto.Buffer) { b.PutInt64(1) }

// EncodeColumn writes the dictionary and the rows.
func (d *dictionary) EncodeColumn(b *proto.Buffer) {
	if len(d.rows) == 0 {
		return
	}
	b.PutInt64(1<<9 | 1<<10 | 1) // additional keys, a new dictionary, 16-bit numbers
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

// nibbles maps hexadecimal digits to their values.
var nibbles = func() (t [256]byte) {
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// uuidDigits are where the pairs of digits stand in a UUID's text.
var uuidDigits = [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

func parseUUID(s string) (id uuid.UUID) {
	if len(s) != 36 {
		return id
	}
	for i, at := range uuidDigits {
		id[i] = nibbles[s[at]]<<4 | nibbles[s[at+1]]
	}
	return id
}
