package apicall

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// SessionAPI is the API of session login and logout, which is neither limited
// nor listed.
const SessionAPI = "api/2.0/fo/session/index.php"

// Config says whose calls are limited, by what, and who is told. ModuleCode and
// Sink are needed; Caller, too, by Handler.
type Config struct {
	// ModuleCode is the code of the module that is called, such as "PM": 1 to 32
	// upper-case letters and digits, a letter first. Required.
	ModuleCode string

	// Sink takes the states of the calls. Required. What it refuses is logged
	// and counted, and fails no call. It is closed by its owner, after Close.
	Sink Sink

	// Caller tells who makes a request, from what the module's authentication
	// left in its context. False means that it is no call of a subscription: it
	// passes through untouched, and the module answers it, with 401 as a rule.
	// Required by Handler; Begin is told the caller.
	Caller func(*http.Request) (Caller, bool)

	// Limits knows the limits that were set for subscriptions. Nil, the default:
	// none are set, and each subscription has the limits of its tier.
	Limits Limits

	// Counters counts the calls. Nil, the default, means in the memory of this
	// process: right where one replica serves the module. Its owner
	// closes it, after Close.
	Counters Counters

	// FailClosed says what happens to calls when Counters do not answer. False,
	// the default: they run, their records say that no limit was enforced, and
	// Stats.Unenforced counts them. True: they are answered 503 with
	// Retry-After, and listed as Finished with that status.
	FailClosed bool

	// MaxWait is how long a call may wait for a place when as many run as may.
	// Zero, the default: not at all, it is Blocked (Concurrency) at once. A call
	// that waits is Queued first. Those of one subscription and API get places
	// in the order in which they came to this replica; at most 1,000 of them
	// wait in it, and those beyond are blocked at once.
	MaxWait time.Duration

	// Exempt names APIs that are neither limited nor listed, and whose answers
	// have none of the headers. Nil, the default, means SessionAPI alone; an
	// empty slice means none.
	Exempt []string

	// Conflict answers blocked calls with 409 and a code, 1960 (concurrency) or
	// 1965 (rate), for clients that look for these. False, the default: 429.
	Conflict bool

	// ClientAddress tells where a request came from: an IP address, anything
	// else is not recorded. Nil, the default, means the connection's own peer;
	// behind a proxy, set it.
	ClientAddress func(*http.Request) string

	// RequestID tells the id of a request. Nil, the default, means its
	// X-Request-Id.
	RequestID func(*http.Request) string

	// Logger is told of counters that are away, of records that were refused and
	// of tiers that are not known; each message at most once in ten seconds. Nil
	// logs nothing.
	Logger *zap.Logger
}

// withDefaults checks cfg and fills in what is not set. Its logger samples.
func (cfg Config) withDefaults() (Config, error) {
	if !isModuleCode(cfg.ModuleCode) {
		return cfg, fmt.Errorf("new api calls: Config.ModuleCode must be 1 to %d upper-case letters and digits, a letter first", maxModuleCode)
	}
	if cfg.Sink == nil {
		return cfg, errors.New("new api calls: no sink: set Config.Sink, to an emit.Emitter as a rule")
	}
	if cfg.MaxWait < 0 {
		return cfg, errors.New("new api calls: Config.MaxWait is negative: 0 means that no call waits")
	}
	if cfg.Exempt == nil {
		cfg.Exempt = []string{SessionAPI}
	}
	for _, api := range cfg.Exempt {
		if err := checkAPI(api); err != nil {
			return cfg, fmt.Errorf("new api calls: Config.Exempt: %w", err)
		}
	}
	if cfg.Counters == nil {
		cfg.Counters = NewMemory()
	}
	if cfg.ClientAddress == nil {
		cfg.ClientAddress = peer
	}
	if cfg.RequestID == nil {
		cfg.RequestID = func(r *http.Request) string { return sent(r, "X-Request-Id") }
	}
	cfg.Logger = sampled(cfg.Logger)
	return cfg, nil
}
