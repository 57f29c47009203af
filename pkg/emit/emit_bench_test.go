package emit_test

import (
	"io"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

// workload is an event of the size that modules send.
func workload() audit.Event {
	return audit.Event{
		AuditEnabledAppID:  5,
		ApplicationName:    "edr",
		ModuleCode:         "UM",
		ModuleName:         "User Management",
		UserName:           "Maria Rossi 31",
		UserRole:           "Administrator",
		UserUUID:           "8b7737c9-6133-492a-a7d7-33fd078ce595",
		CustomerUUID:       "1263b8de-7a2b-4442-a62a-7e3ea8cd6b49",
		Client:             "REST-API",
		SourceIP:           "167.35.71.104",
		CreatedDate:        time.Now().UnixMilli(),
		TargetType:         "Report",
		TargetName:         "Report-4013",
		Action:             "Assign",
		Status:             "Success",
		AuditComment:       "Patch KB5051498 for Windows 11 was marked Assign on 398 assets, triggered by the scheduled synchronization",
		ExternalChangeLink: "https://portal.example.com/edr/changes/56065e75-47ad?tenant=1263b8de",
	}
}

// callWorkload is the last record of a call as the middleware sends it.
func callWorkload() audit.APICall {
	now := time.Now().UnixMilli()
	return audit.APICall{
		CallID:        "019f1d8c-e27b-774f-9121-4e19385bf7e0",
		CustomerUUID:  "1263b8de-7a2b-4442-a62a-7e3ea8cd6b49",
		ModuleCode:    "PM",
		API:           "api/v1/jobs/{id}",
		Method:        "GET",
		State:         audit.StateFinished,
		SubmittedDate: now - 300,
		UpdatedDate:   now,
		DurationMs:    300,
		HTTPStatus:    200,
		UserName:      "Maria Rossi 31",
		UserRole:      "Administrator",
		UserUUID:      "8b7737c9-6133-492a-a7d7-33fd078ce595",
		BusinessUnit:  "Unassigned",
		Client:        "curl/8.14.1",
		SourceIP:      "167.35.71.104",
		RequestID:     "req-17",
	}
}

// BenchmarkEmit is the caller's time. The sending is not measured: it happens
// between bursts that are shorter than linger and smaller than a batch, so that
// the broker in this process does not take the caller's core.
func BenchmarkEmit(b *testing.B) {
	e := workload()
	benchmark(b, func(em sink) error { return em.Emit(e) })
}

// BenchmarkEmitCall is the same for API calls.
func BenchmarkEmitCall(b *testing.B) {
	c := callWorkload()
	benchmark(b, func(em sink) error { return em.EmitCall(c) })
}

func benchmark(b *testing.B, send func(sink) error) {
	cluster := newCluster(b)
	em, err := emit.New(emit.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := em.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			b.StopTimer()
			if err := em.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if err := send(em); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEmitYardstickZap logs the same fields as JSON, to nowhere.
func BenchmarkEmitYardstickZap(b *testing.B) {
	logger := zap.New(zapcore.NewCore(
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	e := workload()
	b.ReportAllocs()
	for b.Loop() {
		logger.Info("audit event",
			zap.String("id", "56065e75-47ad-44b4-9121-4e19385bf7e0"),
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
	}
}
