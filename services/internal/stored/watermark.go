package stored

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

const (
	// answerAge is how long an answer serves: many searches cost one look.
	answerAge = 250 * time.Millisecond
	// lookTimeout bounds a look, so that searches do not wait for a Kafka that
	// is away.
	lookTimeout = 2 * time.Second
	// recent is how far behind a lower bound may be before the exact time is
	// read from Kafka.
	recent = time.Second
	// lookAttempts is how often a look is repeated because topics were made or
	// deleted meanwhile.
	lookAttempts = 3
)

// answer of a look.
type answer struct {
	upTo [kinds]time.Time
	err  error
	at   time.Time
}

// known is what looks have found out about partitions so far.
type known struct {
	// floor is a time up to which the partition is known to be complete. That
	// stays true.
	floor map[Partition]time.Time
	// firstLeft is the append time of the first record that is not stored.
	firstLeft map[Partition]left
	// upTo is the last watermark of each kind.
	upTo [kinds]time.Time
}

type left struct {
	offset     int64
	appendedAt time.Time
}

func newKnown() known {
	return known{floor: map[Partition]time.Time{}, firstLeft: map[Partition]left{}}
}

// CompleteUpTo returns the watermark of a kind: every record of it that Kafka
// accepted before it, by the append time, is stored. It never moves backwards as long as the
// process lives. Answers are up to 250 ms old. The error says that nobody
// knows: Kafka does not answer within 2 s, or has dropped records before they
// were stored.
//
// Why it holds. The time is taken first, then the ends of all partitions are
// listed: whatever is accepted later is stamped later, give or take the
// Slack. A partition that is stored up to its end is therefore complete up to
// the time that was taken. In one that lags, append times do not go backwards
// (again within the Slack): it is complete up to the time of the first record
// that is not stored, and up to that of the last that is. The watermark is the
// smallest of these times.
//
// What Kafka dropped of a partition before anything was committed of it does
// not count: ingest begins at what is left, and so does the watermark.
func (t *Tracker) CompleteUpTo(ctx context.Context, of Kind) (time.Time, error) {
	t.mu.Lock()
	last := t.last
	t.mu.Unlock()
	if !last.at.IsZero() && time.Since(last.at) < answerAge {
		return last.upTo[of], last.err
	}
	// The look is everybody's: it does not end with the caller who began it.
	looked := t.looks.DoChan("", func() (any, error) { //nolint:contextcheck // as said
		bounded, cancel := context.WithTimeout(t.ctx, lookTimeout)
		defer cancel()
		var a answer
		a.upTo, a.err = t.look(bounded)
		a.at = time.Now()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.last = a
		return a, nil
	})
	select {
	case r := <-looked:
		a := r.Val.(answer)
		return a.upTo[of], a.err
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

// look finds the watermarks. Topics that are made anew while it looks would mix
// the offsets of two incarnations; then it looks again.
func (t *Tracker) look(ctx context.Context) (upTo [kinds]time.Time, err error) {
	for range lookAttempts {
		began := time.Now().Truncate(time.Millisecond) // as append times are
		before, err := t.partitions(ctx)
		if err != nil {
			return upTo, err
		}
		complete, err := t.completeness(ctx, began, before)
		after, errAfter := t.partitions(ctx)
		if errAfter != nil {
			return upTo, errors.Join(err, errAfter)
		}
		if !sameKeys(before, after) {
			continue
		}
		if err != nil {
			return upTo, err
		}
		t.heard.keep(after)
		t.known.floor = complete
		for of := range upTo {
			upTo[of] = began
		}
		for p, at := range complete {
			if of, _ := kindOf(p.Topic); at.Before(upTo[of]) {
				upTo[of] = at
			}
		}
		for of, at := range upTo {
			if at = at.Add(-t.cfg.Slack); at.After(t.known.upTo[of]) {
				t.known.upTo[of] = at
			}
		}
		return t.known.upTo, nil
	}
	return upTo, errors.New("topics are being made or deleted")
}

// sameKeys ignores leaders: they move.
func sameKeys(a, b map[Partition]int32) bool {
	return maps.EqualFunc(a, b, func(int32, int32) bool { return true })
}

// completeness returns up to when each partition is complete.
func (t *Tracker) completeness(ctx context.Context, began time.Time, leaders map[Partition]int32) (map[Partition]time.Time, error) {
	ends, err := t.offsets(ctx, leaders, latest)
	if err != nil {
		return nil, err
	}
	next, err := t.positions(ctx, leaders)
	if err != nil {
		return nil, err
	}
	complete := make(map[Partition]time.Time, len(leaders))
	behind, fresh := map[Partition]int64{}, map[Partition]int32{}
	for p := range leaders {
		if next[p] >= ends[p] {
			complete[p] = began
			continue
		}
		bound := t.known.floor[p]
		if a, ok := t.heard.of(p); ok && a.Next == next[p] && time.UnixMilli(a.AppendedAt).After(bound) {
			bound = time.UnixMilli(a.AppendedAt)
		}
		seen, read := t.known.firstLeft[p]
		read = read && seen.offset == next[p]
		if read && seen.appendedAt.After(bound) {
			bound = seen.appendedAt
		}
		complete[p] = bound
		switch {
		case read, began.Sub(bound) <= recent:
		case next[p] == 0:
			fresh[p] = leaders[p]
		default:
			behind[p] = next[p]
		}
	}
	if len(fresh) > 0 {
		// Nothing is stored of these. Kafka may have dropped their beginning.
		starts, err := t.offsets(ctx, fresh, earliest)
		if err != nil {
			return nil, err
		}
		maps.Copy(behind, starts)
	}
	firstLeft := make(map[Partition]left, len(behind))
	for p, seen := range t.known.firstLeft {
		if seen.offset == next[p] {
			firstLeft[p] = seen
		}
	}
	for p, offset := range behind {
		at, found, err := t.appendTime(ctx, p, leaders[p], offset, ends[p])
		if err != nil {
			return nil, fmt.Errorf("read when offset %d of %s was appended: %w", offset, p, err)
		}
		if !found {
			at = began // only marks of transactions are left
		} else {
			firstLeft[p] = left{next[p], at}
		}
		if at.After(complete[p]) {
			complete[p] = at
		}
	}
	t.known.firstLeft = firstLeft
	return complete, nil
}
