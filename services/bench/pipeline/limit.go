package main

import (
	"context"
	"strings"

	"github.com/ClickHouse/ch-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/bench/limit"
)

// limitSpec is the limit as a process: a consumer that decodes by hand, builds
// columns and inserts them over one connection. It checks nothing, repeats
// nothing and commits once, at the end.
type limitSpec struct {
	Kafka, ClickHouse string // addresses
	Group             string
	Topics            []string
	Records           int // to read
}

const (
	// limitBatch is the rows of an insert.
	limitBatch = 1 << 17
	// limitBatches is how many blocks are filled or under way.
	limitBatches = 3
)

func (s limitSpec) run(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka), kgo.ConsumeTopics(s.Topics...), kgo.ConsumerGroup(s.Group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(32<<20), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		return err
	}
	defer cl.Close()
	conn, err := ch.Dial(ctx, ch.Options{Address: s.ClickHouse, Compression: ch.CompressionLZ4})
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // every insert was answered

	full, spare, inserted := make(chan *limit.Columns, limitBatches), make(chan *limit.Columns, limitBatches), make(chan error, 1)
	for range limitBatches {
		spare <- limit.NewColumns(false)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		inserted <- insertAll(ctx, conn, full, spare)
	}()
	err = s.read(ctx, cl, full, spare)
	close(full)
	if failed := <-inserted; failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	return cl.CommitUncommittedOffsets(context.WithoutCancel(ctx))
}

// read fills blocks with the records and hands them on.
func (s limitSpec) read(ctx context.Context, cl *kgo.Client, full chan<- *limit.Columns, spare <-chan *limit.Columns) error {
	var e audit.Event
	block, rows := <-spare, 0
	for read := 0; read < s.Records; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			err := limit.Decode(r.Value, &e)
			if err != nil {
				return err
			}
			block.Add(&e, r.Partition, r.Offset)
			read++
			if rows++; rows == limitBatch {
				if block, err = swap(ctx, block, full, spare); err != nil {
					return err
				}
				rows = 0
			}
		}
	}
	if rows == 0 {
		return nil
	}
	_, err := swap(ctx, block, full, spare)
	return err
}

// swap hands a block on and takes a spare one.
func swap(ctx context.Context, block *limit.Columns, full chan<- *limit.Columns, spare <-chan *limit.Columns) (*limit.Columns, error) {
	select {
	case full <- block:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case block = <-spare:
		return block, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func insertAll(ctx context.Context, conn *ch.Client, full <-chan *limit.Columns, spare chan<- *limit.Columns) error {
	for block := range full {
		var names []string
		for _, c := range block.Block() {
			names = append(names, c.Name)
		}
		err := conn.Do(ctx, ch.Query{Body: "INSERT INTO audit_events (" + strings.Join(names, ", ") + ") VALUES", Input: block.Block()})
		if err != nil {
			return err
		}
		block.Reset()
		spare <- block
	}
	return nil
}
