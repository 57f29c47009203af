// Package workload makes deterministic audit events: the same Config gives the
// same events, on every machine and at any time. Measurements, the load
// generator and the demo data all draw from it, so that their figures compare.
//
// Shape of the data:
//   - Customers have Zipf sizes: by default customer n weighs 1/(n+1)^1.1.
//     Users are spread over the customers by weight, at least one each; inside
//     a customer they are Zipf too.
//   - 20 modules, each with its own order of 15 actions and its own target
//     types.
//   - createdDate covers Days up to End, nearly in time order (up to 30 s out),
//     with a rhythm by hour and weekday.
//   - auditComment is one of six sentences filled with names, hosts and
//     numbers. One in 20,000 ends with the rare word "quarantined-by-policy".
//
// An event is about 676 bytes as JSON. The full workload adds the fields that
// came later (endpointType, businessUnit, origin, changes, requestId) from a
// random stream of their own, so that all other fields stay the same.
package workload

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Config says what to make. Default has the values of the usual workload.
type Config struct {
	// Seed chooses the events: the same seed, the same events.
	Seed uint64
	// Customers are whom the events belong to. Empty means that Tenants and
	// Users say how many to make up.
	Customers []Customer
	// Tenants is how many customers to make up. Zero means 200.
	Tenants int
	// Users is how many users to make up over all customers, roughly: each
	// customer has at least one. Zero means 5,000.
	Users int
	// Skew is the Zipf exponent of the made-up customers' sizes. Zero means
	// that all have the same size.
	Skew float64
	// Days is the time covered. Zero means that all events happen at End.
	Days int
	// End is the end of the time covered, exclusive, in epoch milliseconds.
	End int64
	// Events is how many events the days are spread over. Zero means a
	// million. Later events fall into the last minute.
	Events int64
	// Full adds the fields of the full workload.
	Full bool
}

// Default is the workload that quoted figures refer to.
func Default() Config {
	return Config{Seed: 1, Tenants: 200, Users: 5000, Skew: 1.1, Days: 90, End: 1_790_000_000_000, Events: 1_000_000}
}

// Customer is one subscription.
type Customer struct {
	UUID string
	// Weight is the customer's share of the events, relative to the others.
	Weight float64
	Users  []User // the first is the busiest
}

// User is one user of a customer.
type User struct {
	UUID, Name, Role string
	// BusinessUnit shows in the full workload only. It may be empty.
	BusinessUnit string
}

// Streams of random numbers. They are part of what a seed means.
const (
	baseStream = 0x5eed
	fullStream = 0xf011
)

// Generator makes events, one after the other. Not safe for concurrent use.
type Generator struct {
	cfg       Config
	base      *rand.Rand
	full      *rand.Rand
	customers []customer
	share     []float64 // cumulative weights of customers
	week      rhythm
	made      int64
	text      []byte // texts of the event being made
	changes   []byte
}

// New makes a generator. It fails on a Config that makes no sense.
func New(cfg Config) (*Generator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Generator{
		cfg:  cfg,
		base: rand.New(rand.NewPCG(cfg.Seed, baseStream)), //nolint:gosec // repeatable, not secret
		full: rand.New(rand.NewPCG(cfg.Seed, fullStream)), //nolint:gosec // repeatable, not secret
		week: newRhythm(),
	}
	if len(cfg.Customers) > 0 {
		g.adopt(cfg.Customers)
	} else {
		g.makeUp(cfg)
	}
	return g, nil
}

func (cfg Config) withDefaults() (Config, error) {
	def := Default()
	if cfg.Tenants == 0 {
		cfg.Tenants = def.Tenants
	}
	if cfg.Users == 0 {
		cfg.Users = def.Users
	}
	if cfg.Events == 0 {
		cfg.Events = def.Events
	}
	if cfg.Tenants < 0 || cfg.Users < 0 || cfg.Days < 0 || cfg.Events < 0 || cfg.Skew < 0 {
		return cfg, errors.New("workload: tenants, users, days, events and skew must not be negative")
	}
	if cfg.End < int64(cfg.Days)*msPerDay {
		return cfg, fmt.Errorf("workload: %d days before %s is before 1970", cfg.Days, time.UnixMilli(cfg.End).UTC().Format(time.RFC3339))
	}
	total := 0.0
	for _, c := range cfg.Customers {
		if c.UUID == "" || len(c.Users) == 0 || c.Weight < 0 {
			return cfg, fmt.Errorf("workload: customer %q needs a uuid, a weight that is not negative and a user", c.UUID)
		}
		total += c.Weight
	}
	if len(cfg.Customers) > 0 && (total <= 0 || math.IsInf(total, 0) || math.IsNaN(total)) {
		return cfg, errors.New("workload: a customer needs a weight above 0")
	}
	return cfg, nil
}

// Next makes the next event into e, which it resets first. The event is the
// caller's to keep.
func (g *Generator) Next(e *audit.Event) {
	*e = audit.Event{}
	r := g.base
	c := &g.customers[pick(g.share, r.Float64())]
	u := &c.users[pick(c.share, r.Float64())]
	m := g.module()
	e.CreatedDate = g.when()
	g.made++

	id := newUUID(r)
	e.AuditEnabledAppID = uint32(m + 1)
	e.ApplicationName = applications[m%len(applications)]
	e.ModuleCode, e.ModuleName = modules[m].code, modules[m].name
	e.UserName, e.UserRole, e.UserUUID = u.Name, u.Role, u.UUID
	e.CustomerUUID = c.uuid
	e.Client = u.clients[r.IntN(len(u.clients))]
	e.SourceIP = u.addresses[r.IntN(len(u.addresses))]
	e.Action = g.action(m)
	e.TargetType = targetTypes[(m+r.IntN(targetsPerModule))%len(targetTypes)]
	e.Status = statuses[r.IntN(len(statuses))]
	g.texts(e, id)

	if g.cfg.Full {
		g.later(e, u)
	}
}

// texts fills in the strings that differ from event to event. They are pieces
// of one string, so that an event costs one allocation.
func (g *Generator) texts(e *audit.Event, id [36]byte) {
	b := append(g.text[:0], id[:]...)
	nameAt := len(b)
	b = g.targetName(b, e.TargetType)
	commentAt := len(b)
	b = g.comment(b, e, b[nameAt:commentAt])
	linkAt := len(b)
	b = append(b, "https://portal.example.com/"...)
	b = append(b, e.ApplicationName...)
	b = append(b, "/changes/"...)
	b = append(b, id[:13]...)
	b = append(b, "?tenant="...)
	b = append(b, e.CustomerUUID[:min(8, len(e.CustomerUUID))]...)
	g.text = b

	s := string(b)
	e.ID = s[:nameAt]
	e.TargetName = s[nameAt:commentAt]
	e.AuditComment = s[commentAt:linkAt]
	e.ExternalChangeLink = s[linkAt:]
}

// module picks one: the first ones are busier.
func (g *Generator) module() int {
	m := int(math.Abs(g.base.NormFloat64()) * 6)
	if m >= len(modules) {
		m = g.base.IntN(len(modules))
	}
	return m
}

// action picks one: each module has its own busiest.
func (g *Generator) action(module int) string {
	a := int(g.base.ExpFloat64() * 3.2)
	if a >= len(actions) {
		a = g.base.IntN(len(actions))
	}
	return actions[(a+module)%len(actions)]
}

// pick finds the place of x, 0 to 1, in cumulative shares.
func pick(share []float64, x float64) int {
	return min(sort.SearchFloat64s(share, x), len(share)-1)
}

// newUUID makes a version 4 UUID.
func newUUID(r *rand.Rand) [36]byte {
	var b [16]byte
	low, high := r.Uint64(), r.Uint64()
	for i := range 8 {
		b[i] = byte(low >> (8 * i))
		b[8+i] = byte(high >> (8 * i))
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var id [36]byte
	hex.Encode(id[0:8], b[0:4])
	id[8] = '-'
	hex.Encode(id[9:13], b[4:6])
	id[13] = '-'
	hex.Encode(id[14:18], b[6:8])
	id[18] = '-'
	hex.Encode(id[19:23], b[8:10])
	id[23] = '-'
	hex.Encode(id[24:36], b[10:16])
	return id
}
