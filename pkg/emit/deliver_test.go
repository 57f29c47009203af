package emit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

func TestDeliverWaitsForTheBrokers(t *testing.T) {
	cluster := newCluster(t)
	em := newEmitter(t, emit.Config{Brokers: cluster.ListenAddrs()})
	e := workload()
	e.AuditComment = "delivered"
	if err := em.Deliver(within(t, patience), e); err != nil {
		t.Fatal(err)
	}
	storedOnce(t, cluster, []string{"delivered"})

	var problems audit.Problems
	if err := em.Deliver(t.Context(), audit.Event{}); !errors.As(err, &problems) {
		t.Errorf("an invalid event: %v", err)
	}
	lost := workload()
	lost.ModuleCode = "NEW"
	if err := em.Deliver(within(t, patience), lost); !errors.Is(err, kerr.UnknownTopicOrPartition) || !strings.Contains(err.Error(), "register module NEW") {
		t.Errorf("without its topic: %v", err)
	}
	// Its parcel is used again, by an event that nobody waits for.
	mustEmit(t, em, workload())
	mustFlush(t, em)
	if got, want := em.Stats(), (emit.Stats{Emitted: 3, Delivered: 2, Failed: 1, Invalid: 1}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

func TestDeliverGivesUpWaiting(t *testing.T) {
	addr, _ := freeAddress(t)
	em := newEmitter(t, emit.Config{Brokers: []string{addr}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := em.Deliver(ctx, workload()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := em.Stats().BufferedEvents; got != 1 {
		t.Errorf("%d events wait, want the one that may still arrive", got)
	}
}
