// Pipeline measures the services as processes: from records in Kafka to rows
// that were stored, and searches over them.
//
//	go run ./services/bench/pipeline ingest           speed against the limit
//	go run ./services/bench/pipeline ingest --engine  the same into the real engine
//	go run ./services/bench/pipeline freshness        emitted to searchable
//	go run ./services/bench/pipeline backpressure     memory while the engine is away
//	go run ./services/bench/pipeline search           searches over many events
//	go run ./services/bench/pipeline report           reports against the engine alone
//
// Broker, engine, ingest, query, reporter, the limit and the load generator are processes of
// their own, copies of this one, so that each one's CPU time and memory can be
// told apart. Records are the base workload of services/internal/workload in
// LZ4 batches, keyed by customer as the SDK does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/alecthomas/kong"
)

type cli struct {
	Ingest       ingestCmd       `cmd:"" help:"CPU an event, rate and memory of ingest, against the limit: a consumer that promises nothing. Rows go to a server that throws them away."`
	Freshness    freshnessCmd    `cmd:"" help:"Time from an event's emission until a search finds it, with the real engine."`
	Backpressure backpressureCmd `cmd:"" help:"Memory of ingest while ClickHouse is away and events keep coming: it stays flat. Then the engine comes back, and every event must be stored once."`
	Search       searchCmd       `cmd:"" help:"Searches through the API against the same SQL straight to the engine, bytes an event, and searches while events flow."`
	Report       reportCmd       `cmd:"" help:"Reports by the reporter against the same SELECT in the same format straight from the engine, and the reporter's memory with few and with many rows."`
}

func main() {
	if isChild() {
		os.Exit(childMain())
	}
	var c cli
	app := kong.Parse(&c, kong.Name("pipeline"), kong.Description("Measures ingest from Kafka to stored rows, and searches. Read ratios, on an idle machine with at least two cores."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	app.BindTo(ctx, (*context.Context)(nil))
	err := app.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pipeline:", err)
		os.Exit(1)
	}
}
