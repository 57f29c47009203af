package emit

import (
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit/internal/prepare"
)

const (
	// parcelBytes is the room of a new parcel: a typical event and its key.
	parcelBytes = 1 << 10
	// keepBytes is the largest room that is kept for the next event, so that
	// one long event does not make all later ones expensive to hold.
	keepBytes = 4 << 10
	// recordBytes is what an event takes beside its bytes: the parcel and the
	// client's note of it.
	recordBytes = int64(unsafe.Sizeof(parcel{})) + 64
)

// parcel is one event or API call on its way, with everything it needs in one
// piece. It belongs to Emit until it is produced, then to the client, and after
// its result to the pool again: the client does not look at a record once it
// has called its promise.
type parcel struct {
	record  kgo.Record
	buf     []byte // the value, then the key
	id      [36]byte
	size    int64 // as admitted
	em      *Emitter
	promise func(*kgo.Record, error) // finish, bound once
	result  chan<- error             // of Deliver, with room for it; nil: nobody waits
}

func newParcel(em *Emitter) *parcel {
	p := &parcel{em: em, buf: make([]byte, 0, parcelBytes)}
	p.promise = p.finish
	return p
}

// pack checks and encodes e. Nothing in the parcel points to e afterwards.
func (p *parcel) pack(e *audit.Event, now time.Time, headers []kgo.RecordHeader) error {
	if e.ID == "" {
		audit.PutID(&p.id, now)
		e.ID = unsafe.String(&p.id[0], len(p.id)) //nolint:gosec // e is Emit's own copy and does not outlive it
	}
	buf, err := prepare.Append(p.buf[:0], e, now, p.em.cfg.MaxAge)
	if err != nil {
		return err
	}
	p.address(p.em.topics.of(e.ModuleCode), buf, e.CustomerUUID, now, headers)
	return nil
}

// packCall does the same for an API call.
func (p *parcel) packCall(c *audit.APICall, now time.Time, headers []kgo.RecordHeader) error {
	buf, err := prepare.AppendCall(p.buf[:0], c, now, p.em.cfg.MaxAge)
	if err != nil {
		return err
	}
	p.address(audit.APICallsTopic, buf, c.CallID, now, headers)
	return nil
}

// address makes the record of value, to which it appends the key.
func (p *parcel) address(topic string, value []byte, key string, now time.Time, headers []kgo.RecordHeader) {
	n := len(value)
	p.buf = append(value, key...)
	p.record = kgo.Record{
		Topic:     topic,
		Key:       p.buf[n:],
		Value:     p.buf[:n:n],
		Headers:   headers,
		Timestamp: now,
	}
}

// memory is what the parcel holds on to.
func (p *parcel) memory() int64 { return int64(cap(p.buf)) + recordBytes }

func (p *parcel) finish(_ *kgo.Record, err error) { p.em.finished(p, err) }

// tell tells the result to who waits for it.
func (p *parcel) tell(err error) {
	if p.result != nil {
		p.result <- err
	}
}

// clear readies the parcel for the next event.
func (p *parcel) clear() {
	p.record, p.result = kgo.Record{}, nil
	if cap(p.buf) > keepBytes {
		p.buf = make([]byte, 0, parcelBytes)
	}
}
