package limittopic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
)

const (
	// again is the pause before the topic is read anew after a failure.
	again = time.Second
	// identify is how often the topic is compared with the one that is read:
	// one made anew has another id.
	identify = 5 * time.Second
)

// follow reads the topic from its beginning, again and again should that fail,
// until ctx ends.
func (l *Limits) follow(ctx context.Context) {
	defer close(l.ended)
	for {
		err := l.read(ctx)
		if ctx.Err() != nil {
			return
		}
		l.log.Warn("limits are read from the beginning of their topic again; what was read before counts meanwhile", zap.Error(err))
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

// read makes the set out of the topic: first apart, until it is as of now, then
// fetch by fetch. It returns only with an error.
func (l *Limits) read(ctx context.Context) error {
	id, err := topicID(ctx, l.admin)
	if err != nil {
		return err
	}
	end, err := l.end(ctx)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(l.opts[:len(l.opts):len(l.opts)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{apicall.LimitsTopic: {0: kgo.NewOffset().AtStart()}}),
		// Records that went missing under us: begin again, never skip.
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()),
		// Should somebody write in a transaction: what is aborted is no change,
		// and the marker of its end may be the last record.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	set, current := map[string]*apicall.Override{}, end == 0
	if current {
		l.publish(set)
	}
	for looked := time.Now(); ; {
		waiting, cancel := context.WithTimeout(ctx, identify)
		fetches := cl.PollFetches(waiting)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if fetches.NumRecords() > 0 {
			if current {
				set = maps.Clone(set) // readers have the other
			}
			next := l.apply(set, fetches)
			if current = current || next >= end; current {
				l.publish(set)
			}
		}
		if time.Since(looked) >= identify {
			if err := l.compare(ctx, id); err != nil {
				return err
			}
			looked = time.Now()
		}
	}
}

// apply makes the changes of the records, in their order, and returns the offset
// after the last. A value that cannot be read is none: to keep the one before
// would make this process differ from those that start after compaction has
// dropped that.
func (l *Limits) apply(set map[string]*apicall.Override, fetches kgo.Fetches) (next int64) {
	fetches.EachRecord(func(r *kgo.Record) {
		next = r.Offset + 1
		if r.Attrs.IsControl() {
			return
		}
		delete(set, string(r.Key))
		if len(r.Value) == 0 {
			return
		}
		o := new(apicall.Override)
		if err := o.UnmarshalJSON(r.Value); err != nil {
			l.log.Error("a record of limits cannot be read, and its subscription counts as having none: set them again", zap.Int64("offset", r.Offset), zap.Error(err))
			return
		}
		set[string(r.Key)] = o
	})
	return next
}

// compare returns an error once the topic is another one. One that is gone, or
// that nobody tells of, is not: what was read goes on to count.
func (l *Limits) compare(ctx context.Context, id [16]byte) error {
	ctx, cancel := context.WithTimeout(ctx, identify)
	defer cancel()
	switch now, err := topicID(ctx, l.admin); {
	case err != nil:
		l.log.Warn("limits cannot be compared with their topic; what was read before goes on to count", zap.Error(err))
	case now != id:
		return errors.New("the topic was made anew")
	}
	return nil
}

// topicID asks the brokers for the topic's id, and that it has one partition.
func topicID(ctx context.Context, cl *kgo.Client) (id [16]byte, err error) {
	name := apicall.LimitsTopic
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return id, fmt.Errorf("the brokers do not say where topic %s is: %w", name, err)
	}
	if len(resp.Topics) != 1 {
		return id, fmt.Errorf("the brokers say nothing of topic %s", name)
	}
	found := resp.Topics[0]
	switch err := kerr.ErrorForCode(found.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return id, fmt.Errorf("topic %s is missing: run auditrail migrate", name)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return id, fmt.Errorf("topic %s may not be read: allow this client to read and describe it: %w", name, err)
	case err != nil:
		return id, fmt.Errorf("topic %s: %w", name, err)
	case len(found.Partitions) != 1:
		return id, fmt.Errorf("topic %s has %d partitions and must have one: delete it and run auditrail migrate", name, len(found.Partitions))
	}
	return found.TopicID, nil
}

// end is the offset after the last record that can be read, 0 when there is
// none: a transaction under way hides those behind its first. Compaction never
// takes the last record, so whoever reads all gets there.
func (l *Limits) end(ctx context.Context) (int64, error) {
	adm := kadm.NewClient(l.admin)
	end, err := offset(adm.ListCommittedOffsets(ctx, apicall.LimitsTopic))
	if err != nil {
		return 0, err
	}
	start, err := offset(adm.ListStartOffsets(ctx, apicall.LimitsTopic))
	if err != nil || start == end {
		return 0, err
	}
	return end, nil
}

func offset(listed kadm.ListedOffsets, err error) (int64, error) {
	if err != nil {
		return 0, fmt.Errorf("offsets of %s: %w", apicall.LimitsTopic, err)
	}
	o, ok := listed.Lookup(apicall.LimitsTopic, 0)
	if !ok {
		return 0, fmt.Errorf("offsets of %s: the broker names none", apicall.LimitsTopic)
	}
	return o.Offset, o.Err
}
