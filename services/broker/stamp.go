package broker

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stamper gives the records of topics with message.timestamp.type=LogAppendTime
// the time at which the broker took them, as Apache Kafka does. kfake knows the
// setting and does not heed it; told by the batch's own attribute, it stamps
// the batch and leaves a checksum that readers refuse. So the batch stays one
// of create times, all of which are now.
type stamper struct {
	cluster      *kfake.Cluster
	decompressor kgo.Decompressor
	compressors  map[kgo.CompressionCodecType]kgo.Compressor
	now          func() time.Time
	requests     int
}

// renewEvery is how many requests a control function lives for: kfake keeps the
// last request of every connection that it ever saw.
const renewEvery = 1000

func newStamper(c *kfake.Cluster) (*stamper, error) {
	s := &stamper{cluster: c, decompressor: kgo.DefaultDecompressor(), compressors: map[kgo.CompressionCodecType]kgo.Compressor{}, now: time.Now}
	for kind, codec := range map[kgo.CompressionCodecType]kgo.CompressionCodec{
		kgo.CodecGzip: kgo.GzipCompression(), kgo.CodecSnappy: kgo.SnappyCompression(), kgo.CodecLz4: kgo.Lz4Compression(), kgo.CodecZstd: kgo.ZstdCompression(),
	} {
		var err error
		if s.compressors[kind], err = kgo.DefaultCompressor(codec); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// control stamps what a request produces and leaves the rest to the broker.
// kfake calls it for one request at a time.
func (s *stamper) control(kreq kmsg.Request) (kmsg.Response, error, bool) {
	req := kreq.(*kmsg.ProduceRequest)
	if s.requests++; s.requests%renewEvery == 0 {
		s.cluster.DropControl()
		s.cluster.ControlKey(int16(kmsg.Produce), s.control)
	}
	for _, t := range req.Topics {
		info := s.cluster.TopicInfo(t.Topic)
		if req.Version >= 13 {
			info = s.cluster.TopicIDInfo(t.TopicID)
		}
		if info == nil {
			continue
		}
		if kind := info.Configs[timestampType]; kind == nil || *kind != appendTime {
			continue
		}
		for i := range t.Partitions {
			p := &t.Partitions[i]
			at := s.now().UnixMilli()
			if had := s.cluster.PartitionInfo(info.Topic, p.Partition); had != nil {
				at = max(at, had.MaxTimestamp) // append times do not go backwards
			}
			p.Records = s.stamp(p.Records, at)
		}
	}
	return nil, nil, false
}

const (
	timestampType = "message.timestamp.type"
	appendTime    = "LogAppendTime"
)

// Where the fields of a record batch (format 2) are.
const (
	atLength     = 8
	atMagic      = 16
	atCRC        = 17
	atAttributes = 21 // where the checksum's range begins, too
	atFirstTime  = 27
	atMaxTime    = 35
	atCount      = 57
	atRecords    = 61

	codecBits     = 0x0007
	appendTimeBit = 0x0008
	controlBit    = 0x0020
	magic         = 2
	beforeLength  = atLength + 4 // the length counts what follows it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stamp returns the batch with every record at the given time, in epoch
// milliseconds. A batch that is broken is returned as it is, for the broker to
// refuse. It may write into raw.
func (s *stamper) stamp(raw []byte, at int64) []byte {
	if len(raw) < atRecords || raw[atMagic] != magic || binary.BigEndian.Uint32(raw[atCRC:]) != crc32.Checksum(raw[atAttributes:], castagnoli) {
		return raw
	}
	attributes := binary.BigEndian.Uint16(raw[atAttributes:])
	if attributes&controlBit != 0 || attributes&codecBits > 4 {
		return raw
	}
	codec := kgo.CompressionCodecType(attributes & codecBits)
	records, err := s.decompressor.Decompress(raw[atRecords:], codec)
	if err != nil {
		return raw
	}
	records, ok := sameTime(records, binary.BigEndian.Uint32(raw[atCount:]))
	if !ok {
		return raw
	}
	if codec != kgo.CodecNone {
		// The only error is that of an unknown codec.
		records, _ = s.compressors[codec].Compress(new(bytes.Buffer), records)
	}
	out := append(raw[:atRecords:atRecords], records...)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-beforeLength))
	binary.BigEndian.PutUint16(out[atAttributes:], attributes&^appendTimeBit)
	binary.BigEndian.PutUint64(out[atFirstTime:], uint64(at))
	binary.BigEndian.PutUint64(out[atMaxTime:], uint64(at))
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	return out
}

// sameTime returns unpacked records without the differences of their times.
// ok is false when they are not n well-formed records.
func sameTime(in []byte, n uint32) (out []byte, ok bool) {
	out = make([]byte, 0, len(in))
	for range n {
		// length, attributes (1 byte), difference of the time, the rest
		size, k := binary.Varint(in)
		if k <= 0 || size < 1 || size > int64(len(in)-k) {
			return nil, false
		}
		record := in[k : k+int(size)]
		in = in[k+int(size):]
		_, d := binary.Varint(record[1:])
		if d <= 0 {
			return nil, false
		}
		rest := record[1+d:]
		out = binary.AppendVarint(out, int64(2+len(rest)))
		out = append(out, record[0], 0)
		out = append(out, rest...)
	}
	return out, len(in) == 0
}
