package emit

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logEvery is how often one message may be logged. An outage makes thousands.
const logEvery = 10 * time.Second

// sampled is logger with each message at most once in logEvery; never nil.
func sampled(logger *zap.Logger) *zap.Logger {
	if logger == nil {
		return zap.NewNop()
	}
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, logEvery, 1, 0)
	}))
}

// kafkaLogger passes the client's warnings on.
type kafkaLogger struct{ logger *zap.Logger }

func (kafkaLogger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l kafkaLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	fields := make([]zap.Field, 0, len(keyvals)/2)
	for i := 0; i+1 < len(keyvals); i += 2 {
		if name, ok := keyvals[i].(string); ok {
			fields = append(fields, zap.Any(name, keyvals[i+1]))
		}
	}
	if level == kgo.LogLevelError {
		l.logger.Error(msg, fields...)
		return
	}
	l.logger.Warn(msg, fields...)
}
