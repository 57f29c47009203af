package engine_test

import (
	"context"
	"testing"
)

func TestInsertThenSelect(t *testing.T) {
	t.Parallel()
	conn := open(t)
	ctx := context.Background()
	if err := conn.Exec(ctx, "CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := batch.Append(uint64(i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	var n, sum uint64
	if err := conn.QueryRow(ctx, "SELECT count(), sum(a) FROM t").Scan(&n, &sum); err != nil {
		t.Fatal(err)
	}
	if n != 1000 || sum != 499500 {
		t.Errorf("count %d, sum %d, want 1000 and 499500", n, sum)
	}
}
