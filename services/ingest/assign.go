package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// dispatch gives a partition's records to its lane. Records of a partition
// without a lane are not wanted: it has been revoked, or stands still.
func (in *ingest) dispatch(p kgo.FetchTopicPartition) {
	if len(p.Records) == 0 {
		return
	}
	at := partitionID{p.Topic, p.Partition}
	in.mu.Lock()
	defer in.mu.Unlock()
	l := in.lanes[at]
	if l == nil {
		return
	}
	delete(in.resumed, at)
	l.high.Store(p.HighWatermark)
	held := l.push(p.Records)
	in.metrics.lagOf(l)
	// A recovering lane needs its whole range before it can write anything.
	if !l.recovering.Load() && (held > in.laneShare() || in.budget.inUse() > in.budget.limit) {
		in.pause(at)
	}
}

// pause stops fetching a partition; in.mu is held.
func (in *ingest) pause(at partitionID) {
	if !in.paused[at] {
		in.paused[at] = true
		in.client.PauseFetchPartitions(map[string][]int32{at.topic: {at.partition}})
	}
}

// laneShare is what one lane may hold of the memory budget, so that a lane
// that falls behind does not starve the others.
func (in *ingest) laneShare() int64 { return in.budget.limit / 2 }

// resume lets a paused lane fetch again once it holds little enough.
func (in *ingest) resume(l *lane) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.lanes[l.at] == l && in.paused[l.at] && l.held.Load() < in.laneShare()/2 {
		delete(in.paused, l.at)
		in.resumed[l.at] = time.Now()
		in.client.ResumeFetchPartitions(map[string][]int32{l.at.topic: {l.at.partition}})
	}
}

// fetchError counts and shows what a fetch failed with. It returns true when
// the topic was made anew and must be looked up again.
func (in *ingest) fetchError(at partitionID, err error) (anew bool) {
	kind := "other"
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		kind = "out-of-range"
		err = fmt.Errorf("records were dropped by Kafka before they were stored; the partition stands still until an operator sets its offset: %w", err)
		in.health.failed("fetch", at.String(), err)
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID):
		kind, anew = "topic-anew", true
	}
	in.metrics.fetchErrors.WithLabelValues(kind).Inc()
	what := "fetch"
	if at.topic != "" { // else it is no partition's
		what += " of " + at.String()
	}
	in.repeats.Error(what+" failed", zap.Error(err))
	return anew
}

// origin is where and how a lane begins.
type origin struct {
	topicID  uuid.UUID
	recovery *recovery // nil: nothing is in doubt
	searched bool      // no usable commit: the table says where to begin
}

// assigned starts a lane for every new partition. A partition whose beginning
// cannot be told stands still, visibly; the others go on.
func (in *ingest) assigned(ctx context.Context, cl *kgo.Client, parts map[string][]int32) {
	select {
	case <-in.ready:
	case <-in.running.Done():
		return
	}
	member, generation := cl.GroupMetadata()
	owner := ownership{member: member, generation: generation}
	// The callback ends with the service, too: a stop must not wait for Kafka.
	lookup, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(in.running, cancel)()
	origins, failed, err := in.origins(lookup, parts)
	if err != nil {
		return // stopping
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for at, err := range failed {
		in.standStill(at, err)
	}
	for at, o := range origins {
		s := in.streamOf(at.topic)
		if s == nil {
			in.standStill(at, fmt.Errorf("topic %s carries neither events nor API calls", at.topic))
			continue
		}
		l := newLane(in, at, s, o.topicID, owner)
		l.begin(o.recovery)
		l.next.Store(in.starts[at])
		in.lanes[at] = l
		l.start(context.WithoutCancel(ctx))
	}
	in.metrics.lanes.Set(float64(len(in.lanes)))
}

// idAttempts is how often a topic's id is asked for before its partitions
// stand still: a topic that was just made, or just deleted, is in between.
const idAttempts = 5

// origins finds how each partition begins. It repeats what fails for all; what
// fails for one partition is in failed. An error means that ctx has ended.
func (in *ingest) origins(ctx context.Context, parts map[string][]int32) (origins map[partitionID]origin, failed map[partitionID]error, err error) {
	attempts := 0
	err = in.retry(ctx, "assignment", "", func(ctx context.Context) error {
		origins, failed = map[partitionID]origin{}, map[partitionID]error{}
		ids, err := topic.IDs(ctx, in.client)
		if err != nil {
			return err
		}
		committed, err := in.admin.FetchOffsets(ctx, in.cfg.Group)
		if err != nil {
			return fmt.Errorf("read committed offsets: %w", err)
		}
		names := slices.DeleteFunc(slices.Collect(maps.Keys(parts)), func(t string) bool { return ids[t] == uuid.Nil })
		wrong, err := topic.Wrong(ctx, in.client, names)
		if err != nil {
			return err
		}
		attempts++
		for t, ps := range parts {
			for _, p := range ps {
				at := partitionID{t, p}
				if ids[t] == uuid.Nil {
					err := fmt.Errorf("the broker gives topic %s no id: it is being deleted, or Kafka is older than 2.8", t)
					if attempts < idAttempts {
						return err
					}
					failed[at] = err
					continue
				}
				if wrong[t] != nil { // found after the start, so not checked by it
					failed[at] = wrong[t]
					continue
				}
				o, err := originOf(committed, at, ids[t])
				if err != nil {
					failed[at] = err
					continue
				}
				origins[at] = o
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return origins, failed, in.searchStarts(ctx, origins)
}

// originOf reads what the group committed for a partition.
func originOf(committed kadm.OffsetResponses, at partitionID, topicID uuid.UUID) (origin, error) {
	o := origin{topicID: topicID}
	c, ok := committed.Lookup(at.topic, at.partition)
	switch {
	case !ok || c.At < 0:
		o.searched = true
		return o, nil
	case c.Err != nil:
		return o, fmt.Errorf("committed offset: %w", c.Err)
	case c.Metadata == "":
		return o, nil // set by an operator: begin there
	}
	m, err := parseMarker(c.Metadata)
	if err != nil {
		return o, err
	}
	if m.topicID != topicID {
		// The offset counted records of a topic that is no more.
		o.searched = true
		return o, nil
	}
	if m.pending != nil {
		o.recovery = &recovery{want: *m.pending}
	}
	return o, nil
}

// searchStarts finds where partitions without a usable commit begin: near the
// last record that the table holds of them, else at the beginning. Groups lose
// their offsets when they are idle for long, or get another name; without this
// everything Kafka still has would be stored again.
//
// The last insert may have landed for some months only, so the records that a
// batch before the last stored one may span are made again: those that the
// table has are left out.
func (in *ingest) searchStarts(ctx context.Context, origins map[partitionID]origin) error {
	for at, o := range origins {
		s := in.streamOf(at.topic)
		if s == nil || !o.searched {
			continue // and end has cleared what was found at an assignment before
		}
		var last, earliest int64
		err := in.retry(ctx, "assignment", at.String(), func(ctx context.Context) (err error) {
			if earliest, err = in.earliest(ctx, at); err != nil {
				return err
			}
			return in.store.QueryRow(ctx, `SELECT if(count() = 0, -1, max(kafka_offset)) FROM `+s.table+`
				WHERE kafka_partition = {partition:UInt32} AND topic_id = {topic:UUID}`,
				clickhouse.Named("partition", strconv.Itoa(int(at.partition))), clickhouse.Named("topic", o.topicID.String())).Scan(&last)
		})
		if err != nil {
			return err
		}
		start := last + 1
		if first := max(earliest, start-int64(in.cfg.Limits.BatchRows)); first <= last {
			start = first
			o.recovery = &recovery{want: pendingRange{first: first, last: last}, unnamed: true}
			origins[at] = o
		}
		if last >= 0 {
			in.log.Warn("the group has no offset; going on after the last record that is stored", zap.String("topic", at.topic), zap.Int32("partition", at.partition), zap.Int64("offset", last+1))
		}
		in.mu.Lock()
		in.starts[at] = start
		in.mu.Unlock()
	}
	return nil
}

// earliest is the first offset that Kafka has of a partition.
func (in *ingest) earliest(ctx context.Context, at partitionID) (int64, error) {
	offsets, err := in.admin.ListStartOffsets(ctx, at.topic)
	if err != nil {
		return 0, fmt.Errorf("first offset of %s: %w", at, err)
	}
	o, ok := offsets.Lookup(at.topic, at.partition)
	if !ok {
		return 0, fmt.Errorf("first offset of %s: the broker does not say", at)
	}
	return o.Offset, o.Err
}

// adjust is called with the committed offsets before fetching begins.
func (in *ingest) adjust(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for t, ps := range offsets {
		for p := range ps {
			switch start, ok := in.starts[partitionID{t, p}]; {
			case ok && start > 0:
				ps[p] = kgo.NewOffset().At(start)
			case ok:
				ps[p] = kgo.NewOffset().AtStart()
			}
		}
	}
	return offsets, nil
}

// revoked drains lanes whose partitions move. While it runs the group waits,
// so it is bounded.
func (in *ingest) revoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	in.end(parts, drainTimeout)
}

// lostPartitions cuts lanes off: their partitions already have other owners,
// and nothing they could commit would be accepted.
func (in *ingest) lostPartitions(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	in.end(parts, 0)
}

func (in *ingest) end(parts map[string][]int32, timeout time.Duration) {
	var ending []*lane
	in.mu.Lock()
	for t, ps := range parts {
		for _, p := range ps {
			at := partitionID{t, p}
			if l := in.lanes[at]; l != nil {
				ending = append(ending, l)
			}
			delete(in.lanes, at)
			delete(in.stood, at)
			delete(in.starts, at)
			delete(in.resumed, at)
			if in.paused[at] { // the client remembers pauses across assignments
				delete(in.paused, at)
				in.client.ResumeFetchPartitions(map[string][]int32{t: {p}})
			}
			in.metrics.lag.DeleteLabelValues(t, strconv.Itoa(int(p)))
		}
	}
	in.metrics.lanes.Set(float64(len(in.lanes)))
	in.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, l := range ending {
		l.drain()
	}
	for _, l := range ending {
		l.join(ctx)
	}
	for t, ps := range parts {
		for _, p := range ps {
			in.health.clear(partitionID{t, p}.String()) // whoever owns it next finds out anew
		}
	}
}

// endAll drains every lane: the service stops.
func (in *ingest) endAll() {
	parts := map[string][]int32{}
	in.mu.Lock()
	for at := range in.lanes {
		parts[at.topic] = append(parts[at.topic], at.partition)
	}
	in.mu.Unlock()
	in.end(parts, drainTimeout)
}

// forget lets the partition of a lane that stopped by itself at an offset stand
// still, unless it is being taken away.
func (in *ingest) forget(l *lane, offset int64, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.lanes[l.at] != l {
		l.log.Error("lane stopped", zap.Int64("offset", offset), zap.Error(err))
		return
	}
	in.standStill(l.at, err, zap.Int64("offset", offset))
	in.stood[l.at] = l.ages
}

// standStill takes a partition out of the way, visibly, until it is assigned
// anew. in.mu is held.
func (in *ingest) standStill(at partitionID, err error, more ...zap.Field) {
	in.log.Error("partition stands still", append(more, zap.String("topic", at.topic), zap.Int32("partition", at.partition), zap.Error(err))...)
	delete(in.lanes, at)
	in.metrics.lanes.Set(float64(len(in.lanes)))
	in.pause(at)
	in.health.failed("partition", at.String(), err)
}
