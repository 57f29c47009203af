package faults

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// memoryLimit is ClickHouse's code for a query that wants too much memory.
const memoryLimit = 241

// TestBlowsToInserts: a lost insert stores nothing, a landed one does, and both
// look like failures; a starved one is refused by the engine itself.
func TestBlowsToInserts(t *testing.T) {
	t.Parallel()
	at := testenv.ClickHouse(t).Config()
	conn, err := store.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec(t.Context(), "CREATE TABLE audit_events (id UInt64) ENGINE = MergeTree ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, engineWire{})
	p.aim(at.Addr[0])
	insert := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := ch.Dial(ctx, ch.Options{Address: p.addr(), Database: at.Database, User: at.User, Password: at.Password, Compression: ch.CompressionLZ4})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ids := proto.ColUInt64{1, 2, 3}
		return c.Do(ctx, ch.Query{
			Body: "INSERT INTO audit_events (id) VALUES", Input: proto.Input{{Name: "id", Data: &ids}},
			Settings: []ch.Setting{{Key: "insert_deduplication_token", Value: "t", Important: true}},
		})
	}
	rows := uint64(0)
	for _, c := range []struct {
		how  how
		want uint64
		code proto.Error
	}{{lost, 0, 0}, {starved, 0, memoryLimit}, {landed, 3, 0}} {
		p.arm(blow{"insert", c.how})
		err := insert()
		var refused *ch.Exception
		if err == nil || errors.As(err, &refused) != (c.code != 0) || refused != nil && refused.Code != c.code {
			t.Errorf("%s: the client got %v", c.how, err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT count() FROM audit_events").Scan(&rows); err != nil || rows != c.want {
			t.Errorf("%s: got %d rows, %v, want %d", c.how, rows, err, c.want)
		}
	}
	if err := insert(); err != nil {
		t.Errorf("after all blows: %v", err)
	}
}

// TestBlowsToKafka: the same for produce requests and commits. The broker is
// only ever reached through the proxy, also by clients that it told its address.
func TestBlowsToKafka(t *testing.T) {
	t.Parallel()
	path, err := auditrail()
	if err != nil {
		t.Fatal(err)
	}
	c := &campaign{t: t, binary: path, dir: t.TempDir(), kafka: newProxy(t, kafkaWire{})}
	c.startBroker()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.addr()), kgo.AlwaysRetryEOF(), kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.RequestRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	testenv.Until(t, startLimit, nil, "a topic", func() (bool, string) {
		_, err := adm.CreateTopic(t.Context(), 1, 1, nil, "things")
		return err == nil, filepath.Base(path)
	})
	end := func() (offset int64) {
		testenv.Until(t, startLimit, nil, "the topic's end", func() (bool, string) {
			ends, err := adm.ListEndOffsets(t.Context(), "things")
			if err == nil {
				err = ends.Error()
			}
			if err != nil {
				return false, err.Error()
			}
			o, _ := ends.Lookup("things", 0)
			offset = o.Offset
			return true, ""
		})
		return offset
	}
	committed := func() (offset int64) {
		testenv.Until(t, startLimit, nil, "the committed offset", func() (bool, string) {
			offsets, err := adm.FetchOffsets(t.Context(), "things")
			if err != nil {
				return false, err.Error()
			}
			o, _ := offsets.Lookup("things", 0)
			offset = o.At
			return true, ""
		})
		return offset
	}
	produce := func() error {
		return cl.ProduceSync(t.Context(), &kgo.Record{Topic: "things", Value: []byte("one")}).FirstErr()
	}
	commit := func(at int64) error {
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: "things", At: at, LeaderEpoch: -1})
		return adm.CommitAllOffsets(t.Context(), "things", offsets)
	}
	testenv.Until(t, startLimit, nil, "a first write of each kind", func() (bool, string) {
		return errors.Join(produce(), commit(1)) == nil, "an error"
	})
	from := end()
	for _, b := range []struct {
		how       how
		end, done int64
	}{{lost, from, 1}, {landed, from + 1, 3}} {
		c.kafka.arm(blow{"produce", b.how})
		if err := produce(); err == nil {
			t.Errorf("%s: the producer was told nothing", b.how)
		}
		if got := end(); got != b.end {
			t.Errorf("%s: the topic ends at %d, want %d", b.how, got, b.end)
		}
		c.kafka.arm(blow{"commit", b.how})
		if err := commit(3); err == nil {
			t.Errorf("%s: who commits was told nothing", b.how)
		}
		if got := committed(); got != b.done {
			t.Errorf("%s: offset %d is committed, want %d", b.how, got, b.done)
		}
	}
}
