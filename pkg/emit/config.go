package emit

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Config says where events go and how much may wait. Only Brokers is needed.
// What it says of events holds for API calls too.
type Config struct {
	// Brokers are the addresses (host:port) of some Kafka brokers; the others
	// are found through them. Required. They need not be up when New is called.
	Brokers []string

	// ClientID names the module in the broker's logs and quotas. Default
	// "auditrail-emit".
	ClientID string

	// MaxBufferedBytes bounds the memory of events that are not delivered yet,
	// in bytes. Zero means 64 MiB. A typical event takes 1.5 KiB, so the
	// default holds some 45,000: at 100 events a second, an outage of seven
	// minutes. When it is reached, Emit returns ErrBufferFull.
	MaxBufferedBytes int

	// MaxBufferedEvents bounds how many events wait, whatever their size. Zero
	// means 100,000. When it is reached, Emit returns ErrBufferFull.
	MaxBufferedEvents int

	// DeliveryTimeout is how long an event may wait for its delivery before it
	// is given up and handed to OnError. Zero, the default, means for ever:
	// the buffer's bounds are the only limit. An event that was sent and not
	// answered is not given up, since it may be stored. Whatever the value,
	// events are given up when the brokers refuse them for good: they deny the
	// topic for some forty seconds, or the client's credentials or permission.
	DeliveryTimeout time.Duration

	// MaxAge is how far back an event's createdDate, or an API call's
	// submittedDate, may lie: the retention of the installation. Zero means
	// audit.DefaultMaxAge, 400 days.
	MaxAge time.Duration

	// Logger is told of events that could not be delivered and of trouble with
	// the brokers; each message at most once in ten seconds. Nil logs nothing.
	Logger *zap.Logger

	// OnError is told of each event that Emit accepted and that was not
	// delivered after all, and why. It may be stored all the same: Resend it, do
	// not Emit it. The event is the callee's to keep. OnError is called from one
	// goroutine at a time, which delivers all results: it must not block, but
	// may call Resend. Nil means that such events only count in Stats.Failed.
	OnError func(e audit.Event, err error)

	// OnCallError is OnError for API calls, signs of life among them: ResendCall
	// those that are none. Nil means that they only count in Stats.Failed.
	OnCallError func(c audit.APICall, err error)

	// KafkaOptions are further options of the Kafka client, for TLS and SASL.
	// They may change linger and compression, not what delivery rests on: acks
	// of all replicas, idempotence, the buffer's bounds.
	KafkaOptions []kgo.Opt
}

// Defaults of Config.
const (
	DefaultClientID          = "auditrail-emit"
	DefaultMaxBufferedBytes  = 64 << 20
	DefaultMaxBufferedEvents = 100_000
)

const (
	// linger lets a batch gather: a tenth of what a reader notices, and
	// enough for a busy module to send hundreds of events a request.
	linger = 10 * time.Millisecond

	// unknownTopicRetries is how often the brokers may deny a topic before its
	// events are given up. A broker that has just started may not know a topic
	// yet, so not at once: asked every five seconds, this is some forty.
	unknownTopicRetries = 8
)

// withDefaults checks cfg and fills in what is not set. Its logger samples.
func (cfg Config) withDefaults() (Config, error) {
	if len(cfg.Brokers) == 0 {
		return cfg, errors.New("new emitter: no brokers: set Config.Brokers")
	}
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"MaxBufferedBytes", int64(cfg.MaxBufferedBytes)},
		{"MaxBufferedEvents", int64(cfg.MaxBufferedEvents)},
		{"DeliveryTimeout", int64(cfg.DeliveryTimeout)},
		{"MaxAge", int64(cfg.MaxAge)},
	} {
		if field.value < 0 {
			return cfg, fmt.Errorf("new emitter: Config.%s is negative", field.name)
		}
	}
	if cfg.ClientID == "" {
		cfg.ClientID = DefaultClientID
	}
	if cfg.MaxBufferedBytes == 0 {
		cfg.MaxBufferedBytes = DefaultMaxBufferedBytes
	}
	if cfg.MaxBufferedEvents == 0 {
		cfg.MaxBufferedEvents = DefaultMaxBufferedEvents
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = audit.DefaultMaxAge
	}
	cfg.Logger = sampled(cfg.Logger)
	return cfg, nil
}

// client opens the Kafka client. Nothing is dialled before the first event.
func (cfg Config) client() (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.ClientID(cfg.ClientID),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(kafkaLogger{cfg.Logger}),
	}
	opts = append(opts, cfg.KafkaOptions...)
	opts = append(opts,
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.RecordDeliveryTimeout(cfg.DeliveryTimeout),
		kgo.UnknownTopicRetries(unknownTopicRetries),
		// A broker that hangs up on a new connection may be restarting behind
		// a proxy; without this the client gives up everything that waits.
		kgo.AlwaysRetryEOF(),
		// The emitter's own bounds hold, so that the client's never do: a
		// record that the client refuses may block the caller.
		kgo.MaxBufferedRecords(math.MaxInt),
		kgo.MaxBufferedBytes(0),
	)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("new emitter: %w", err)
	}
	for _, opt := range []struct {
		name  string
		isSet bool
	}{
		{"DisableIdempotentWrite", client.OptValue(kgo.DisableIdempotentWrite) == true},
		{"AllowIdempotentProduceCancellation", client.OptValue(kgo.AllowIdempotentProduceCancellation) == true},
		{"ManualFlushing", client.OptValue(kgo.ManualFlushing) == true},
		{"TransactionalID", client.OptValue(kgo.TransactionalID) != ""},
	} {
		if opt.isSet {
			client.Close()
			return nil, fmt.Errorf("new emitter: Config.KafkaOptions may not have %s: delivery rests on it", opt.name)
		}
	}
	return client, nil
}
