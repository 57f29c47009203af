package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// auditTimeout is how long a request waits until Kafka has its audit event.
	auditTimeout = 5 * time.Second
	// auditDrain is for events whose requests gave up waiting.
	auditDrain = time.Second
	// auditBuffer bounds the memory of such events.
	auditBuffer = 8 << 20
)

func openEmitter(cfg kafka.Config, log *zap.Logger) (*emit.Emitter, error) {
	return emit.New(emit.Config{
		Brokers: cfg.Addr, ClientID: "auditrail-query", MaxBufferedBytes: auditBuffer, Logger: log,
		// An event whose request was refused is not kept for longer.
		DeliveryTimeout: auditTimeout,
		// A request waits for its event alone.
		KafkaOptions: []kgo.Opt{kgo.ProducerLinger(0)},
	})
}

// audit records what the caller did as an audit event of the product itself,
// and returns nil once Kafka has it on all replicas. The caller fills in what is
// particular to it: action, target, status, comment, changes. The error is a
// problem 503, or errClientGone: what must be recorded is then not done. After
// an error the event may still arrive.
func (s *Service) audit(r *http.Request, id identity.Identity, e audit.Event) error {
	e.ModuleCode, e.ModuleName, e.ApplicationName = topic.AuditModule, topic.AuditModuleName, topic.AuditApplication
	e.CustomerUUID, e.UserUUID, e.UserName, e.UserRole = id.CustomerUUID, id.UserUUID, id.Name, string(id.Role)
	if len(id.BusinessUnits) == 1 {
		e.BusinessUnit = id.BusinessUnits[0]
	}
	e.EndpointType = audit.EndpointAPI
	e.SourceIP, e.Client = s.cfg.clientAddress(r), atMost(r.UserAgent(), audit.MaxNameBytes)
	e.RequestID = requestIDOf(r.Context())
	e.CreatedDate = time.Now().UnixMilli()
	ctx, cancel := context.WithTimeout(r.Context(), auditTimeout)
	defer cancel()
	err := s.emitter.Deliver(ctx, e)
	if err == nil {
		s.metrics.audits.WithLabelValues("ok").Inc()
		return nil
	}
	s.metrics.audits.WithLabelValues("failed").Inc()
	var problems audit.Problems
	switch {
	case r.Context().Err() != nil:
		return errClientGone
	case errors.As(err, &problems): // we made an event that breaks the contract
		return fmt.Errorf("audit event: %w", err)
	}
	return &problem.Error{
		Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: fmt.Errorf("audit event: %w", err),
		Detail: "This must be recorded as an audit event, and that cannot be written at the moment. Nothing was done; try again shortly.",
	}
}

// auditSearch records a search, where the subscription's setting auditSearches
// is on; else it does nothing. what says what was searched for, for people;
// rows is how many events the answer holds. Errors are those of audit and of
// chosen.of.
func (s *Service) auditSearch(r *http.Request, id identity.Identity, what string, rows int64) error {
	chose, err := s.settings.of(r.Context(), id.CustomerUUID)
	if err != nil || !chose.AuditSearches {
		return err
	}
	return s.audit(r, id, audit.Event{
		Action: "Search", TargetType: "Audit Log", Status: "Success",
		AuditComment: fmt.Sprintf("%s: %d events", atMost(what, audit.MaxStringBytes/2), rows),
	})
}

// atMost returns s in valid UTF-8, and no more than so many bytes of it.
func atMost(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// closeEmitter gives events that still wait a last chance. Their requests were
// told that nothing was recorded.
func closeEmitter(em *emit.Emitter) error {
	ctx, cancel := context.WithTimeout(context.Background(), auditDrain)
	defer cancel()
	err := em.Close(ctx)
	if _, ok := errors.AsType[*emit.UndeliveredError](err); ok {
		return nil
	}
	return err
}
