package ingest

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordOverhead is what a fetched record costs beside its value: the record
// itself and its share of slices.
const recordOverhead = 256

// recordCost is the memory a record is charged with, in bytes.
func recordCost(r *kgo.Record) int64 { return int64(len(r.Value) + len(r.Key) + recordOverhead) }

// queue holds fetched records of a lane, in order. Its length is bounded by
// the memory budget and by the pause of a lane that falls behind. Safe for
// concurrent use.
type queue struct {
	ready chan struct{} // has a token when there may be records

	mu      sync.Mutex
	records []*kgo.Record // guarded by mu
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

func (q *queue) push(rs []*kgo.Record) {
	q.mu.Lock()
	q.records = append(q.records, rs...)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *queue) take() []*kgo.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	rs := q.records
	q.records = nil
	return rs
}

// budget bounds the bytes of records that the process holds, from fetch to
// insert. Safe for concurrent use.
type budget struct {
	limit int64

	mu    sync.Mutex
	used  int64         // guarded by mu
	freed chan struct{} // closed and replaced when bytes are given back; guarded by mu
}

func newBudget(limit int64) *budget { return &budget{limit: limit, freed: make(chan struct{})} }

// take charges n bytes. It may go over the limit: fetched is fetched.
func (b *budget) take(n int64) {
	b.mu.Lock()
	b.used += n
	b.mu.Unlock()
}

// release gives n bytes back.
func (b *budget) release(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	b.wake()
}

// wake has wait look again.
func (b *budget) wake() {
	b.mu.Lock()
	close(b.freed)
	b.freed = make(chan struct{})
	b.mu.Unlock()
}

// wait blocks while the budget is used up, unless pass says to go on. Batches
// flush by age, so that what holds the bytes always moves on unless ClickHouse
// is away.
func (b *budget) wait(ctx context.Context, pass func() bool) error {
	for {
		b.mu.Lock()
		used, freed := b.used, b.freed
		b.mu.Unlock()
		if used < b.limit || pass() {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// room is how many bytes may be taken without going over the limit.
func (b *budget) room() int64 { return max(0, b.limit-b.inUse()) }

func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
