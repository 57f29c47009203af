package deadletter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// progressEvery is how often long work says how far it is.
	progressEvery = 2 * time.Second
	// stallTimeout is how long Kafka may send nothing of what it has.
	stallTimeout = 30 * time.Second
	// quiet is how long Kafka may send nothing before it is asked what it still
	// has: what is read may age out meanwhile.
	quiet = 2 * time.Second
	// fetchBytes bounds what the client holds ahead of the reader: packed, and
	// text may unpack to twenty times as much.
	fetchBytes = 1 << 20
)

// snapshot is the dead-letter topic up to its end as it was at one moment:
// what is appended later is not read. It may be read again and again.
type snapshot struct {
	cfg   kafka.Config
	log   *zap.Logger
	notes io.Writer
	more  func() string  // what progress notes say beside how far it is
	spans map[int32]span // partitions that hold records
	total int64          // records
}

type span struct{ from, end int64 } // offsets; end is exclusive

func takeSnapshot(ctx context.Context, cl *kgo.Client, cfg kafka.Config, deps Deps) (*snapshot, error) {
	adm := kadm.NewClient(cl)
	starts, err := listed(adm.ListStartOffsets(ctx, topic.DeadLetter))
	var ends kadm.ListedOffsets
	if err == nil {
		ends, err = listed(adm.ListEndOffsets(ctx, topic.DeadLetter))
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, fmt.Errorf("topic %s is missing: run auditrail migrate", topic.DeadLetter)
	case err != nil:
		return nil, fmt.Errorf("list the offsets of %s: %w", topic.DeadLetter, err)
	}
	s := &snapshot{cfg: cfg, log: deps.Log, notes: deps.Notes, more: func() string { return "" }, spans: map[int32]span{}}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if ok && start.Offset < end.Offset {
			s.spans[end.Partition] = span{start.Offset, end.Offset}
			s.total += end.Offset - start.Offset
		}
	})
	return s, nil
}

// listed gives a failed partition's error, too.
func listed(offsets kadm.ListedOffsets, err error) (kadm.ListedOffsets, error) {
	if err == nil {
		err = offsets.Error()
	}
	return offsets, err
}

// read visits every record of the snapshot that Kafka still has, each partition
// in order, until an error. Progress goes to the notes: doing, and how far it is.
func (s *snapshot) read(ctx context.Context, doing string, visit func(*kgo.Record) error) error {
	if len(s.spans) == 0 {
		return nil
	}
	left, from := map[int32]bool{}, map[int32]kgo.Offset{}
	for p, span := range s.spans {
		left[p], from[p] = true, kgo.NewOffset().At(span.from)
	}
	cl, err := kgo.NewClient(append(s.cfg.Options(s.log),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.DeadLetter: from}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // what aged out in the meantime is passed over
		kgo.KeepControlRecords(), // the last record may be one
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes), kgo.MaxConcurrentFetches(1),
	)...)
	if err != nil {
		return fmt.Errorf("kafka %v: %w", s.cfg.Addr, err)
	}
	defer cl.Close()
	var n int64
	said, heard := time.Now(), time.Now()
	for len(left) > 0 {
		fetches, err := s.poll(ctx, cl)
		switch {
		case err != nil:
		case !fetches.Empty():
			heard = time.Now()
		case time.Since(heard) > stallTimeout:
			err = fmt.Errorf("kafka %v sent nothing for %s", s.cfg.Addr, stallTimeout)
		default:
			s.forget(ctx, cl, left)
		}
		if err != nil {
			return fmt.Errorf("read %s (%d of %d %s done): %w", topic.DeadLetter, n, s.total, english.PluralWord(int(s.total), "record", ""), err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			end := s.spans[r.Partition].end
			if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
			if r.Offset >= end {
				continue
			}
			n++
			if !r.Attrs.IsControl() {
				if err := visit(r); err != nil {
					return err
				}
			}
			if time.Since(said) >= progressEvery {
				said = time.Now()
				fmt.Fprintf(s.notes, "%s: %d of %d %s%s\n", doing, n, s.total, english.PluralWord(int(s.total), "record", ""), s.more())
			}
		}
	}
	return nil
}

// forget drops from left the partitions of which Kafka dropped all that is to
// be read. While Kafka does not answer there are none.
func (s *snapshot) forget(ctx context.Context, cl *kgo.Client, left map[int32]bool) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	starts, err := listed(kadm.NewClient(cl).ListStartOffsets(ctx, topic.DeadLetter))
	if err != nil {
		return
	}
	starts.Each(func(start kadm.ListedOffset) {
		if start.Offset >= s.spans[start.Partition].end {
			delete(left, start.Partition)
		}
	})
}

// poll waits for records, but not for long: there may be none.
func (s *snapshot) poll(ctx context.Context, cl *kgo.Client) (kgo.Fetches, error) {
	waiting, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	fetches := cl.PollFetches(waiting)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for _, e := range fetches.Errors() {
		var passed *kgo.ErrDataLoss // aged out
		if !errors.As(e.Err, &passed) && !errors.Is(e.Err, context.DeadlineExceeded) {
			return nil, e.Err
		}
	}
	return fetches, nil
}

// letters visits every dead letter of the snapshot that keep lets through,
// once, and says when it was redriven: the zero time, if it is open. It reads
// the snapshot twice, for a marker comes after its letter.
func (s *snapshot) letters(ctx context.Context, keep func(*letter) bool, visit func(l *letter, redrivenAt time.Time) error) error {
	f := newFold()
	if err := s.read(ctx, "looking for what was redriven", func(r *kgo.Record) error {
		if _, m := parse(r); m != nil {
			f.redriven[m.id] = m.at.UnixMilli()
		}
		return nil
	}); err != nil {
		return err
	}
	return s.read(ctx, "reading dead letters", func(r *kgo.Record) error {
		l, _ := parse(r)
		if l == nil || !keep(l) || f.again(l.id) {
			return nil
		}
		return visit(l, f.redrivenAt(l.id))
	})
}

// fold makes one letter of those that were written several times. A marker
// counts wherever it stands: ingest may have written the letter once more
// after it. Memory: 100 bytes at most for every letter asked about and for every
// marker, whatever their size; BenchmarkFold measures it.
type fold struct {
	redriven map[topic.Position]int64 // epoch ms
	seen     map[topic.Position]struct{}
}

func newFold() *fold {
	return &fold{redriven: map[topic.Position]int64{}, seen: map[topic.Position]struct{}{}}
}

// again says whether it was asked about id before.
func (f *fold) again(id topic.Position) bool {
	n := len(f.seen)
	f.seen[id] = struct{}{}
	return len(f.seen) == n
}

func (f *fold) redrivenAt(id topic.Position) time.Time {
	ms, ok := f.redriven[id]
	if !ok {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
