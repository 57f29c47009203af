package stored

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/auditrail/auditrail/services/internal/sqlgen"
)

// Pin returns what is stored of events now. The watermark is taken first: every
// record that was appended before it is before its partition's position, too.
// The error says that nobody knows: Kafka does not answer within 4 s.
func (t *Tracker) Pin(ctx context.Context) (sqlgen.Pin, error) {
	upTo, err := t.CompleteUpTo(ctx, Events)
	if err != nil {
		return sqlgen.Pin{}, fmt.Errorf("up to when everything is stored: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	next, err := t.Positions(ctx)
	if err != nil {
		return sqlgen.Pin{}, err
	}
	pin := sqlgen.Pin{Watermark: upTo.UnixMilli(), Partitions: make([]sqlgen.PinnedPartition, 0, len(next))}
	for p, n := range next {
		if of, ok := kindOf(p.Topic); ok && of == Events {
			pin.Partitions = append(pin.Partitions, sqlgen.PinnedPartition{Topic: p.Topic, TopicID: p.TopicID, Partition: p.Partition, Next: n})
		}
	}
	slices.SortFunc(pin.Partitions, func(a, b sqlgen.PinnedPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return pin, nil
}
