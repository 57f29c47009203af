package expiry

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// TestNothingStallsAPartition: what cannot be read, unpacked or stored, and what
// is no record at all, is passed over, also where the partition ends with it.
func TestNothingStallsAPartition(t *testing.T) {
	t.Parallel()
	bomb := bytes.Repeat([]byte("0"), unpackBytes+1)
	for what, poison := range map[string]func(t *testing.T, c *calls){
		"a batch that unpacks to too much": func(t *testing.T, c *calls) {
			bomber, err := kafka.Open(t.Context(), c.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()),
				kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
			if err != nil {
				t.Fatal(err)
			}
			defer bomber.Close()
			if err := bomber.ProduceSync(t.Context(), &kgo.Record{Topic: audit.APICallsTopic, Value: bomb}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		},
		"the end of a transaction": func(t *testing.T, c *calls) {
			one, err := kafka.Open(t.Context(), c.cfg.Kafka, zaptest.NewLogger(t), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(t.Name()))
			if err != nil {
				t.Fatal(err)
			}
			defer one.Close()
			if err := one.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := one.ProduceSync(t.Context(), record(100, audit.StateFinished)).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := one.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
		},
		"records that are none": func(_ *testing.T, c *calls) {
			c.produce(&kgo.Record{Topic: audit.APICallsTopic}, &kgo.Record{Topic: audit.APICallsTopic, Value: []byte(`{"callId":`)},
				&kgo.Record{Topic: audit.APICallsTopic, Value: bytes.Repeat([]byte(" "), audit.MaxRecordBytes+1)})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := newCalls(t)
			c.produce(record(2, audit.StateRunning))
			poison(t, c)
			c.produce(record(4, audit.StateRunning))
			poison(t, c)
			c.start()
			c.expired(2, 4)
		})
	}
}

// TestATopicMadeAnewIsReadFromItsStart, whether that happens while nobody reads
// it or under the reader's hands: an offset of the topic before says nothing.
func TestATopicMadeAnewIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	for what, away := range map[string]bool{"while nobody reads": true, "while it is read": false} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := newCalls(t)
			_, stop := c.start()
			c.produce(record(300, audit.StateRunning))
			c.expired(300) // so that the client has written, too
			c.produce(record(300, audit.StateFinished))
			for n := range 17 {
				c.produce(record(2*n, audit.StateFinished))
			}
			old := kadm.Offsets{}
			testenv.Until(t, deadline, nil, "a commit", func() (bool, string) {
				offsets, err := c.admin.FetchOffsets(t.Context(), c.cfg.Group)
				o, there := offsets.Lookup(audit.APICallsTopic, 0)
				if there {
					old.Add(o.Offset)
				}
				return err == nil && o.At == 20, fmt.Sprint(o, err)
			})
			if away {
				stop()
			}
			c.anew()
			if away { // brokers may keep offsets of topics that are gone, or get a late one
				if err := c.admin.CommitAllOffsets(t.Context(), c.cfg.Group, old); err != nil {
					t.Fatal(err)
				}
			}
			// The first records are before the old offset, the last is behind it.
			c.produce(record(200, audit.StateRunning))
			for n := range 25 {
				c.produce(record(2*n, audit.StateFinished))
			}
			c.produce(record(202, audit.StateRunning))
			if away {
				c.start()
			}
			c.expired(200, 202)
		})
	}
}

// anew deletes the topic and makes it again.
func (c *calls) anew() {
	c.t.Helper()
	id := func() (string, error) {
		ids, err := topic.IDs(c.t.Context(), c.kafka)
		return ids[audit.APICallsTopic].String(), err
	}
	before, err := id()
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.admin.DeleteTopics(c.t.Context(), audit.APICallsTopic); err != nil {
		c.t.Fatal(err)
	}
	testenv.Until(c.t, deadline, nil, "the topic to be made anew", func() (bool, string) {
		_, err := topic.Ensure(c.t.Context(), c.kafka, topics.Specs())
		now, other := id()
		return err == nil && other == nil && now != before, fmt.Sprint(now, err, other)
	})
	c.open() // a client knows the topic by its old id
}

// TestAnOffsetOfAnOperator counts: it has no metadata.
func TestAnOffsetOfAnOperator(t *testing.T) {
	t.Parallel()
	c := newCalls(t)
	c.produce(record(2, audit.StateRunning), record(4, audit.StateRunning))
	offsets := kadm.Offsets{}
	offsets.AddOffset(audit.APICallsTopic, 0, 1, -1)
	if err := c.admin.CommitAllOffsets(t.Context(), c.cfg.Group, offsets); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.expired(4)
}

// TestACallThatIsTooOldToEnd is given up: its Expired record would be refused,
// again in every lease, and the offset would never move past it.
func TestACallThatIsTooOldToEnd(t *testing.T) {
	t.Parallel()
	o := ops.New(zaptest.NewLogger(t))
	e := &expirer{cfg: Config{Lease: lease}, log: zaptest.NewLogger(t), partitions: map[int32]*partition{}, failing: map[string]failure{}}
	e.metrics = newMetrics(o.Registry, e)
	s := newPartition()
	e.partitions[0] = s
	at := time.Now().Add(-time.Hour)
	r := record(2, audit.StateRunning, func(c *audit.APICall) {
		c.SubmittedDate = at.Add(time.Minute - audit.DefaultMaxAge).UnixMilli() // good for another minute
	})
	r.Timestamp = at
	s.read(r, at)
	see := func(end time.Time) {
		for now := at; !now.After(end); now = now.Add(lease / looksInLease) {
			s.looked(now, 0, 1, lease/contactsInLease)
		}
	}
	see(at.Add(2 * lease))
	if got := len(s.silent(time.Now(), lease)); got != 1 {
		t.Fatalf("got %d silent calls, want 1", got)
	}
	e.expire(t.Context()) // it would panic if it wrote: there is no client
	if got := len(s.silent(time.Now().Add(2*lease), lease)); got != 0 {
		t.Errorf("got %d silent calls after one that cannot be ended, want 0", got)
	}
	see(at.Add((rememberLeases + 3) * lease))
	e.expire(t.Context())
	if got := s.oldest(); got != 1 {
		t.Errorf("whoever takes over reads from %d, want 1", got)
	}
}
