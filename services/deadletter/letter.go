package deadletter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// Position names the record of a dead letter: topic/partition/offset, the
// topic by its name or, as in the letter's key, by its id.
type Position struct {
	topic     string
	partition int32
	offset    int64
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = parsePosition(string(text))
	return err
}

func (p Position) String() string { return fmt.Sprintf("%s/%d/%d", p.topic, p.partition, p.offset) }

func parsePosition(s string) (p Position, err error) {
	if p.topic, p.partition, p.offset, err = topic.SplitPosition(s); err != nil {
		return Position{}, fmt.Errorf("%w, nor the key of a dead letter", err)
	}
	if id, err := uuid.Parse(p.topic); err == nil {
		p.topic = id.String() // in one form
	}
	return p, nil
}

// letter is one dead letter.
type letter struct {
	id         topic.Position // where its record first stood
	topic      string
	reason     string
	problem    string
	appendedAt time.Time          // when Kafka took the record
	key        []byte             // the record's own, or its beginning; nil: none
	keySize    int                // bytes of the whole key
	value      []byte             // the record's own, or its beginning
	cut        bool               // the value is only the beginning
	size       int64              // bytes of the whole value
	sha256     string             // of the whole value, if it was cut
	batch      string             // first-last offsets, when the value is a packed batch
	headers    []kgo.RecordHeader // the record's own
}

// position is where the record stood, by the topic's name.
func (l *letter) position() string {
	return fmt.Sprintf("%s/%d/%d", l.topic, l.id.Partition, l.id.Offset)
}

// is says whether p names the letter.
func (l *letter) is(p Position) bool {
	return p.partition == l.id.Partition && p.offset == l.id.Offset && (p.topic == l.topic || p.topic == l.id.TopicID.String())
}

// marker says that a letter was redriven.
type marker struct {
	id topic.Position // of the letter
	at time.Time
	to string // topic/partition/offset of the new record
}

// parse tells letters and markers apart; what is neither gives two nils. Of a
// header that occurs twice the first counts: a producer's own come later, and
// those that have a dead letter's names are dropped.
func parse(r *kgo.Record) (*letter, *marker) {
	id, err := topic.ParsePosition(string(r.Key))
	if err != nil {
		return nil, nil
	}
	ours := map[string][]byte{}
	var own []kgo.RecordHeader
	for _, h := range r.Headers {
		if !topic.IsLetterHeader(h.Key) {
			own = append(own, h)
		} else if _, seen := ours[h.Key]; !seen {
			ours[h.Key] = h.Value
		}
	}
	if _, isLetter := ours[topic.HeaderReason]; !isLetter {
		if at, isMarker := ours[topic.HeaderRedrivenAt]; isMarker {
			return nil, &marker{id: id, at: millis(at), to: string(ours[topic.HeaderRedrivenTo])}
		}
		return nil, nil
	}
	l := &letter{
		id: id, topic: string(ours[topic.HeaderTopic]), reason: string(ours[topic.HeaderReason]), problem: string(ours[topic.HeaderProblem]),
		appendedAt: millis(ours[topic.HeaderAppendedAt]), value: r.Value, size: int64(len(r.Value)),
		batch: string(ours[topic.HeaderBatch]), headers: own,
	}
	if key, has := ours[topic.HeaderKey]; has {
		l.key, l.keySize = append([]byte{}, key...), len(key) // an empty key is not none
	}
	if n, err := strconv.Atoi(string(ours[topic.HeaderKeySize])); err == nil {
		l.keySize = n
	}
	if size, cut := ours[topic.HeaderSize]; cut {
		l.cut, l.sha256 = true, string(ours[topic.HeaderSHA256])
		if n, err := strconv.ParseInt(string(size), 10, 64); err == nil {
			l.size = n
		}
	}
	return l, nil
}

// millis reads epoch milliseconds; what is none is the zero time.
func millis(text []byte) time.Time {
	ms, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// customer is the customerUuid of the value, as far as it can be read, else
// the record's key, which is the customer in records of events of the SDK.
func (l *letter) customer() string {
	if c := member(l.value, "customerUuid"); c != "" || !topic.IsEvents(l.topic) {
		return c
	}
	return string(l.key)
}

// member gives the first string of that name at the top level of a JSON
// object, and reads no further: what comes later may be broken.
func member(value []byte, name string) string {
	d := json.NewDecoder(bytes.NewReader(value))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		at, err := d.Token()
		if err != nil {
			return ""
		}
		if at == name {
			var s string
			if d.Decode(&s) != nil {
				return ""
			}
			return s
		}
		var skip json.RawMessage
		if d.Decode(&skip) != nil {
			return ""
		}
	}
	return ""
}
