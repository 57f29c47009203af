package broker

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func create(t *testing.T, cl *kgo.Client, name, timestamps string) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{timestampType: &timestamps, "retention.ms": kadm.StringPtr("-1")}, name); err != nil {
		t.Fatal(err)
	}
}

// read returns the first n records of a topic.
func read(t *testing.T, b *Broker, name string, n int) []*kgo.Record {
	t.Helper()
	cl := client(t, b, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var rs []*kgo.Record
	for len(rs) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("got %d records of %d: %v", len(rs), n, err)
		}
		rs = append(rs, fetches.Records()...)
	}
	return rs
}

func TestRecordsCarryTheTimeAtWhichTheyWereAppended(t *testing.T) {
	t.Parallel()
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	dir := t.TempDir()
	b := start(t, dir)
	before := time.Now().Truncate(time.Millisecond)
	var sent []*kgo.Record
	for codec, c := range codecs {
		cl := client(t, b, kgo.ProducerBatchCompression(c), kgo.ProducerLinger(100*time.Millisecond))
		create(t, cl, codec, appendTime)
		rs := make([]*kgo.Record, 100)
		for i := range rs {
			rs[i] = &kgo.Record{
				Topic: codec, Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte{byte(i)}, 10*i),
				Timestamp: time.UnixMilli(int64(1_500_000_000_000 + i*i*1000 - 70_000*i)),
				Headers:   []kgo.RecordHeader{{Key: "h", Value: []byte(codec)}},
			}
		}
		if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		sent = rs
		cl.Close()
	}
	b.Close()
	after := time.Now()
	b = start(t, dir) // which checks what is on disk
	defer b.Close()
	for codec := range codecs {
		for i, r := range read(t, b, codec, 100) {
			if r.Timestamp.Before(before) || r.Timestamp.After(after) {
				t.Fatalf("%s: record %d has the time %v, want one from %v to %v", codec, i, r.Timestamp, before, after)
			}
			if want := sent[i]; !bytes.Equal(r.Key, want.Key) || !bytes.Equal(r.Value, want.Value) || len(r.Headers) != 1 || string(r.Headers[0].Value) != codec || r.Offset != int64(i) {
				t.Fatalf("%s: record %d is not what was sent: %v", codec, i, r)
			}
		}
	}
}

func TestOtherTopicsKeepTheProducersTime(t *testing.T) {
	t.Parallel()
	b := start(t, t.TempDir())
	defer b.Close()
	cl := client(t, b)
	create(t, cl, "things", "CreateTime")
	at := time.UnixMilli(1_500_000_000_000)
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "things", Timestamp: at}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if r := read(t, b, "things", 1)[0]; !r.Timestamp.Equal(at) {
		t.Errorf("got %v, want %v", r.Timestamp, at)
	}
	cl.Close()
}

func TestAppendTimesDoNotGoBackwards(t *testing.T) {
	t.Parallel()
	b := start(t, t.TempDir())
	defer b.Close()
	cl := client(t, b)
	create(t, cl, "things", appendTime)
	clock := []time.Time{time.UnixMilli(5000), time.UnixMilli(4000), time.UnixMilli(6000)}
	b.stamps.now = func() time.Time { now := clock[0]; clock = clock[1:]; return now }
	for range 3 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "things"}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []int64{5000, 5000, 6000} {
		if got := read(t, b, "things", 3)[i].Timestamp.UnixMilli(); got != want {
			t.Errorf("record %d has the time %d, want %d", i, got, want)
		}
	}
	cl.Close()
}

func TestStampsGoOnAfterManyRequests(t *testing.T) {
	t.Parallel()
	b := start(t, t.TempDir())
	defer b.Close()
	cl := client(t, b)
	create(t, cl, "things", appendTime)
	before := time.Now().Truncate(time.Millisecond)
	const n = 2*renewEvery + 10
	for range n {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "things", Timestamp: time.UnixMilli(1)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range read(t, b, "things", n) {
		if r.Timestamp.Before(before) {
			t.Fatalf("record %d has the time %v", i, r.Timestamp)
		}
	}
	cl.Close()
}

// FuzzStamp: whatever a producer sends, the stamper does not panic.
func FuzzStamp(f *testing.F) {
	s, err := newStamper(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint32(1))
	f.Add(bytes.Repeat([]byte{0x0e, 0, 2, 0, 1, 1, 1, 0}, 3), uint32(3))
	f.Fuzz(func(_ *testing.T, records []byte, n uint32) {
		_, _ = sameTime(records, n)
		_ = s.stamp(records, 1)
	})
}
