// Package kafka makes Kafka clients. Every service reaches the brokers through
// here, so that addresses and client habits are said one way.
package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kzap"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config says where Kafka is. Its tags are flags; see auditrail --help.
type Config struct {
	Addr []string `name:"kafka-addr" help:"Kafka broker address, host:port (repeatable or comma separated)." default:"127.0.0.1:9092" sep:","`
}

// pingTimeout bounds the first contact: long enough for a broker that is just
// starting, short enough that a wrong address is noticed.
const pingTimeout = 15 * time.Second

// sampleEvery is how often the client's own words on one subject are logged: a
// broker that is away would fill the log otherwise.
const sampleEvery = 10 * time.Second

func sampled(c zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(c, sampleEvery, 1, 0)
}

// Options are the options common to every client.
func (c Config) Options(log *zap.Logger) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(c.Addr...),
		kgo.ClientID("auditrail"),
		// A broker that hangs up before its first answer is restarting, not
		// speaking another protocol: what is buffered must not be given up.
		kgo.AlwaysRetryEOF(),
		kgo.WithLogger(kzap.New(log.Named("kafka").WithOptions(zap.WrapCore(sampled)), kzap.Level(kgo.LogLevelWarn))),
	}
}

// Open makes a client and waits until a broker answers. The caller closes it.
func Open(ctx context.Context, c Config, log *zap.Logger, opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append(c.Options(log), opts...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka %v: %w", c.Addr, err)
	}
	ping, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := cl.Ping(ping); err != nil {
		cl.Close()
		return nil, fmt.Errorf("kafka %v does not answer (is --kafka-addr right?): %w", c.Addr, err)
	}
	return cl, nil
}
