package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/workload"
)

// The demo: three subscriptions with people in every role, 90 days of past
// events, a week of API calls, and new ones all the time. It exists in dev
// alone.
const (
	demoCustomer  = "5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a01" // Acme, Premium
	liteCustomer  = "5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a02" // Globex, Express Lite
	nextCustomer  = "5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a03" // Initech, Standard: to try limits with
	demoPast      = 20_000                                 // events of the past
	demoPastDays  = 90
	maxDemoRate   = 1000
	demoDrainTime = 5 * time.Second
)

// demoIdentity is somebody of the demo.
type demoIdentity struct {
	identity.Identity
	company string
}

func person(company, customer string, n int, name string, role identity.Role, tier identity.Tier, units ...string) demoIdentity {
	return demoIdentity{company: company, Identity: identity.Identity{
		UserUUID: fmt.Sprintf("%s%s%03d", customer[:32], customer[35:], n), CustomerUUID: customer, Name: name, Role: role, Tier: tier, BusinessUnits: units,
	}}
}

var demoIdentities = []demoIdentity{
	person("Acme", demoCustomer, 1, "Maria Lopez", identity.RoleManager, identity.TierPremium),
	person("Acme", demoCustomer, 2, "Uma Patel", identity.RoleUnitManager, identity.TierPremium, "Europe"),
	person("Acme", demoCustomer, 3, "Ulrich Brown", identity.RoleUnitManager, identity.TierPremium, "Americas"),
	person("Acme", demoCustomer, 4, "Ada Jensen", identity.RoleAuditor, identity.TierPremium),
	person("Acme", demoCustomer, 5, "Sam Kim", identity.RoleScanner, identity.TierPremium, "Europe"),
	person("Acme", demoCustomer, 6, "Rita Silva", identity.RoleReader, identity.TierPremium, "Americas"),
	person("Acme", demoCustomer, 7, "Ken Sato", identity.RoleKnowledgeBaseOnly, identity.TierPremium, "Europe"),
	person("Acme", demoCustomer, 8, "Remy Dubois", identity.RoleRemediationUser, identity.TierPremium, "Americas"),
	person("Acme", demoCustomer, 9, "Cora Ali", identity.RoleContact, identity.TierPremium, "Europe"),
	person("Globex", liteCustomer, 1, "Max Novak", identity.RoleManager, identity.TierExpressLite),
	person("Globex", liteCustomer, 2, "Sofia Rossi", identity.RoleScanner, identity.TierExpressLite),
	person("Initech", nextCustomer, 1, "Nina Weber", identity.RoleManager, identity.TierStandard),
	person("Initech", nextCustomer, 2, "Omar Haddad", identity.RoleReader, identity.TierStandard),
}

// limitedDemo is the Manager of the subscription to try limits with.
func limitedDemo() demoIdentity {
	return demoIdentities[slices.IndexFunc(demoIdentities, func(d demoIdentity) bool { return d.CustomerUUID == nextCustomer })]
}

// about describes the person in a line.
func (d demoIdentity) about() string {
	s := fmt.Sprintf("%s, %s of %s", d.Name, d.Role, d.company)
	if len(d.BusinessUnits) > 0 {
		s += " (" + strings.Join(d.BusinessUnits, ", ") + ")"
	}
	return s
}

// command prints the person's token.
func (d demoIdentity) command(token string) string {
	parts := []string{token}
	add := func(flag, value, usual string) {
		if value != usual {
			parts = append(parts, fmt.Sprintf("%s '%s'", flag, value))
		}
	}
	first := demoIdentities[0]
	add("--customer", d.CustomerUUID, first.CustomerUUID)
	add("--user", d.UserUUID, first.UserUUID)
	add("--name", d.Name, first.Name)
	add("--role", string(d.Role), string(first.Role))
	for _, u := range d.BusinessUnits {
		add("--business-unit", u, "")
	}
	add("--tier", string(d.Tier), string(first.Tier))
	return strings.Join(parts, " ")
}

// demoVars are the defaults of auditrail token: the demo Manager.
func demoVars() kong.Vars {
	first := demoIdentities[0]
	return kong.Vars{"demo_customer": first.CustomerUUID, "demo_user": first.UserUUID, "demo_name": first.Name}
}

// demoWorkload makes events of the demo's people.
func demoWorkload(seed uint64, count int64, end time.Time) (*workload.Generator, error) {
	weights := map[string]float64{demoCustomer: 5, liteCustomer: 1, nextCustomer: 1}
	byCustomer := map[string][]workload.User{}
	var order []string
	for _, d := range demoIdentities {
		if byCustomer[d.CustomerUUID] == nil {
			order = append(order, d.CustomerUUID)
		}
		unit := ""
		if len(d.BusinessUnits) > 0 {
			unit = d.BusinessUnits[0]
		}
		byCustomer[d.CustomerUUID] = append(byCustomer[d.CustomerUUID], workload.User{UUID: d.UserUUID, Name: d.Name, Role: string(d.Role), BusinessUnit: unit})
	}
	cfg := workload.Default()
	cfg.Seed, cfg.Events, cfg.Days, cfg.End, cfg.Full = seed, count, demoPastDays, end.UnixMilli(), true
	for _, c := range order {
		cfg.Customers = append(cfg.Customers, workload.Customer{UUID: c, Weight: weights[c], Users: byCustomer[c]})
	}
	return workload.New(cfg)
}

// runDemo emits the past once a data folder, then new events until ctx ends.
func runDemo(ctx context.Context, cfg kafka.Config, dataDir string, perSecond float64, log *zap.Logger) (err error) {
	e, err := emit.New(emit.Config{Brokers: cfg.Addr, ClientID: "auditrail-demo", Logger: log})
	if err != nil {
		return err
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoDrainTime)
		defer cancel()
		err = errors.Join(err, e.Close(drain))
	}()
	if err := demoHistory(ctx, e, dataDir, log); err != nil {
		return err
	}
	g, err := demoWorkload(uint64(time.Now().UnixNano()), demoPast, time.Now())
	if err != nil {
		return err
	}
	calls := newDemoCalls(uint64(time.Now().UnixNano()))
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	var ev audit.Event
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.Next(&ev)
			ev.ID, ev.CreatedDate = "", time.Now().UnixMilli()
			if err := e.Emit(ev); err != nil && !errors.Is(err, emit.ErrBufferFull) { //nolint:contextcheck // an event outlives its caller's context
				return fmt.Errorf("demo event: %w", err)
			}
			for _, c := range calls.some(time.Now()) {
				if err := e.EmitCall(c); err != nil && !errors.Is(err, emit.ErrBufferFull) { //nolint:contextcheck // as above
					return fmt.Errorf("demo call: %w", err)
				}
			}
		}
	}
}

// demoHistory emits the past unless this data folder has it. The marker is
// written first: if we die in between, the demo's past stays short, and no
// event of it is emitted twice.
func demoHistory(ctx context.Context, e *emit.Emitter, dataDir string, log *zap.Logger) error {
	marker := filepath.Join(dataDir, "dev", "demo-history")
	f, err := os.OpenFile(marker, os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the path is the operator's own data folder
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	g, err := demoWorkload(1, demoPast, time.Now())
	if err != nil {
		return err
	}
	var ev audit.Event
	for range demoPast {
		g.Next(&ev)
		ev.ID = uuid.NewString()
		if err := emitPatiently(ctx, e.Emit, ev); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("demo event: %w", err)
		}
	}
	calls := newDemoCalls(1)
	for at := time.Now().Add(-demoCallsPast); at.Before(time.Now()); at = at.Add(demoCallsEvery) {
		for _, c := range calls.one(at) {
			if err := emitPatiently(ctx, e.EmitCall, c); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("demo call: %w", err)
			}
		}
	}
	log.Info("demo history emitted", zap.Int("events", demoPast), zap.Int("days", demoPastDays))
	return nil
}
