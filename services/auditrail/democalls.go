package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/limits"
)

const (
	demoCallsPast  = 7 * 24 * time.Hour
	demoCallsEvery = 20 * time.Minute // of the past
)

// demoCalls makes API calls of other modules.
type demoCalls struct {
	rand   *rand.Rand
	people []demoIdentity
}

func newDemoCalls(seed uint64) *demoCalls {
	d := &demoCalls{rand: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // made-up data
	for _, p := range demoIdentities {
		if p.Tier != identity.TierExpressLite { // they have no list to see them in
			d.people = append(d.people, p)
		}
	}
	return d
}

var demoAPIs = []struct{ module, api, method string }{
	{"VM", "api/2.0/fo/asset/host", "GET"},
	{"VM", "api/2.0/fo/asset/host/vm/detection", "GET"},
	{"VM", "api/2.0/fo/scan", "POST"},
	{"PC", "api/2.0/fo/compliance/policy", "GET"},
	{"PM", "pm/v1/deploymentjobs", "POST"},
	{"PM", "pm/v1/deploymentjobs/{id}", "GET"},
	{"TAG", "qps/rest/2.0/search/am/tag", "POST"},
}

// demoEnds are how calls go, by their weight.
var demoEnds = []struct {
	weight int
	states []string
	status uint32
	reason string
}{
	{70, []string{audit.StateRunning, audit.StateFinished}, 200, ""},
	{6, []string{audit.StateRunning, audit.StateFinished}, 404, ""},
	{6, []string{audit.StateQueued, audit.StateRunning, audit.StateFinished}, 200, ""},
	{8, []string{audit.StateBlockedRate}, 429, "300 calls have begun in the past hour, as many as may"},
	{6, []string{audit.StateQueued, audit.StateBlockedConcurrency}, 429, "2 calls run, as many as may"},
	{4, []string{audit.StateRunning, audit.StateExpired}, 0, "nothing was heard of the call for 30 seconds"},
}

// some returns, now and then, the states of a call that has ended.
func (d *demoCalls) some(now time.Time) []audit.APICall {
	if d.rand.IntN(4) > 0 {
		return nil
	}
	return d.one(now.Add(-time.Minute))
}

// one returns the states of a call that came in at a time, which takes less than
// a minute.
func (d *demoCalls) one(at time.Time) []audit.APICall {
	who, what := d.people[d.rand.IntN(len(d.people))], demoAPIs[d.rand.IntN(len(demoAPIs))]
	n := d.rand.IntN(100)
	end := demoEnds[0]
	for _, e := range demoEnds {
		end = e
		if n -= e.weight; n < 0 {
			break
		}
	}
	c := audit.APICall{
		CallID: uuid.NewString(), CustomerUUID: who.CustomerUUID, ModuleCode: what.module, API: what.api, Method: what.method, SubmittedDate: at.UnixMilli(),
		UserName: who.Name, UserRole: string(who.Role), UserUUID: who.UserUUID, Client: "python-requests/2.32", SourceIP: "203.0.113.17", RequestID: uuid.NewString(),
	}
	if len(who.BusinessUnits) > 0 {
		c.BusinessUnit = who.BusinessUnits[0]
	}
	var states []audit.APICall
	for i, state := range end.states {
		c.State, c.UpdatedDate = state, at.UnixMilli()
		if i > 0 {
			took := time.Duration(50+d.rand.IntN(5000)) * time.Millisecond
			if state == audit.StateExpired {
				took = apicall.LeaseTimeout
			}
			at = at.Add(took)
			c.UpdatedDate = at.UnixMilli()
			if state == audit.StateFinished || state == audit.StateExpired {
				c.DurationMs = uint32(took.Milliseconds())
			}
		}
		if i == len(end.states)-1 {
			c.HTTPStatus, c.Reason = end.status, end.reason
		}
		states = append(states, c)
	}
	return states
}

// freeDemo sets no limits for the main demo subscription, unless it has some. It
// is dev's own set-up, and no audit event.
func freeDemo(ctx context.Context, cfg kafka.Config, log *zap.Logger) error {
	table, err := limits.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer table.Close()
	_, err = table.Change(ctx, demoCustomer, func(o *apicall.Override) error {
		if o.Default == nil && len(o.APIs) == 0 {
			o.Default = &apicall.Limit{}
		}
		return nil
	})
	return err
}
