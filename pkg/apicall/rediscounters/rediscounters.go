// Package rediscounters counts calls against limits in Redis, for modules that
// run as several replicas. All replicas count in one Redis, version 6.2 or
// newer, by its clock: theirs may differ.
//
// Redis need not keep anything on disk. One that lost its memory counts from
// nothing, and so does, for what was not copied yet, a replica of Redis that
// became the master.
package rediscounters

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/sony/gobreaker/v2"

	"github.com/auditrail/auditrail/pkg/apicall"
)

const (
	// dialTimeout bounds a new connection, and ioTimeout the sending of a command
	// and the wait for its answer: a Redis in the same data centre takes a
	// millisecond, and a busy one some more.
	dialTimeout = 500 * time.Millisecond
	ioTimeout   = 500 * time.Millisecond
	// askTimeout bounds all that a call waits for Redis.
	askTimeout = time.Second
	// After failures in a row Redis is not asked for pause, and then by one call
	// first: calls do not wait for a Redis that is away.
	failures = 3
	pause    = time.Second
)

// Config says where Redis is.
type Config struct {
	// URL is redis://[user:password@]host:port[/database], or rediss:// for TLS
	// with the system's certificates. Required. Of a cluster it names further
	// nodes: redis://host1:6379?addr=host2:6379&addr=host3:6379.
	URL string
	// LeaseTimeout is how long a place is kept without Renew. Zero means
	// apicall.LeaseTimeout; the same for all replicas.
	LeaseTimeout time.Duration
}

// Counters is apicall.Counters in Redis.
type Counters struct {
	client  redis.UniversalClient
	lease   time.Duration
	breaker *gobreaker.CircuitBreaker[[]int64]
}

var _ apicall.Counters = (*Counters)(nil)

// New makes counters. It does not wait for Redis, which may be away: calls have
// errors then. The error never holds the URL, which may have a password.
func New(cfg Config) (*Counters, error) {
	client, err := open(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.LeaseTimeout < 0 {
		return nil, errors.New("redis counters: Config.LeaseTimeout is negative")
	}
	if cfg.LeaseTimeout == 0 {
		cfg.LeaseTimeout = apicall.LeaseTimeout
	}
	return &Counters{client: client, lease: cfg.LeaseTimeout, breaker: gobreaker.NewCircuitBreaker[[]int64](gobreaker.Settings{
		Timeout:     pause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errGone) },
	})}, nil
}

// errURL is all that is said of a wrong URL: what a parser says of it may be a
// piece of the password.
var errURL = errors.New("redis counters: the URL must be redis://user:password@host:port/database, or rediss:// for TLS, with %-escapes in user and password, and no parameter but addr")

func open(address string) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, errURL
	}
	query := u.Query()
	cluster := query.Has("addr")
	if query.Del("addr"); len(query) > 0 {
		return nil, errURL
	}
	// One that notifies of its maintenance is not told apart from others.
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if cluster {
		o, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, errURL
		}
		o.DialTimeout, o.DialerRetries, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = dialTimeout, 1, ioTimeout, ioTimeout, ioTimeout
		o.ContextTimeoutEnabled, o.DisableIdentity, o.MaintNotificationsConfig = true, true, quiet
		o.MaxRetries = -1
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errURL
	}
	o.DialTimeout, o.DialerRetries, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = dialTimeout, 1, ioTimeout, ioTimeout, ioTimeout
	o.ContextTimeoutEnabled, o.DisableIdentity, o.MaintNotificationsConfig = true, true, quiet
	// What was sent and not answered may have counted: it is not sent again.
	o.MaxRetries = -1
	return redis.NewClient(o), nil
}

// Take is one script, and one round trip. To take a place again that is held is
// no second call: whoever got an error may ask again.
func (c *Counters) Take(ctx context.Context, ask apicall.Ask) (apicall.Decision, error) {
	most, window := rate(ask.Limit)
	placed := 1
	if ask.Unplaced {
		placed = 0
	}
	v, err := c.run(ctx, "take", takeScript, names(ask.Key), ask.CallID, placed, max(0, ask.Limit.Concurrency), most, window, c.lease.Microseconds())
	if err != nil {
		return apicall.Decision{}, err
	}
	return apicall.Decision{Blocked: apicall.Blocked(v[0]), Usage: usage(v[1:])}, nil
}

// Usage reads, and changes nothing.
func (c *Counters) Usage(ctx context.Context, key apicall.Key, limit apicall.Limit) (apicall.Usage, error) {
	most, window := rate(limit)
	v, err := c.run(ctx, "usage", usageScript, names(key), most, window)
	if err != nil {
		return apicall.Usage{}, err
	}
	return usage(v), nil
}

// Release is one command.
func (c *Counters) Release(ctx context.Context, key apicall.Key, callID string) error {
	_, err := c.ask(ctx, "release", func(ctx context.Context) ([]int64, error) {
		return nil, c.client.ZRem(ctx, names(key)[0], callID).Err()
	})
	return err
}

// Renew is one round trip (one for each node of a cluster).
func (c *Counters) Renew(ctx context.Context, places []apicall.Place) error {
	if len(places) == 0 {
		return nil
	}
	calls := map[apicall.Key][]any{}
	for _, p := range places {
		if calls[p.Key] == nil {
			calls[p.Key] = []any{c.lease.Microseconds()}
		}
		calls[p.Key] = append(calls[p.Key], p.CallID)
	}
	_, err := c.ask(ctx, "renew", func(ctx context.Context) ([]int64, error) {
		pipe := c.client.Pipeline()
		for key, args := range calls {
			// In a pipeline nobody could answer that a script is not known.
			pipe.Eval(ctx, renewSource, names(key)[:1], args...)
		}
		_, err := pipe.Exec(ctx)
		return nil, err
	})
	return err
}

// Close gives up the connections.
func (c *Counters) Close() error { return c.client.Close() }

// run runs a script, by its digest while Redis knows it.
func (c *Counters) run(ctx context.Context, what string, script *redis.Script, keys []string, args ...any) ([]int64, error) {
	return c.ask(ctx, what, func(ctx context.Context) ([]int64, error) {
		return script.Run(ctx, c.client, keys, args...).Int64Slice()
	})
}

// errGone marks what failed because the caller waits no more: that says nothing
// of Redis.
var errGone = errors.New("the caller waits no more")

// ask asks Redis, in time.
func (c *Counters) ask(ctx context.Context, what string, f func(context.Context) ([]int64, error)) ([]int64, error) {
	v, err := c.breaker.Execute(func() ([]int64, error) {
		bounded, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		v, err := f(bounded)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", errGone, err)
		}
		return v, err
	})
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return nil, fmt.Errorf("redis counters: %s: Redis does not answer, and is asked again within %s", what, pause)
	case err != nil:
		return nil, fmt.Errorf("redis counters: %s: %w", what, err)
	}
	return v, nil
}

// rate is the limit of calls in a window, in µs; zero when there is none.
func rate(l apicall.Limit) (most int, window int64) {
	if l.Calls <= 0 || l.Window <= 0 {
		return 0, 0
	}
	return l.Calls, max(1, l.Window.Microseconds())
}

func usage(v []int64) apicall.Usage {
	return apicall.Usage{Running: int(v[0]), Calls: int(v[1]), Wait: time.Duration(v[2]) * time.Microsecond}
}

// names are the two keys of what is counted together. Both are on one node of a
// cluster, by the part in braces: a digest, so that no name can be made to look
// like another.
func names(k apicall.Key) []string {
	h := sha256.New()
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(k.CustomerUUID)))
	h.Write(size[:])
	h.Write([]byte(k.CustomerUUID))
	h.Write([]byte(k.API))
	tag := "auditrail:{" + hex.EncodeToString(h.Sum(nil)[:16]) + "}:"
	return []string{tag + "places", tag + "calls"}
}
