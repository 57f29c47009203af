package ingest

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// A table may have a view that keeps the newest of its rows in another one: the
// latest state of each API call. The engine stores a block's rows first and then
// what the view makes of them, and no promise covers both. If it dies in between,
// the rows are there and the view's are not, and they may stay away: what a
// repetition under the same token does for the view is the engine's affair, and a
// recovery inserts only what the table lacks. So after every insert that was in
// doubt, and when rows were found stored by somebody else's, the rows of the
// range go through the view's own SELECT once more. That may be done any number
// of times: of equal rows the view's table keeps one. The offset moves past the
// batch only afterwards, so that whoever comes after a crash does it again.

// refresh has the view make its rows of the batch's range once more.
func (l *lane) refresh(ctx context.Context, b *batch) error {
	s := l.stream
	if s.latest == "" {
		return nil
	}
	return l.in.retry(ctx, "latest states", l.at.String(), func(ctx context.Context) error {
		var sel string
		if err := l.in.store.QueryRow(ctx, "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = {view:String}",
			clickhouse.Named("view", s.latest)).Scan(&sel); err != nil {
			return fmt.Errorf("read what the view %s selects: %w", s.latest, err)
		}
		if err := l.in.store.Exec(ctx, "INSERT INTO "+s.target+" (* EXCEPT(ingested_at)) "+sel+`
			WHERE kafka_offset BETWEEN {first:Int64} AND {last:Int64} AND kafka_partition = {partition:UInt32} AND topic_id = {topic:UUID}`,
			clickhouse.Named("first", strconv.FormatInt(b.first, 10)), clickhouse.Named("last", strconv.FormatInt(b.last, 10)),
			clickhouse.Named("partition", strconv.Itoa(int(l.at.partition))), clickhouse.Named("topic", l.topicID.String())); err != nil {
			return wordless(fmt.Sprintf("make the rows of %s of records %d to %d again", s.target, b.first, b.last), err)
		}
		return nil
	})
}
