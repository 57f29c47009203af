// Package limittopic knows the limits that were set for subscriptions, as the
// topic apicall.LimitsTopic tells them. They count within a second of their
// being set.
package limittopic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/auditrail/auditrail/pkg/apicall"
)

const (
	// openTimeout bounds the first reading.
	openTimeout = 30 * time.Second
	// logEvery is how often what goes on failing is logged.
	logEvery = 10 * time.Second
)

// Config says where the topic is. Only Brokers is needed.
type Config struct {
	// Brokers are the addresses (host:port) of some Kafka brokers; the others
	// are found through them. Required.
	Brokers []string
	// ClientID names the module in the broker's logs and quotas. Default
	// "auditrail-limits".
	ClientID string
	// Logger is told of records that cannot be read and of trouble with the
	// brokers; each message at most once in ten seconds. Nil logs nothing.
	Logger *zap.Logger
	// KafkaOptions are further options of the Kafka client, for TLS and SASL.
	KafkaOptions []kgo.Opt
}

// Limits is an apicall.Limits that holds all that was set in memory. While Kafka
// is away, or the topic, what was read before goes on to count.
type Limits struct {
	log    *zap.Logger
	opts   []kgo.Opt
	admin  *kgo.Client
	stop   context.CancelFunc
	ended  chan struct{} // closed when the reader is over
	opened chan struct{} // closed when the topic was read to its end
	once   sync.Once     // closes opened

	// set is by customerUuid. What it points to is never changed.
	set atomic.Pointer[map[string]*apicall.Override]
}

var _ apicall.Limits = (*Limits)(nil)

// Open reads the topic to its end as of now, and follows it until Close. It
// returns an error that says what to do when the topic is missing, and when it
// cannot be read within 30 s or by the end of ctx.
func Open(ctx context.Context, cfg Config) (*Limits, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("limits: no brokers: set Config.Brokers")
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "auditrail-limits"
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	opts := append([]kgo.Opt{kgo.ClientID(cfg.ClientID), kgo.DisableClientMetrics()}, cfg.KafkaOptions...)
	opts = append(opts, kgo.SeedBrokers(cfg.Brokers...), kgo.AlwaysRetryEOF())
	admin, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := topicID(opening, admin); err != nil {
		admin.Close()
		return nil, fmt.Errorf("limits from Kafka at %v: %w", cfg.Brokers, err)
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Limits{
		log:  cfg.Logger.With(zap.String("topic", apicall.LimitsTopic)).WithOptions(zap.WrapCore(sampled)),
		opts: opts, admin: admin, stop: stop,
		ended: make(chan struct{}), opened: make(chan struct{}),
	}
	go l.follow(following)
	select {
	case <-l.opened:
		return l, nil
	case <-opening.Done():
		l.Close()
		return nil, fmt.Errorf("limits from Kafka at %v: topic %s could not be read to its end: %w", cfg.Brokers, apicall.LimitsTopic, opening.Err())
	}
}

func sampled(c zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(c, logEvery, 1, 0)
}

// Limit returns what was set for a subscription's calls to an API.
func (l *Limits) Limit(customerUUID, api string) (apicall.Limit, bool) {
	o := (*l.set.Load())[customerUUID]
	if o == nil {
		return apicall.Limit{}, false
	}
	return o.Limit(api)
}

// Close ends the following. What was read stays readable.
func (l *Limits) Close() {
	l.stop()
	<-l.ended
	l.admin.Close()
}

// publish makes set what readers see.
func (l *Limits) publish(set map[string]*apicall.Override) {
	l.set.Store(&set)
	l.once.Do(func() { close(l.opened) })
}
