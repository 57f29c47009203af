package workload

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// userSkew is the Zipf exponent of the users inside a customer.
const userSkew = 0.8

type customer struct {
	uuid   string
	weight float64
	users  []user
	share  []float64 // cumulative shares of users
}

// user is a User with what it works from.
type user struct {
	User
	clients   [2]string
	addresses [3]string
}

// makeUp invents customers and users.
func (g *Generator) makeUp(cfg Config) {
	g.share = cumulative(zipf(cfg.Tenants, cfg.Skew))
	before := 0.0
	for _, upTo := range g.share {
		weight := upTo - before
		before = upTo
		users := max(1, int(math.Round(weight*float64(cfg.Users))))
		id := newUUID(g.base)
		c := customer{uuid: string(id[:]), weight: weight, share: cumulative(zipf(users, userSkew))}
		for n := range users {
			c.users = append(c.users, g.newUser(n, users))
		}
		g.customers = append(g.customers, c)
	}
}

// newUser invents user n of a customer with that many users.
func (g *Generator) newUser(n, users int) user {
	r := g.base
	id := newUUID(r)
	u := user{User: User{UUID: string(id[:]), Role: oneOf(r, roles)}}
	u.Name = oneOf(r, firstNames) + " " + oneOf(r, lastNames)
	if users > 1 {
		u.Name += " " + strconv.Itoa(n)
	}
	if g.full.Float64() >= noUnitShare {
		u.BusinessUnit = oneOf(g.full, businessUnits)
	}
	u.settle(r)
	return u
}

// adopt takes the caller's customers and users.
func (g *Generator) adopt(given []Customer) {
	weights := make([]float64, len(given))
	for i, c := range given {
		weights[i] = c.Weight
		own := customer{uuid: c.UUID, weight: c.Weight, share: cumulative(zipf(len(c.Users), userSkew))}
		for _, u := range c.Users {
			settled := user{User: u}
			settled.settle(g.base)
			own.users = append(own.users, settled)
		}
		g.customers = append(g.customers, own)
	}
	g.share = cumulative(weights)
}

// settle gives the user its clients and addresses.
func (u *user) settle(r *rand.Rand) {
	for i := range u.clients {
		u.clients[i] = oneOf(r, clients)
	}
	for i := range u.addresses {
		u.addresses[i] = strconv.Itoa(11+r.IntN(200)) + "." + strconv.Itoa(r.IntN(256)) + "." +
			strconv.Itoa(r.IntN(256)) + "." + strconv.Itoa(1+r.IntN(254))
	}
}

// Customers are those of the events, the given or the made-up ones, in the
// order given or by size.
func (g *Generator) Customers() []Customer {
	out := make([]Customer, len(g.customers))
	for i, c := range g.customers {
		out[i] = Customer{UUID: c.uuid, Weight: c.weight, Users: make([]User, len(c.users))}
		for j, u := range c.users {
			out[i].Users[j] = u.User
		}
	}
	return out
}

// zipf gives n weights, 1/(i+1)^s.
func zipf(n int, s float64) []float64 {
	w := make([]float64, n)
	for i := range w {
		w[i] = 1 / math.Pow(float64(i+1), s)
	}
	return w
}

// cumulative turns weights into cumulative shares, up to 1.
func cumulative(weights []float64) []float64 {
	share := make([]float64, len(weights))
	total := 0.0
	for i, w := range weights {
		total += w
		share[i] = total
	}
	for i := range share {
		share[i] /= total
	}
	return share
}

func oneOf(r *rand.Rand, words []string) string { return words[r.IntN(len(words))] }
