package ingest

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// readAll reads a topic up to the end that it has now, each partition in order.
func (p *pipeline) readAll(name string) []*kgo.Record {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	return testenv.Records(ctx, p.t, p.cfg.Kafka, name)
}

// Every announcement names the end of a batch and when its last record was
// appended; the last one of each partition is of its last record, stored or
// dead.
func TestAnnouncementsSayWhatIsStored(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.cfg.Limits.BatchRows = 3
	p.start()
	const n = 20
	for i := range n {
		p.produce(pm, 0, event(i))
	}
	p.produce(pm, 1, event(n), []byte("a dead letter"))
	p.stored(n + 1)

	// What may be announced, by key: the end behind each record.
	may, last := map[string]map[string]bool{}, map[string]string{}
	id := p.topicID(pm)
	for _, r := range p.readAll(pm) {
		key := fmt.Sprintf("%s/%d", id, r.Partition)
		value := fmt.Sprintf(`{"topic":%q,"topicId":%q,"partition":%d,"next":%d,"appendedAt":%d}`, pm, id, r.Partition, r.Offset+1, r.Timestamp.UnixMilli())
		if may[key] == nil {
			may[key] = map[string]bool{}
		}
		may[key][value], last[key] = true, value
	}
	if len(last) != 2 {
		t.Fatalf("records are on %d partitions, want 2", len(last))
	}
	p.until("the announcements of the last records", func() (bool, string) {
		said := map[string]string{}
		for _, r := range p.readAll(topic.Ingested) {
			if !may[string(r.Key)][string(r.Value)] {
				t.Fatalf("%s says %s, which no record is behind", r.Key, r.Value)
			}
			said[string(r.Key)] = string(r.Value)
		}
		return fmt.Sprint(said) == fmt.Sprint(last), fmt.Sprintf("%v, want %v", said, last)
	})
}
