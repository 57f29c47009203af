package ingest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Good and broken records alternate in large packed batches, through many
// fetches, while the engine is there, while it is away, and when it is back.
// Whatever memory is used again meanwhile, every row and every dead letter has
// what was produced.
func TestMemoryUsedAgainChangesNothing(t *testing.T) {
	t.Parallel()
	engine := testenv.NewEngine(t)
	p := newPipeline(t, engine.Config(), "PM")
	p.cfg.Limits.Memory, p.cfg.Limits.BatchRows = 4<<20, 300
	cl, err := kafka.Open(t.Context(), p.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(512<<10), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()

	random := rand.New(rand.NewPCG(1, 2)) // the same in every run
	text := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			fmt.Fprintf(&b, "%x", random.Uint64())
		}
		return b.String()[:n]
	}
	type content struct{ Customer, UserName, UserUUID, TargetName, Comment, Key, Value, Trace string }
	wantRows, wantDead := map[string]content{}, map[string]content{}
	n := 0
	produce := func(records int) {
		t.Helper()
		of := map[*kgo.Record]content{}
		rs := make([]*kgo.Record, records)
		for i := range rs {
			n++
			size := 100 + random.IntN(2000)
			c := content{Key: "key-" + text(12), Trace: text(size / 10)}
			r := &kgo.Record{Topic: pm, Partition: int32(n / 500 % 2), Key: []byte(c.Key), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte(c.Trace)}}}
			if n%2 == 0 {
				c.Value = "broken " + text(size)
				r.Value = []byte(c.Value)
			} else {
				c = content{Customer: fmt.Sprintf("customer-%d", n%7), UserName: text(10), UserUUID: text(20), TargetName: text(30), Comment: text(size)}
				r.Value = event(n, func(e *audit.Event) {
					e.CustomerUUID, e.UserName, e.UserUUID, e.TargetName, e.AuditComment = c.Customer, c.UserName, c.UserUUID, c.TargetName, c.Comment
				})
			}
			rs[i], of[r] = r, c
		}
		for _, res := range cl.ProduceSync(t.Context(), rs...) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			at := fmt.Sprintf("%d/%d", res.Record.Partition, res.Record.Offset)
			if c := of[res.Record]; c.Value != "" {
				wantDead[at] = c
			} else {
				wantRows[at] = c
			}
		}
	}
	const round = 6000
	p.start()
	produce(round)
	p.stored(round / 2)
	engine.Kill()
	produce(round)
	p.until("memory to be full", func() (bool, string) {
		held := p.gauge("auditrail_ingest_memory_bytes")
		return held >= float64(p.cfg.Limits.Memory)/2, fmt.Sprintf("%v bytes", held)
	})
	engine.Start()
	produce(round)
	p.stored(3 * round / 2)
	p.committed()

	gotRows := map[string]content{}
	rows, err := p.conn.Query(t.Context(), "SELECT concat(toString(kafka_partition), '/', toString(kafka_offset)), customer_uuid, user_name, user_uuid, target_name, audit_comment FROM audit_events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var at string
		var c content
		if err := rows.Scan(&at, &c.Customer, &c.UserName, &c.UserUUID, &c.TargetName, &c.Comment); err != nil {
			t.Fatal(err)
		}
		gotRows[at] = c
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	id := p.topicID(pm).String()
	gotDead := map[string]content{}
	for _, r := range p.readAll(topic.DeadLetter) {
		at := headerOf(r, topic.HeaderPartition) + "/" + headerOf(r, topic.HeaderOffset)
		if want := id + "/" + at; string(r.Key) != want {
			t.Fatalf("the dead letter of %s has the key %s", want, r.Key)
		}
		gotDead[at] = content{Key: headerOf(r, topic.HeaderKey), Value: string(r.Value), Trace: headerOf(r, "trace")}
	}
	differ := func(what string, got, want map[string]content) {
		t.Helper()
		wrong := 0
		for at, w := range want {
			if got[at] != w {
				if wrong++; wrong <= 3 {
					t.Errorf("%s of %s: -got +want:\n%.500s", what, at, cmp.Diff(got[at], w))
				}
			}
		}
		if wrong > 0 || len(got) != len(want) {
			t.Errorf("%d of %d %s are wrong, there are %d", wrong, len(want), what, len(got))
		}
	}
	differ("rows", gotRows, wantRows)
	differ("dead letters", gotDead, wantDead)
}
