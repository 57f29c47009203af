package deadletter

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// What ages out while a snapshot is read is passed over, be it all of it.
func TestWhatAgesOutIsPassedOver(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		before int64 // what Kafka drops
		want   int
	}{"some": {2, 1}, "all": {3, 0}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.produce(madeLetter(1, []byte("a")), madeLetter(2, []byte("b")), madeLetter(3, []byte("c")))
			var out, notes bytes.Buffer
			s, err := takeSnapshot(t.Context(), e.cl, e.kafka, e.deps(&out, &notes))
			if err != nil {
				t.Fatal(err)
			}
			var drop kadm.Offsets
			drop.Add(kadm.Offset{Topic: topic.DeadLetter, At: c.before})
			if rs, err := kadm.NewClient(e.cl).DeleteRecords(t.Context(), drop); err != nil || rs.Error() != nil {
				t.Fatal(err, rs.Error())
			}
			ctx, cancel := context.WithTimeout(t.Context(), stallTimeout-time.Second)
			defer cancel()
			n := 0
			if err := s.read(ctx, "reading", func(*kgo.Record) error { n++; return nil }); err != nil || n != c.want {
				t.Errorf("got %d records and %v, want %d", n, err, c.want)
			}
		})
	}
}
