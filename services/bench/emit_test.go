package main

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/bench/measure"
)

const (
	// emitSet is how many events take turns.
	emitSet = 20_000
	// burst is how many events are emitted before the brokers are waited for:
	// a busy module, but not one that competes with its own deliveries for
	// every microsecond of a small machine.
	burst = 1000
	// emitModule is the one module that emits, as in a product's process.
	emitModule = "PM"
)

// BenchmarkEmit is what an event costs the module that emits it. The brokers'
// work and the client's own goroutines are not the caller's.
func BenchmarkEmit(b *testing.B) {
	for _, w := range measure.Workloads {
		events := measure.Events(b, measure.Lines(b, w.Full, min(measure.Size(), emitSet)))
		for i := range events {
			events[i].ModuleCode = emitModule
			events[i].CreatedDate = time.Now().UnixMilli()
		}
		b.Run(w.Name+"/ours", func(b *testing.B) { benchmarkEmit(b, events) })
		b.Run(w.Name+"/zap", func(b *testing.B) { benchmarkZap(b, events) })
	}
}

func benchmarkEmit(b *testing.B, events []audit.Event) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, audit.Topic(emitModule)))
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	emitter, err := emit.New(emit.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := emitter.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	events = slices.Clone(events)
	for i := range events {
		events[i].ID = "" // the emitter makes one, as for every module
	}
	each := bursts(events)
	measure.Thread(b, min(burst, len(events)), func() {
		for _, e := range each() {
			if err := emitter.Emit(e); err != nil {
				b.Fatal(err)
			}
		}
	}, func() {
		if err := emitter.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
	if s := emitter.Stats(); s.Delivered != s.Emitted {
		b.Fatalf("%d of %d events delivered", s.Delivered, s.Emitted)
	}
}

// bursts hands out the events, a burst a call, round and round.
func bursts(events []audit.Event) func() []audit.Event {
	n, next := min(burst, len(events)), 0
	return func() []audit.Event {
		if next+n > len(events) {
			next = 0
		}
		next += n
		return events[next-n : next]
	}
}

// benchmarkZap logs the same fields as JSON, to nowhere.
func benchmarkZap(b *testing.B, events []audit.Event) {
	logger := zap.New(zapcore.NewCore(
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	each := bursts(events)
	measure.Thread(b, min(burst, len(events)), func() {
		for _, e := range each() {
			logEvent(logger, &e)
		}
	}, func() {})
}

func logEvent(logger *zap.Logger, e *audit.Event) {
	fields := make([]zap.Field, 0, 23)
	fields = append(fields,
		zap.String("id", e.ID),
		zap.Uint32("auditEnabledAppId", e.AuditEnabledAppID),
		zap.String("applicationName", e.ApplicationName),
		zap.String("moduleCode", e.ModuleCode),
		zap.String("moduleName", e.ModuleName),
		zap.String("userName", e.UserName),
		zap.String("userRole", e.UserRole),
		zap.String("userUuid", e.UserUUID),
		zap.String("customerUuid", e.CustomerUUID),
		zap.String("client", e.Client),
		zap.String("sourceIp", e.SourceIP),
		zap.Int64("createdDate", e.CreatedDate),
		zap.String("targetType", e.TargetType),
		zap.String("targetName", e.TargetName),
		zap.String("action", e.Action),
		zap.String("status", e.Status),
		zap.String("auditComment", e.AuditComment),
		zap.String("externalChangeLink", e.ExternalChangeLink),
	)
	for _, f := range []struct{ name, value string }{
		{"endpointType", e.EndpointType},
		{"businessUnit", e.BusinessUnit},
		{"origin", e.Origin},
		{"requestId", e.RequestID},
	} {
		if f.value != "" {
			fields = append(fields, zap.String(f.name, f.value))
		}
	}
	if e.Changes != nil {
		fields = append(fields, zap.ByteString("changes", e.Changes))
	}
	logger.Info("audit event", fields...)
}
