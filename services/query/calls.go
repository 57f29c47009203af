package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// callsDrain is how long the states of the last calls have to reach Kafka. Calls
// whose Finished does not become Expired.
const callsDrain = 3 * time.Second

// calls puts the API under its subscriptions' limits and tells of every call.
type calls struct {
	*apicall.Calls
	counters apicall.Counters
	shared   bool // counters are those of other replicas and modules, too
	// emitter is not that of audit events: nobody waits for the state of a call,
	// so that it may wait for Kafka.
	emitter *emit.Emitter
	log     *zap.Logger
}

func (s *Service) openCalls(cfg Config, deps Deps) (*calls, error) {
	c := &calls{counters: apicall.NewMemory(), shared: cfg.RedisURL != "", log: deps.Log}
	var err error
	if c.shared {
		if c.counters, err = rediscounters.New(rediscounters.Config{URL: cfg.RedisURL}); err != nil {
			return nil, fmt.Errorf("--redis-url: %w", err)
		}
	}
	if c.emitter, err = emit.New(emit.Config{Brokers: cfg.Kafka.Addr, ClientID: "auditrail-query-calls", Logger: deps.Log}); err != nil {
		return nil, errors.Join(err, c.counters.Close())
	}
	var limits apicall.Limits = s.settings
	if deps.CallLimits != nil {
		limits = deps.CallLimits
	}
	c.Calls, err = apicall.New(apicall.Config{
		ModuleCode: topic.AuditModule, Sink: c.emitter, Caller: callerOf, Limits: limits, Counters: c.counters,
		FailClosed: cfg.LimitsFailClosed, MaxWait: cfg.APICallWait, Conflict: cfg.LimitsConflict,
		ClientAddress: cfg.clientAddress,
		RequestID:     func(r *http.Request) string { return requestIDOf(r.Context()) },
		Logger:        deps.Log,
	})
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	c.measure(deps.Ops.Registry)
	return c, nil
}

// callerOf is who calls, as apicall has it.
func callerOf(r *http.Request) (apicall.Caller, bool) {
	id, ok := identity.FromContext(r.Context())
	c := apicall.Caller{
		CustomerUUID: id.CustomerUUID, UserUUID: id.UserUUID, UserName: id.Name, UserRole: string(id.Role), Tier: apicall.Tier(id.Tier),
	}
	if len(id.BusinessUnits) > 0 {
		c.BusinessUnit = id.BusinessUnits[0]
	}
	return c, ok
}

// measure makes metrics of what is counted.
func (c *calls) measure(r prometheus.Registerer) {
	counter := func(name, help string, labels prometheus.Labels, of func(apicall.Stats) int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "auditrail_query_api_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(of(c.Stats())) }))
	}
	gauge := func(name, help string, of func(apicall.Stats) int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "auditrail_query_api_" + name, Help: help},
			func() float64 { return float64(of(c.Stats())) }))
	}
	for end, of := range map[string]func(apicall.Stats) int64{
		"finished":            func(s apicall.Stats) int64 { return s.Finished },
		"blocked-concurrency": func(s apicall.Stats) int64 { return s.BlockedConcurrency },
		"blocked-rate":        func(s apicall.Stats) int64 { return s.BlockedRate },
		"refused":             func(s apicall.Stats) int64 { return s.Refused },
		"gave-up":             func(s apicall.Stats) int64 { return s.GaveUp },
	} {
		counter("calls_total", "API calls by how they ended.", prometheus.Labels{"end": end}, of)
	}
	counter("calls_unenforced_total", "API calls that ran without a limit, because nobody could count them.", nil, func(s apicall.Stats) int64 { return s.Unenforced })
	counter("counters_errors_total", "Questions that the counters of API calls did not answer.", nil, func(s apicall.Stats) int64 { return s.CountersErrors })
	counter("call_records_failed_total", "States of API calls that could not be told.", nil, func(s apicall.Stats) int64 { return s.EmitFailures })
	gauge("calls_running", "API calls that run.", func(s apicall.Stats) int64 { return s.Running })
	gauge("calls_waiting", "API calls that wait for a place.", func(s apicall.Stats) int64 { return s.Waiting })
}

// close is for when no call runs any more.
func (c *calls) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), callsDrain)
	defer cancel()
	var err error
	if c.Calls != nil {
		err = c.Close(ctx)
	}
	undelivered := c.emitter.Close(ctx)
	if _, ok := errors.AsType[*emit.UndeliveredError](undelivered); ok {
		c.log.Warn("states of API calls are lost: Kafka did not take them in time", zap.Error(undelivered))
		undelivered = nil
	}
	return errors.Join(err, undelivered, c.counters.Close())
}
