package apicall

import (
	"time"

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
