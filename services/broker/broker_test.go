package broker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"
)

func start(t *testing.T, dir string) *Broker {
	t.Helper()
	b, err := Start(t.Context(), Config{Addr: "127.0.0.1:0", DataDir: dir, RetentionBytes: 64 << 20, Retention: time.Hour}, Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func client(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestRecordsTopicIDsAndOffsetsOutliveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := start(t, dir)
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "things"); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "things", Value: []byte("one")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "things", At: 1, LeaderEpoch: -1, Metadata: "note"})
	if err := adm.CommitAllOffsets(t.Context(), "group", offsets); err != nil {
		t.Fatal(err)
	}
	before, err := adm.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	b.Close()

	b = start(t, dir)
	defer b.Close()
	cl = client(t, b, kgo.ConsumeTopics("things"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fetches := cl.PollFetches(ctx)
	if rs := fetches.Records(); len(rs) != 1 || string(rs[0].Value) != "one" {
		t.Errorf("got %v, %v; want the record", rs, fetches.Err())
	}
	adm = kadm.NewClient(cl)
	after, err := adm.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before["things"].ID != after["things"].ID {
		t.Errorf("the topic's id was %s and is %s", before["things"].ID, after["things"].ID)
	}
	got, err := adm.FetchOffsets(t.Context(), "group")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := got.Lookup("things", 0); !ok || o.At != 1 || o.Metadata != "note" {
		t.Errorf("got offset %+v, want 1 with its metadata", o)
	}
	cl.Close()
}

func TestOneProcessADataFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := start(t, dir)
	defer b.Close()
	_, err := Start(t.Context(), Config{Addr: "127.0.0.1:0", DataDir: dir, RetentionBytes: 1 << 20, Retention: time.Hour}, Deps{Log: zaptest.NewLogger(t)})
	if err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("got %v, want what to do", err)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:9092", ":9092", "192.168.1.1:9092", "example.com:9092", "127.0.0.1", "127.0.0.1:99999"} {
		if _, _, err := loopback(addr); err == nil {
			t.Errorf("%s is accepted", addr)
		}
	}
	for _, addr := range []string{"127.0.0.1:9092", "localhost:0", "[::1]:9092"} {
		if _, _, err := loopback(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestRetentionIsBounded(t *testing.T) {
	t.Parallel()
	const bound = 40 << 20
	b, err := Start(t.Context(), Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), RetentionBytes: bound, Retention: time.Hour}, Deps{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	adm := kadm.NewClient(cl)
	keep := "3600000"
	if _, err := adm.CreateTopic(t.Context(), 1, 1, map[string]*string{"retention.ms": &keep}, "things"); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 512<<10)
	for range 256 { // 128 MiB
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "things", Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	b.cluster.ApplyRetention() // what the broker does every cleanEvery
	starts, err := adm.ListStartOffsets(t.Context(), "things")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := starts.Lookup("things", 0)
	if kept := (256 - o.Offset) * int64(len(value)); kept > bound+2*segmentBytes {
		t.Errorf("%d bytes are kept, the bound is %d and segments have %d", kept, bound, segmentBytes)
	}
	cl.Close()
}
